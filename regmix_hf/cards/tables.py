"""Rows of the tables that a report shows and the command line prints."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from regmix_hf.quantities import BPB

#: Of tasks that score the same text in several ways, the one that is shown.
_SHOWN_METRIC = {"held_out_text": "bits_per_byte", "validation": "bits_per_byte"}
#: Metrics that say how many questions were answered right; a task counts by the first that it has.
_ACCURACIES = ("acc_norm", "acc")

_Key = TypeVar("_Key", bound=Hashable)


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


class _Score(NamedTuple):
    """A row of the table of scores."""

    task: str
    domain: str | None
    metric: str
    mixture: str
    model: str
    value: float
    stderr: float
    num_fewshot: float
    upwards: bool | None


def score_rows(scores: pd.DataFrame, tasks: Sequence[str]) -> list[ScoreRow]:
    """Make one row of all models' values of each metric that is shown, and one of their average over tasks.

    Several numbers of solved examples are averaged first, seed by seed, as RegMix reports its tasks.

    Args:
        scores: The table of stage 7.
        tasks: `evaluation.tasks` of the recipe. Where two or more of them have an accuracy, the last row is
            its mean over them, each counted by its normalised accuracy if it has one.
    """
    shown = [one for one in _listed(scores) if _SHOWN_METRIC.get(one.task, one.metric) == one.metric]
    groups = _grouped(shown, lambda one: (one.task, one.domain, one.metric))
    rows = [_score_row(*names, part) for names, part in groups.items()]
    return [*(row for row in rows if row.values), *_average([one for one in shown if one.task in tasks])]


def _listed(scores: pd.DataFrame) -> Iterator[_Score]:
    """The rows one by one: there are few, and a data frame takes a millisecond for each thing it is asked."""
    for row in scores.to_dict("records"):
        domain, upwards = row.get("domain"), row.get("higher_is_better")
        yield _Score(
            task=str(row["task"]),
            domain=None if pd.isna(domain) or not domain else str(domain),
            metric=str(row["metric"]),
            mixture=str(row["mixture_id"]),
            model=str(row["model"]),
            value=_number(row["value"]),
            stderr=_number(row.get("stderr")),
            num_fewshot=_number(row["num_fewshot"]),
            upwards=None if pd.isna(upwards) else bool(upwards),
        )


def _number(value: Any) -> float:
    return math.nan if pd.isna(value) else float(value)


def _grouped(rows: Iterable[_Score], key: Callable[[_Score], _Key]) -> dict[_Key, list[_Score]]:
    groups: dict[_Key, list[_Score]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _mean(values: Iterable[float]) -> float:
    """Mean of those that are known; NaN where none is."""
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def _average(scores: Sequence[_Score]) -> list[ScoreRow]:
    """One row, or none where fewer than two tasks have an accuracy."""
    accuracies = [one for one in scores if one.metric in _ACCURACIES and not math.isnan(one.value)]
    best = {
        task: min(_ACCURACIES.index(one.metric) for one in part)
        for task, part in _grouped(accuracies, lambda one: one.task).items()
    }
    counted = [one for one in accuracies if _ACCURACIES.index(one.metric) == best[one.task]]
    task = f"average of {len(best)} tasks"
    averages = []
    for (mixture, model), part in _grouped(counted, lambda one: (one.mixture, one.model)).items():
        means = [_mean(one.value for one in few) for few in _grouped(part, lambda one: one.task).values()]
        if len(means) == len(best):  # of the others a task is missing
            value = _mean(means)
            averages.append(_Score(task, None, "accuracy", mixture, model, value, math.nan, math.nan, True))
    if len(best) < 2 or not averages:
        return []
    return [replace(_score_row(task, None, "accuracy", averages), examples=_examples(counted))]


def _score_row(task: str, domain: str | None, metric: str, part: Sequence[_Score]) -> ScoreRow:
    values = {}
    for mixture, own in _grouped(part, lambda one: one.mixture).items():
        seeds = [_mean(one.value for one in few) for few in _grouped(own, lambda one: one.model).values()]
        if known := [value for value in seeds if not math.isnan(value)]:
            square = _mean(one.stderr**2 for one in own)  # NaN where nobody knows
            stderr = None if math.isnan(square) else math.sqrt(square)
            values[mixture] = replace(Spread.of(known), stderr=stderr)
    upwards, best = part[0].upwards, None
    if len(values) > 1 and upwards is not None:
        best = (max if upwards else min)(values, key=lambda name: values[name].mean)
    return ScoreRow(task, domain, metric, _examples(part), values, best)


def _examples(scores: Iterable[_Score]) -> tuple[int, ...]:
    return tuple(sorted({int(one.num_fewshot) for one in scores if not math.isnan(one.num_fewshot)}))
