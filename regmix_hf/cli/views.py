"""What a person sees of each stage: small tables read from the study's files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from regmix_hf.cli.console import Format, Table
from regmix_hf.files import read_parquet, read_record
from regmix_hf.plan import Plan
from regmix_hf.study import Study
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.tables import MIXTURE, MIXTURES, QUALITY, RESULTS, by_domain


def stage_tables(study: Study, verb: str, format: Format) -> list[Table]:
    """The tables that a stage ends with; none for a stage whose result is a text of its own."""
    view = _VIEWS.get(verb)
    return view(study, format) if view else []


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a table as mappings of column to plain Python value."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _prepare(study: Study, format: Format) -> list[Table]:
    facts = CorpusFacts.load(study.corpus)
    prior = facts.prior(study.recipe)
    rows = [
        {
            "domain": name,
            "documents": domain.train.num_documents if domain.train else None,
            "bytes": domain.train.num_bytes if domain.train else None,
            "tokens": domain.train.num_tokens if domain.train else None,
            "prior": prior.get(name),
            "validation tokens": domain.validation.num_tokens,
        }
        for name, domain in facts.domains.items()
    ]
    return [Table("corpus", rows, {"prior": ".3f", "documents": "d"})]


def _sample(study: Study, format: Format) -> list[Table]:
    frame = read_parquet(study.mixtures, MIXTURES)
    weights = by_domain(frame, "weight")
    prior = CorpusFacts.load(study.corpus).prior(study.recipe)
    rows = [
        {
            "domain": name,
            "prior": prior[str(name)],
            "lowest": weights[name].min(),
            "mean": weights[name].mean(),
            "highest": weights[name].max(),
            "mixtures without": int((weights[name] == 0).sum()),
        }
        for name in weights
    ]
    counts = ", ".join(f"{count} {split}" for split, count in frame["split"].value_counts().items())
    return [Table(f"weights of {len(frame)} mixtures ({counts})", rows, _WEIGHTS)]


_WEIGHTS = dict.fromkeys(("prior", "lowest", "mean", "highest"), ".3f")


def _proxies(study: Study, format: Format) -> list[Table]:
    frame = read_parquet(study.proxies / "results.parquet", RESULTS)
    counts = frame.groupby("status").agg(runs=("run_id", "size"), tokens=("num_train_tokens", "sum"))
    done = frame[frame["status"] == "ok"]
    losses = by_domain(done, "loss")
    spread = [
        {
            "domain": name,
            "lowest": losses[name].min(),
            "mean": losses[name].mean(),
            "highest": losses[name].max(),
        }
        for name in losses
    ]
    return [
        Table("proxy runs", records(counts.reset_index())),
        Table("loss over proxies (nats per token)", spread, _LOSSES),
    ]


_LOSSES = dict.fromkeys(("lowest", "mean", "highest"), ".4f")


def _train(study: Study, format: Format) -> list[Table]:
    frame = read_parquet(study.models / "results.parquet", RESULTS)
    losses = by_domain(frame, "loss")
    columns = {"mixture": frame["mixture_id"], "seed": frame["seed"], "status": frame["status"]}
    table = pd.DataFrame({**columns, "mean": losses.mean(axis=1), **losses})
    formats = {"seed": "d", "mean": ".4f", **dict.fromkeys(map(str, losses), ".4f")}
    return [Table("final models: loss (nats per token)", records(table), formats)]


def quality_tables(quality: pd.DataFrame, target: str, format: Format) -> list[Table]:
    """How well every estimator predicts runs it never saw; for a machine the whole tidy table."""
    from regmix_hf.regression.fitting import table_for_people

    if format is Format.JSON:
        return [Table("held-out quality", records(quality.astype(object).where(quality.notna(), None)))]
    groups = table_for_people(quality, target).groupby(["test", "target"], sort=False)
    return [
        Table(
            f"{test}: {name} (with bootstrap 95 % intervals)", records(rows.drop(columns=["test", "target"]))
        )
        for (test, name), rows in groups
    ]


def _fit(study: Study, format: Format) -> list[Table]:
    quality = read_parquet(study.regression / "quality.parquet", QUALITY)
    return quality_tables(
        quality, read_record(study.regression / "summary.json", target=str)["target"], format
    )


def chosen_tables(file: Path) -> list[Table]:
    """The chosen mixture beside the prior, and what each loss gains or loses by it."""
    frame = read_parquet(file, MIXTURE).sort_values(["weight", "prior"], ascending=False, kind="stable")
    weights = frame[["domain", "prior", "weight", "epochs"]].dropna(axis="columns", how="all")
    losses = frame[["domain", "prior_loss", "loss", "loss_lower", "loss_upper", "change"]].dropna()
    return [
        Table("chosen mixture (share of training tokens)", records(weights), _SHARES),
        Table("predicted losses (nats per token, 90 % interval)", records(losses), _PREDICTED),
    ]


_SHARES = {"prior": ".3f", "weight": ".3f", "epochs": ".2f"}
_PREDICTED = {**dict.fromkeys(("prior_loss", "loss", "loss_lower", "loss_upper"), ".4f"), "change": "+.4f"}


def _choose(study: Study, format: Format) -> list[Table]:
    return chosen_tables(study.mixture.parent / "mixture.parquet")


def summary_tables(study: Study) -> list[Table]:
    """The answer of a whole study: mixture, predictions, their quality, and how the final models did."""
    from regmix_hf.cards.facts import StudyFacts
    from regmix_hf.cards.summary import summarise

    summary = summarise(StudyFacts.read(study))
    final = [
        {
            "mixture": row["mixture"],
            "loss": row["loss"].mean,
            "seeds": row["loss"].num_seeds,
            "+-": row["loss"].deviation,
        }
        for row in summary.final
    ]
    against = [
        {
            "mixture": comparison.baseline,
            "gain": comparison.gain,
            "lower": None if comparison.half_width is None else comparison.gain - comparison.half_width,
            "upper": None if comparison.half_width is None else comparison.gain + comparison.half_width,
            "the chosen one is": str(comparison.verdict),
        }
        for comparison in summary.comparisons
    ]
    gains = dict.fromkeys(("gain", "lower", "upper"), "+.4f")
    shares = {"prior": ".3f", "chosen": ".3f", "change": "+.3f", "epochs": ".2f"}
    losses = dict.fromkeys(("loss", "lower", "upper", "+-"), ".4f")
    correlations = dict.fromkeys(("spearman", "lower", "upper"), ".3f")
    return [
        Table("chosen mixture (share of training tokens)", summary.mixture, shares),
        Table(f"predicted loss: {summary.target} (nats per token, 90 % interval)", summary.predicted, losses),
        Table("held-out quality of the regression", summary.held_out, correlations),
        Table(f"final models: {summary.target} (nats per token)", final, losses),
        Table("chosen against the others (nats per token, 95 % interval from the seeds)", against, gains),
    ]


_VIEWS: dict[str, Callable[[Study, Format], list[Table]]] = {
    "prepare": _prepare,
    "sample": _sample,
    "fit": _fit,
    "choose": _choose,
    "proxies": _proxies,
    "train": _train,
}


def plan_tables(plan: Plan) -> list[Table]:
    """What a study would take, stage by stage."""
    rows = [
        {
            "stage": stage.verb,
            "state": str(stage.state),
            "runs": stage.runs,
            "tokens": stage.tokens,
            "FLOPs": stage.flops,
            "seconds": stage.seconds,
            "disk (bytes)": stage.disk_bytes,
        }
        for stage in plan.stages
    ]
    return [Table("plan", rows, {"runs": "d", "FLOPs": ".1e", "seconds": ".0f"})]
