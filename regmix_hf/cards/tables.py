"""Rows of the tables that a report shows and the command line prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from regmix_hf.quantities import BPB

#: Of tasks that score the same text in several ways, the one that is shown.
_SHOWN_METRIC = {"held_out_text": "bits_per_byte", "validation": "bits_per_byte"}
#: Metrics that say how many questions were answered right; a task counts by the first that it has.
_ACCURACIES = ("acc_norm", "acc")


@dataclass(frozen=True)
class Spread:
    """A number measured on several seeds.

    Attributes:
        mean: Over seeds.
        deviation: Standard deviation over seeds; `None` for a single one.
        num_seeds: How many.
        stderr: Standard error over the documents it was measured on, which all seeds share, where known.
    """

    mean: float
    deviation: float | None
    num_seeds: int
    stderr: float | None = None

    @classmethod
    def of(cls, values: object) -> Spread:
        """Summarise the values of all seeds."""
        array = np.asarray(values, dtype=float)
        deviation = float(array.std(ddof=1)) if len(array) > 1 else None
        return cls(float(array.mean()), deviation, len(array))

    def __format__(self, spec: str) -> str:
        """Format the mean, the deviation after a plus-minus sign, and the standard error in brackets."""
        deviation = "" if self.deviation is None else f" \N{PLUS-MINUS SIGN} {self.deviation:{spec}}"
        stderr = "" if self.stderr is None else f" ({self.stderr:{spec}})"
        return f"{self.mean:{spec}}{deviation}{stderr}"


@dataclass(frozen=True)
class ScoreRow:
    """One metric of one task on one domain, for every mixture.

    Attributes:
        task: Its name.
        domain: Whose text was scored, or `None`.
        metric: Its name in lm-eval.
        examples: Numbers of solved examples over which the values are averaged.
        values: Mixture -> value.
        best: The mixture with the best mean, or `None` when the task does not say which way is up.
    """

    task: str
    domain: str | None
    metric: str
    examples: tuple[int, ...]
    values: Mapping[str, Spread]
    best: str | None

    @property
    def target(self) -> str:
        """What a target of proxies that measures the same is called."""
        of = self.domain or self.task
        if self.metric == "loss" and self.domain:
            return self.domain
        return f"{BPB}{of}" if self.metric == "bits_per_byte" else f"{of}/{self.metric}"


def score_rows(scores: pd.DataFrame, tasks: Sequence[str]) -> list[ScoreRow]:
    """Make one row of all models' values of each metric that is shown, and one of their average over tasks.

    Several numbers of solved examples are averaged first, seed by seed, as RegMix reports its tasks.

    Args:
        scores: The table of stage 7.
        tasks: `evaluation.tasks` of the recipe. Where two or more of them have an accuracy, the last row is
            its mean over them, each counted by its normalised accuracy if it has one.
    """
    shown = scores[scores["task"].map(_SHOWN_METRIC).fillna(scores["metric"]) == scores["metric"]]
    groups = shown.fillna({"domain": ""}).groupby(["task", "domain", "metric"], sort=False)
    rows = [
        _score_row(str(task), str(domain) or None, str(metric), part)
        for (task, domain, metric), part in groups
        if part["value"].notna().any()
    ]
    return [*rows, *_average(shown[shown["task"].isin(tasks)])]


def _average(scores: pd.DataFrame) -> list[ScoreRow]:
    """One row, or none where fewer than two tasks have an accuracy."""
    rank = {metric: place for place, metric in enumerate(_ACCURACIES)}
    accuracies = scores[scores["metric"].isin(rank) & scores["value"].notna()]
    places = accuracies["metric"].map(rank)
    counted = accuracies[places == places.groupby(accuracies["task"]).transform("min")]
    num_tasks = counted["task"].nunique()
    by_task = counted.groupby(["mixture_id", "model", "task"], sort=False, as_index=False).agg(
        value=("value", "mean")
    )
    by_model = by_task.groupby(["mixture_id", "model"], sort=False, as_index=False).agg(
        value=("value", "mean"), num_tasks=("task", "size")
    )
    whole = by_model[by_model["num_tasks"] == num_tasks]  # of the others a task is missing
    if num_tasks < 2 or whole.empty:
        return []
    row = _score_row(
        f"average of {num_tasks} tasks", None, "accuracy", whole.assign(higher_is_better=True, num_fewshot=0)
    )
    return [replace(row, examples=tuple(sorted({int(count) for count in counted["num_fewshot"]})))]


def _score_row(task: str, domain: str | None, metric: str, part: pd.DataFrame) -> ScoreRow:
    by_model = part.groupby(["mixture_id", "model"], sort=False)["value"].mean()
    errors = part.get("stderr", pd.Series(np.nan, index=part.index)).astype(float).pow(2)
    squares = errors.groupby(part["mixture_id"]).mean()  # NaN where nobody knows
    values = {
        str(mixture): replace(Spread.of(value.dropna()), stderr=_root(squares[mixture]))
        for mixture, value in by_model.groupby(level="mixture_id", sort=False)
        if value.notna().any()
    }
    upwards = part["higher_is_better"].iloc[0]
    best = None
    if len(values) > 1 and not pd.isna(upwards):
        best = (max if upwards else min)(values, key=lambda name: values[name].mean)
    return ScoreRow(
        task=task,
        domain=domain,
        metric=metric,
        examples=tuple(sorted({int(count) for count in part["num_fewshot"]})),
        values=values,
        best=best,
    )


def _root(square: float) -> float | None:
    return None if np.isnan(square) else float(np.sqrt(square))
