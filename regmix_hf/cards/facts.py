"""What is known of a study or of a fit on tables, from files alone; `None`: it is not there, or not yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

import pandas as pd

from regmix_hf.cards.asked import Asked
from regmix_hf.cards.choice_facts import ChoiceFacts
from regmix_hf.cards.swarm import SwarmFacts
from regmix_hf.files import damaged, read_parquet, read_record
from regmix_hf.mixtures.table import completed, without_copies
from regmix_hf.quantities import measured
from regmix_hf.readable import count_of
from regmix_hf.recipe import Recipe
from regmix_hf.regression.agreement import Agreement
from regmix_hf.regression.asked_target import fitted_target, target_of
from regmix_hf.regression.assessment import NOTHING, Promise, speaks_of
from regmix_hf.regression.carrying import Carry
from regmix_hf.regression.target import Target
from regmix_hf.regression.verdict import Verdict
from regmix_hf.study import Study, names
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.study.promises import Promises
from regmix_hf.study.table_fit import TableFit
from regmix_hf.tables import (
    FITTED_RUNS,
    LEARNING_CURVE,
    MIXTURES,
    PREDICTIONS,
    QUALITY,
    RESULTS,
    SCORES,
    TRAJECTORIES,
    Columns,
    by_domain,
)

_Said = TypeVar("_Said")


@dataclass(frozen=True, eq=False)
class RegressionFacts:
    """How well the losses are predicted.

    Attributes:
        quality: The table `quality`, rows of the target alone, best first in each test.
        predictions: The table `predictions`, rows of the target and of the runs it was judged on.
        learning_curve: The table `learning_curve`.
        summary: `summary.json`: `target`, `estimator`, `judged_on`, `reason`, `outlook`, `num_runs`, ...
        verdict: Whether it knows enough to choose by; `None` in a fit of version 0.1.
        promises: Family -> what it promised of the run it predicted best out of fold, and what that measured;
            empty in a fit of version 0.1.
        carries: How far runs lie apart on every target.
        agreement: How alike runs of several sizes rank mixtures, by target.
    """

    quality: pd.DataFrame
    predictions: pd.DataFrame
    learning_curve: pd.DataFrame
    summary: Mapping[str, Any]
    verdict: Verdict | None
    promises: Mapping[str, Promise]
    carries: tuple[Carry, ...] = ()
    agreement: tuple[Agreement, ...] = ()

    @property
    def speaks_of(self) -> str:
        """Of what runs predicted losses and their intervals are, in words."""
        return speaks_of(self.summary)

    def fitted_on(self, estimator: str) -> str:
        """How many runs and experts a family was fitted on, in words; version 0.1 had runs alone."""
        told = self.summary.get("fitted_on")
        known = told.get(estimator) if isinstance(told, dict) else None
        return str(known or count_of(self.summary["num_runs"]["fit"], "run"))

    @property
    def judged(self) -> pd.DataFrame:
        """Quality on the runs that decide which estimator is used, by estimator, best first."""
        return self.quality[self.quality["test"] == self.summary["judged_on"]].set_index("estimator")


@dataclass(frozen=True, eq=False)
class FinalFacts:
    """The final models.

    Attributes:
        results: The table `results` of the final runs, in the recipe's order of mixtures.
        trajectories: Their table `trajectories`.
        target: What was to be made small.
    """

    results: pd.DataFrame
    trajectories: pd.DataFrame
    target: Target

    @cached_property
    def losses(self) -> dict[str, list[float]]:
        """Mixture -> the target after training, one value per seed that ended well and was measured on it."""
        usable = self.results[self.results["status"] == "ok"]
        if not self.target.is_in(measured(usable)):
            return {}
        values = self.target.combine(measured(usable)).dropna()  # those of before a target came have none
        names = usable.loc[values.index, "mixture_id"]
        return {str(name): [float(v) for v in part] for name, part in values.groupby(names, sort=False)}

    @cached_property
    def runs(self) -> dict[str, list[str]]:
        """Mixture -> its runs that ended well. Two mixtures of equal weights have the same."""
        usable = self.results[self.results["status"] == "ok"]
        return {str(name): list(part) for name, part in usable.groupby("mixture_id", sort=False)["run_id"]}

    @cached_property
    def curves(self) -> pd.DataFrame:
        """`mixture`, `seed`, `num_tokens` and the target's `loss` while the models trained."""
        runs = self.results[["run_id", "mixture_id", "seed"]]
        # Two mixtures of equal weights are one run, with one trajectory for both.
        points = runs.merge(self.trajectories.drop_duplicates(["run_id", "step"]), on="run_id")
        columns = {"mixture_id": "mixture", "seed": "seed", "num_tokens": "num_tokens", "loss": "loss"}
        if not self.target.is_in(measured(points)):
            return pd.DataFrame(columns=list(columns.values()))
        points["loss"] = self.target.combine(measured(points))
        return points[list(columns)].rename(columns=columns).dropna()

    @cached_property
    def since_start(self) -> pd.DataFrame:
        """By how much training changed each domain's loss (nats per token): domains x mixtures.

        Means over seeds; empty where models did not start from one that was measured before the first step.
        """
        runs = self.results.loc[self.results["status"] == "ok", ["run_id", "mixture_id"]].drop_duplicates()
        points = runs.merge(self.trajectories.drop_duplicates(["run_id", "step"]), on="run_id")
        points = points.sort_values("step").set_index(["mixture_id", "run_id"])
        start = points[points["step"] == 0]
        end = points.groupby(level=[0, 1]).last().loc[start.index]
        change = (by_domain(end, "loss") - by_domain(start, "loss")).groupby(level=0).mean()
        return change.reindex([name for name in runs["mixture_id"].unique() if name in change.index]).T

    def change(self, mixture: str, baseline: str) -> pd.Series[float] | None:
        """Mean of each target under `mixture` minus under `baseline`; `None` when one was not trained."""
        usable = self.results[self.results["status"] == "ok"]
        means = measured(usable).groupby(usable["mixture_id"]).mean()
        if not {mixture, baseline} <= set(means.index):
            return None
        return means.T[mixture] - means.T[baseline]


@dataclass(frozen=True, eq=False)
class StudyFacts:
    """All that a report says; `None` for what is not there, or not yet."""

    asked: Asked
    #: `None`: it is a fit on tables.
    recipe: Recipe | None
    target: Target
    corpus: CorpusFacts | None = None
    swarm: SwarmFacts | None = None
    regression: RegressionFacts | None = None
    choice: ChoiceFacts | None = None
    final: FinalFacts | None = None
    #: The table of stage 7.
    scores: pd.DataFrame | None = None
    promises: Promises | None = None

    @property
    def verdict(self) -> Verdict | None:
        """Whether the regression knows enough to choose by, as the choice was told, or else the next one."""
        known = [part.verdict for part in (self.choice, self.regression) if part is not None]
        return next((verdict for verdict in known if verdict is not None), None)

    @property
    def chosen_for_another(self) -> str | None:
        """The target that the mixture was chosen for, where by now another is asked for."""
        chosen_for = self.choice.record.get("target") if self.choice else None
        return None if chosen_for in (None, str(self.target)) else str(chosen_for)

    @property
    def available_tokens(self) -> Mapping[str, float] | None:
        """Tokens that there are of each domain, as counted, or as said beside tables."""
        if self.recipe is not None and self.corpus is not None:
            return self.corpus.available_tokens(self.recipe)
        return self.asked.available

    @property
    def final_mixtures(self) -> list[str]:
        """Names of the mixtures that final models were trained on."""
        return [] if self.final is None else [str(name) for name in self.final.results["mixture_id"].unique()]

    @classmethod
    def read(cls, study: Study) -> Self:
        """Read what is there."""
        recipe = study.recipe
        target = target_of(study)
        promises = study.evaluation / names.PROMISES
        has_corpus = (study.corpus / names.CORPUS_FACTS).exists()
        return cls(
            asked=Asked.of_recipe(recipe),
            recipe=recipe,
            target=target,
            corpus=CorpusFacts.load(study.corpus) if has_corpus else None,
            swarm=_read_swarm(study, target),
            regression=_read_regression(study.regression),
            choice=ChoiceFacts.read(study.mixture),
            final=_read_final(study, target),
            scores=_table(study.evaluation / names.RESULTS, SCORES),
            promises=Promises.load(promises) if promises.exists() else None,
        )

    @classmethod
    def of_fit(cls, fit: TableFit) -> Self:
        """Read what a fit on tables left, and the choice from it, if there is one."""
        regression = _read_regression(fit.regression)
        assert regression is not None, "that is how its folder is known"
        asked = Asked.of_fit(fit, regression.summary)
        target = fitted_target(asked.target, regression.summary, fit.regression / names.FIT_SUMMARY)
        runs = read_parquet(fit.regression / names.FITTED_RUNS, FITTED_RUNS)
        return cls(
            asked=asked,
            recipe=None,
            target=target,
            swarm=SwarmFacts(runs.assign(status="ok"), len(runs), target.quantities),
            regression=regression,
            choice=ChoiceFacts.read(fit.mixture),
        )


def _read_swarm(study: Study, target: Target) -> SwarmFacts | None:
    results, mixtures = _table(study.proxies / names.RESULTS, RESULTS), _table(study.mixtures, MIXTURES)
    if results is None or mixtures is None:
        return None
    rungs = list(study.recipe.rungs.values())
    table = completed(mixtures)
    rows = without_copies(table)["rung"]
    planned = sum(rung.num_seeds * int((rows == number).sum()) for number, rung in enumerate(rungs))
    origins = dict(zip(table["mixture_id"], table["origin"], strict=True))
    return SwarmFacts(results, planned, target.quantities, origins)


def _read_regression(folder: Path) -> RegressionFacts | None:
    file = folder / names.FIT_SUMMARY
    if not file.exists():
        return None
    summary = read_record(file, target=str, estimator=str, judged_on=str, reason=str)
    quality = read_parquet(folder / names.QUALITY, QUALITY)
    predictions = read_parquet(folder / names.PREDICTIONS, PREDICTIONS)
    quality = quality[(quality["target"] == summary["target"]) & (quality["kind"] != "average")]
    wanted = (predictions["target"] == summary["target"]) & (predictions["test"] == summary["judged_on"])
    parts = [
        part.sort_values("spearman", ascending=False, kind="stable")
        for _, part in quality.groupby("test", sort=False)
    ]
    if not parts and summary["judged_on"] != NOTHING:
        what = f"has no row of the target {summary['target']!r}"
        raise damaged(folder / names.QUALITY, what)
    return RegressionFacts(
        quality=pd.concat(parts, ignore_index=True) if parts else quality,
        predictions=predictions[wanted].reset_index(drop=True),
        learning_curve=read_parquet(folder / names.LEARNING_CURVE, LEARNING_CURVE),
        summary=summary,
        verdict=Verdict.said_in(summary, file),
        promises=_said(file, "promises", lambda: _promises(summary)),
        carries=_said(file, "targets", lambda: tuple(map(Carry.from_plain, summary.get("carries", ())))),
        agreement=_said(file, "an agreement of sizes", lambda: tuple(Agreement.said_in(summary))),
    )


def _said(file: Path, what: str, read: Callable[[], _Said]) -> _Said:
    """Read a part of a summary.

    Raises:
        StudyError: It is damaged.
    """
    try:
        return read()
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise damaged(file, f"holds {what} that cannot be read") from error


def _promises(summary: Mapping[str, Any]) -> dict[str, Promise]:
    found = summary.get("promises", {}).items()
    return {str(name): Promise.from_plain(plain) for name, plain in found if plain is not None}


def _read_final(study: Study, target: Target) -> FinalFacts | None:
    results = _table(study.models / names.RESULTS, RESULTS)
    trajectories = _table(study.models / names.TRAJECTORIES, TRAJECTORIES)
    if results is None or trajectories is None:
        return None
    return FinalFacts(results, trajectories, target)


def _table(path: Path, columns: Columns) -> pd.DataFrame | None:
    return read_parquet(path, columns) if path.exists() else None
