"""What a study found in a few small tables: for the end of `regmix run` and the top of the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from regmix_hf.cards.comparison import Comparison, compare
from regmix_hf.cards.facts import StudyFacts
from regmix_hf.cards.tables import ScoreRow, Spread, score_rows
from regmix_hf.mixtures.final import outside_bounds
from regmix_hf.quantities import Quantity
from regmix_hf.recipe.schema import CHOSEN
from regmix_hf.tables import by_domain, records


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
        outside: Those of the others that the recipe's bounds would not have let be chosen.
        unmeasured: Those whose models have no value of the target, where others have.
    """

    target: str
    quantity: Quantity
    mixture: list[dict[str, Any]] = field(default_factory=list)
    predicted: list[dict[str, Any]] = field(default_factory=list)
    held_out: list[dict[str, Any]] = field(default_factory=list)
    final: list[dict[str, Any]] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    unmeasured: list[str] = field(default_factory=list)


def scores_of(facts: StudyFacts) -> list[ScoreRow]:
    """The rows of the table of scores; none where nothing was evaluated."""
    if facts.scores is None or facts.recipe is None:
        return []
    return score_rows(facts.scores, facts.recipe.evaluation.tasks)


def summarise(facts: StudyFacts) -> Summary:
    """Take from the facts what belongs into the answer."""
    predicted = facts.choice.predicted.items() if facts.choice else ()
    held_out: list[dict[str, Any]] = []
    if facts.regression:
        judged = facts.regression.judged[["spearman", "spearman_low", "spearman_high", "num_runs"]]
        judged = judged.set_axis(["spearman", "lower", "upper", "runs"], axis=1).astype({"runs": int})
        held_out = records(judged.reset_index(names="estimator"))
    losses, runs = (facts.final.losses, facts.final.runs) if facts.final else ({}, {})
    return Summary(
        target=str(facts.target),
        quantity=facts.target.quantity,
        mixture=facts.choice.rows if facts.choice else [],
        predicted=[{"mixture": name, **values} for name, values in predicted],
        held_out=held_out,
        final=[{"mixture": name, "loss": Spread.of(values)} for name, values in losses.items()],
        comparisons=compare(losses, target=facts.target.quantity, runs=runs),
        outside=_outside(facts),
        unmeasured=[name for name in runs if name not in losses],
    )


def _outside(facts: StudyFacts) -> list[str]:
    if facts.final is None or facts.recipe is None or facts.corpus is None:
        return []
    domains = facts.recipe.training_domains
    weights = by_domain(facts.final.results.drop_duplicates("mixture_id").set_index("mixture_id"), "weight")
    if {*weights} != {*domains}:  # the recipe has other domains by now
        return []
    rows = weights[list(domains)].drop(CHOSEN, errors="ignore")
    others = {str(name): dict(zip(domains, row.tolist(), strict=True)) for name, row in rows.T.items()}
    return outside_bounds(facts.recipe, others, facts.corpus.available_tokens(facts.recipe))
