"""What a person sees of each stage: small tables read from the study's files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from regmix_hf.cards.choice_facts import ChoiceFacts
from regmix_hf.cards.tables import score_rows
from regmix_hf.choice import COVERAGE
from regmix_hf.cli import tables as kinds
from regmix_hf.cli.console import Format
from regmix_hf.cli.proxy_tables import proxy_tables
from regmix_hf.cli.tables import Table
from regmix_hf.files import read_parquet, read_record
from regmix_hf.mixtures.group_shares import GroupShare
from regmix_hf.mixtures.table import EXPERT
from regmix_hf.plan import Plan
from regmix_hf.quantities import Quantity, by_kind
from regmix_hf.readable import count_of, with_interval
from regmix_hf.regression.agreement import Agreement, by_pair
from regmix_hf.regression.asked_target import fitted_target
from regmix_hf.regression.assessment import table_for_people
from regmix_hf.study import Study, names
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.study.promises import Promise, Promises
from regmix_hf.study.rounds import Round, Tried
from regmix_hf.tables import MIXTURES, QUALITY, RESULTS, by_domain, records


def stage_tables(study: Study, verb: str, format: Format) -> list[Table]:
    """The tables that a stage ends with; none for a stage whose result is a text of its own."""
    view = _VIEWS.get(verb)
    return view(study, format) if view else []


def _prepare(study: Study, format: Format) -> list[Table]:
    facts = CorpusFacts.load(study.corpus)
    prior = facts.prior(study.recipe)
    rows = [
        {
            "domain": name,
            "files": read.num_files if (read := domain.main_read) else None,
            "rows": read.num_rows if read else None,
            "left_out": sum(read.left_out.values()) if read else None,
            "documents": domain.train.num_documents if domain.train else None,
            "bytes": domain.train.num_bytes if domain.train else None,
            "tokens": domain.train.num_tokens if domain.train else None,
            "prior": prior.get(name),
            "validation_tokens": domain.validation.num_tokens,
        }
        for name, domain in facts.domains.items()
    ]
    return [Table(kinds.CORPUS, rows, "corpus")]


def _sample(study: Study, format: Format) -> list[Table]:
    frame = read_parquet(study.mixtures, MIXTURES)
    drawn = frame[frame["split"] != EXPERT]
    weights = by_domain(drawn if len(drawn) else frame, "weight")
    prior = CorpusFacts.load(study.corpus).prior(study.recipe)
    rows = [
        {
            "domain": name,
            "prior": prior[str(name)],
            "lowest": weights[name].min(),
            "mean": weights[name].mean(),
            "highest": weights[name].max(),
            "mixtures_without": int((weights[name] == 0).sum()),
        }
        for name in weights
    ]
    counts = {str(split): int(count) for split, count in frame["split"].value_counts().items()}
    title = f"weights of {count_of(len(weights), 'mixture')}, {counts.get('holdout', 0)} of them held out"
    return [Table(kinds.WEIGHTS, rows, title, {"mixtures": counts})]


def _train(study: Study, format: Format) -> list[Table]:
    frame = read_parquet(study.models / names.RESULTS, RESULTS)
    losses = by_domain(frame, "loss")
    rows = [
        {
            "mixture": run["mixture_id"],
            "seed": run["seed"],
            "status": run["status"],
            "mean": fmean(values.values()),
            "loss": {str(domain): value for domain, value in values.items()},
        }
        for run, values in zip(frame.to_dict("records"), losses.to_dict("records"), strict=True)
    ]
    return [Table(kinds.FINAL_RUNS, rows, "final models: loss (nats per token)")]


def quality_tables(quality: pd.DataFrame, target: str, kind: Quantity, format: Format) -> list[Table]:
    """How well every estimator predicts runs it never saw; for a machine the whole tidy table.

    Args:
        quality: See `assessment.quality_table`.
        target: Whose rows are shown, beside the average.
        kind: Its unit and direction.
        format: How it is printed.
    """
    if format is Format.JSON:
        return [Table(kinds.QUALITY_OF_ALL, records(quality), "quality on unseen runs")]
    shown = table_for_people(quality, target).rename(columns=lambda column: column.removesuffix(" (%)"))
    return [
        Table(kinds.QUALITY_OF_TARGET, records(rows), f"{test}: {_titled(str(name), kind, rows)}")
        for (test, name), rows in shown.groupby(["test", "target"], sort=False)
    ]


def _titled(target: str, kind: Quantity, rows: pd.DataFrame) -> str:
    """What figures are of: a mean of targets is a target itself, an average of figures is not."""
    said = "bootstrap 95 % intervals"
    if target != "average":
        return kind.noted(target, said)
    of_units = set(rows["mae"]) == {"-"} != set(rows["spearman"])
    units = "; errors are not averaged: targets are in several units" if of_units else ""
    return f"average over the targets, each judged alone ({said}{units})"


def _fit(study: Study, format: Format) -> list[Table]:
    quality = read_parquet(study.regression / names.QUALITY, QUALITY)
    summary = read_record(file := study.regression / names.FIT_SUMMARY, target=str)
    kind = fitted_target(summary.get("target_value", summary["target"]), summary, file).quantity
    shown = quality_tables(quality, summary["target"], kind, format)
    return [*shown, *agreement_tables(summary), *carry_tables(summary)]


def agreement_tables(summary: Mapping[str, Any]) -> list[Table]:
    """How alike runs of several sizes rank mixtures, target by target; none of runs of one size."""
    return [
        Table(
            kinds.SIZE_AGREEMENT,
            [{**one.plain, "says": one.word} for one in pair],
            f"do small models tell? {pair[0].sizes}: rank correlation (95 % interval)",
        )
        for pair in by_pair(Agreement.said_in(summary))
    ]


def carry_tables(summary: Mapping[str, Any]) -> list[Table]:
    """How far mixtures lie apart on each target, in its noise; none where no noise was measured."""
    found = summary.get("carries", [])
    columns = [column.key for column in kinds.CARRIES.columns]
    rows = [{key: one.get(key) for key in columns} for one in found]
    title = "which targets carry (signal: spread over mixtures / noise; spearman: of unseen runs)"
    return [] if all(row["signal"] is None for row in rows) else [Table(kinds.CARRIES, rows, title)]


def chosen_tables(file: Path) -> list[Table]:
    """A chosen mixture beside the prior, what is predicted of its target and of all targets, and its tries.

    What is only validated on is no domain that could have a weight, and stands among the targets alone.
    """
    if (choice := ChoiceFacts.read(file)) is None:
        return []
    targets = choice.table.sort_values(["weight", "prior"], ascending=False, kind="stable").reset_index()
    is_one = choice.record.get("target") in set(targets["domain"])
    return [
        *_mixture_tables(choice),
        *([] if is_one else [_target_table(choice)]),
        *_predicted_tables(targets),
        *tried_tables(choice.rounds),
    ]


def _mixture_tables(choice: ChoiceFacts) -> list[Table]:
    rows = [{**row, "weight": row["chosen"]} for row in choice.rows]
    return [
        Table(kinds.CHOSEN, rows, "chosen mixture (share of training tokens)"),
        *_group_tables(choice.groups),
    ]


def _target_table(choice: ChoiceFacts) -> Table:
    """What is predicted of the target that the mixture was chosen for."""
    target, kind = str(choice.record.get("target")), choice.quantity
    rows = [{"mixture": name, **values, "value": values["loss"]} for name, values in choice.predicted.items()]
    title = kind.noted(f"predicted {kind.noun}: {target}", "90 % interval") + f", of {choice.speaks_of}"
    if all(row["lower"] is None for row in rows):
        title = kind.noted(f"what experts say of {target}", "an order of mixtures, no promise")
    about = {"target": target, "unit": _unit(kind), "direction": kind.direction, "coverage": COVERAGE}
    return Table(kinds.PREDICTED_TARGET, rows, title, {**about, "of": choice.speaks_of})


def _group_tables(groups: Sequence[GroupShare]) -> list[Table]:
    """What domains have that were bounded together; none where no group was."""
    rows = [
        {
            "group": one.name,
            "domains": ", ".join(one.domains),
            "prior": one.prior,
            "weight": one.chosen,
            "min": one.min,
            "max": one.max,
            "held_at": one.held_at,
        }
        for one in groups
    ]
    title = "domains that are bounded together (share of training tokens)"
    return [Table(kinds.GROUPS, rows, title)] if rows else []


def _predicted_tables(mixture: pd.DataFrame) -> list[Table]:
    """What is predicted, those of one unit and direction together."""
    tables = []
    for kind, rows in by_kind(mixture):
        shown = rows[list(_PREDICTED)].rename(columns=_PREDICTED)
        shown = shown.assign(unit=_unit(kind), direction=kind.direction)
        title = "predicted losses" if kind.noun == "loss" else "predicted targets"
        title = kind.noted(title, "90 % interval")
        if rows["loss_lower"].isna().all():
            title = kind.noted("what experts say of each target", "an order of mixtures, no promise")
        tables.append(Table(kinds.PREDICTED, records(shown), title, {"coverage": COVERAGE}))
    return tables


#: Columns of the chosen mixture's table, as `kinds.PREDICTED` calls them.
_PREDICTED = {
    **{"domain": "target", "prior_loss": "prior", "loss": "chosen", "change": "change"},
    **{"loss_lower": "lower", "loss_upper": "upper"},
}


def _unit(quantity: Quantity) -> str | None:
    """The unit of a quantity as machines read it: `nats_per_token`."""
    return quantity.unit.replace(" ", "_") if quantity.unit else None


def _choose(study: Study, format: Format) -> list[Table]:
    return chosen_tables(study.mixture)


def tried_tables(rounds: Sequence[Round]) -> list[Table]:
    """What choices promised beside what further proxies measured; none where none was tried."""
    rows = [
        {
            "round": one.number,
            "tried_at": tried.kind,
            "promised": None if tried.difference is None else tried.promised,
            **_measured(tried),
        }
        for one in rounds
        for tried in one.tried
    ]
    quantity = Quantity("", rounds[-1].unit if rounds else None)
    title = quantity.noted("the choice as proxies tried it: promised minus measured", "90 % interval")
    about = {"unit": _unit(quantity), "coverage": COVERAGE}
    return [Table(kinds.TRIED, rows, title, about)] if rows else []


def _measured(one: Tried | Promise) -> dict[str, Any]:
    """What was measured where something was promised, and how far apart the two are."""
    columns = ("measured", "deviation", "difference", "lower", "upper")
    return {**{column: getattr(one, column) for column in columns}, "seeds": one.num_seeds}


def summary_tables(study: Study) -> list[Table]:
    """The answer of a whole study: mixture, predictions, their quality, and how the final models did."""
    from regmix_hf.cards.facts import StudyFacts
    from regmix_hf.cards.summary import summarise

    facts = StudyFacts.read(study)
    summary = summarise(facts)
    final = [
        {
            "mixture": row["mixture"],
            "value": row["loss"].mean,
            "seeds": row["loss"].num_seeds,
            "deviation": row["loss"].deviation,
        }
        for row in summary.final
    ]
    against = [
        {
            "mixture": comparison.baseline,
            "outcome": str(comparison.outcome),
            "gain": comparison.gain,
            **dict(zip(("lower", "upper"), comparison.interval or (), strict=False)),
        }
        for comparison in summary.comparisons
    ]
    choice, verdict, kind = facts.choice, facts.verdict, summary.quantity
    worth = [{"verdict": verdict.word, "because": "; ".join(verdict.reasons)}] if verdict else []
    judged_on = facts.regression.summary["judged_on"] if facts.regression else ""
    about = {"target": summary.target, "unit": _unit(kind), "direction": kind.direction}
    gain = kind.noted("chosen against the others", "95 % interval from the seeds")
    return [
        Table(kinds.VERDICT, worth, "what the regression is worth"),
        *(tried_tables(choice.rounds) if choice else []),
        *(promise_tables(facts.promises) if facts.promises else []),
        *([*_mixture_tables(choice), _target_table(choice)] if choice else []),
        Table(kinds.HELD_OUT, summary.held_out, f"how well runs are ranked ({judged_on}, 95 % interval)"),
        Table(kinds.FINAL, final, kind.noted(f"final models: {summary.target}"), about),
        Table(kinds.AGAINST, against, gain, about),
    ]


def _evaluate(study: Study, format: Format) -> list[Table]:
    scores = read_parquet(study.evaluation / names.RESULTS)
    file = study.evaluation / names.PROMISES
    return (promise_tables(Promises.load(file)) if file.exists() else []) + [_scores(study, scores, format)]


def promise_tables(promises: Promises) -> list[Table]:
    """Promised beside measured, of models of which size each speaks, and how well they agree."""
    rows = [
        {"mixture": one.mixture, "promised": one.predicted, **_measured(one)} for one in promises.mixtures
    ]
    sizes = [
        {"loss": loss, "parameters": size.scale, "tokens": size.num_train_tokens}
        for loss, size in (("promised", promises.predicted_for), ("measured", promises.measured_on))
    ]
    agreement = [{"metric": name, "value": value} for name, value in promises.scores.items()]
    interval = f"{100 * promises.coverage:.0f} % interval"
    kind = promises.quantity
    title = kind.noted("promised, measured, promised minus measured", interval)
    about = {"target": promises.target, "unit": _unit(kind), "direction": kind.direction}
    told = {**about, "coverage": promises.coverage}
    return [
        Table(kinds.PROMISES, rows, title, told),
        Table(kinds.SIZES, sizes, "models that the losses are of"),
        Table(kinds.AGREEMENT, agreement, "promised against measured over the final mixtures"),
    ]


def _scores(study: Study, scores: pd.DataFrame, format: Format) -> Table:
    """One row per metric with a column per mixture; for a machine the whole tidy table."""
    if format is Format.JSON:
        return Table(kinds.SCORES_OF_ALL, records(scores), "scores")
    shown = score_rows(scores, study.recipe.evaluation.tasks)
    known = _promised(study)
    promised = {row.target: known[row.target] for row in shown if row.target in known}
    names = list(dict.fromkeys(name for row in shown for name in row.values))
    metrics = list(dict.fromkeys(row.metric for row in shown))  # one alone stands in the title
    rows = [
        {
            "task": f"{row.task}: {row.domain}" if row.domain else row.task,
            "metric": row.metric if len(metrics) > 1 else None,
            **({"promised": promised.get(row.target)} if promised else {}),
            "value": {name: f"{row.values[name]:.4f}" if name in row.values else None for name in names},
        }
        for row in shown
    ]
    title = f"scores in {metrics[0]}" if len(metrics) == 1 else "scores"
    title += (
        " (mean over seeds \N{PLUS-MINUS SIGN} their standard deviation, "
        "in brackets the standard error over documents)"
    )
    return Table(kinds.SCORES_OF_MIXTURES, rows, title)


def _promised(study: Study) -> dict[str, str]:
    """Target -> what was predicted of the chosen mixture with the interval, where there is a choice."""
    if (choice := ChoiceFacts.read(study.mixture)) is None:
        return {}
    known = choice.table.dropna(subset=["loss", "loss_lower"])  # without an interval it is no promise
    rows = zip(known.index, known["loss"], known["loss_lower"], known["loss_upper"], strict=True)
    return {str(name): with_interval(loss, low, high, 4) for name, loss, low, high in rows}


_VIEWS: dict[str, Callable[[Study, Format], list[Table]]] = {
    "prepare": _prepare,
    "sample": _sample,
    "fit": _fit,
    "choose": _choose,
    "proxies": proxy_tables,
    "train": _train,
    "evaluate": _evaluate,
}


def plan_tables(plan: Plan) -> list[Table]:
    """What a study would take, stage by stage."""
    rows = [
        {
            "stage": stage.verb,
            "rung": stage.rung,
            "state": str(stage.state),
            **{column: getattr(stage, column) for column in _PLANNED},
        }
        for stage in plan.stages
    ]
    total = {"stage": "total", "state": "", **{column: plan.total(column) for column in _PLANNED}}
    return [Table(kinds.PLAN, [*rows, total], "plan")]


#: Columns of the plan, of what is left: attributes of `StagePlan`.
_PLANNED = ("runs", "left", "tokens", "flops", "seconds", "gpu_hours", "disk_bytes", "download_bytes")
