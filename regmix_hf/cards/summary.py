"""What a study found in a few small tables: for the end of `regmix run` and the top of the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from regmix_hf.cards.comparison import Comparison, compare
from regmix_hf.cards.facts import StudyFacts
from regmix_hf.cards.tables import ScoreRow, Spread, score_rows
from regmix_hf.quantities import Quantity


@dataclass(frozen=True)
class Summary:
    """The answer, and how far it can be trusted. Parts of stages that have not run are empty.

    Attributes:
        target: What was made good, in words.
        quantity: Its unit and direction.
        mixture: `domain`, `prior`, `chosen`, `change` (shares of training tokens), `epochs` of the final run;
            largest chosen share first.
        predicted: `mixture`, `loss`, `lower`, `upper`: the target under `chosen` and `prior` (in its unit,
            interval of `ChoiceFacts.coverage`).
        held_out: `estimator`, `spearman`, `lower`, `upper`, `runs`: rank correlation on unseen runs.
        final: `mixture`, `loss`: a `Spread` over seeds of the final models' target, in its unit.
        comparisons: The chosen mixture against each other one.
    """

    target: str
    quantity: Quantity
    mixture: list[dict[str, Any]] = field(default_factory=list)
    predicted: list[dict[str, Any]] = field(default_factory=list)
    held_out: list[dict[str, Any]] = field(default_factory=list)
    final: list[dict[str, Any]] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)


def scores_of(facts: StudyFacts) -> list[ScoreRow]:
    """The rows of the table of scores; none where nothing was evaluated."""
    if facts.scores is None or facts.recipe is None:
        return []
    return score_rows(facts.scores, facts.recipe.evaluation.tasks)


def summarise(facts: StudyFacts) -> Summary:
    """Take from the facts what belongs into the answer."""
    predicted = facts.choice.predicted.items() if facts.choice else ()
    held_out = []
    if facts.regression:
        held_out = [
            {
                "estimator": name,
                "spearman": row["spearman"],
                "lower": row["spearman_low"],
                "upper": row["spearman_high"],
                "runs": int(row["num_runs"]),
            }
            for name, row in facts.regression.judged.iterrows()
        ]
    losses = facts.final.losses if facts.final else {}
    return Summary(
        target=str(facts.target),
        quantity=facts.target.quantity,
        mixture=facts.choice.rows if facts.choice else [],
        predicted=[{"mixture": name, **values} for name, values in predicted],
        held_out=held_out,
        final=[{"mixture": name, "loss": Spread.of(values)} for name, values in losses.items()],
        comparisons=compare(
            losses, target=facts.target.quantity, runs=facts.final.runs if facts.final else None
        ),
    )
