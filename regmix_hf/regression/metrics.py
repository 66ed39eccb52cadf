"""How well predictions rank and meet true losses: plain numbers, bootstrap intervals, and `evaluate` metrics.

Every metric is computed from weights of the runs, so that a bootstrap sample is only another row of weights
and a thousand of them are a few matrix products.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BeforeValidator, PlainSerializer

from regmix_hf.errors import RegressionError, did_you_mean

Array = NDArray[np.float64]

#: What each metric says; losses are in nats per token where they come from a study.
METRICS = {
    "spearman": "Spearman's rank correlation of predicted and true losses, ties at their mean rank",
    "pearson": "Pearson's correlation of predicted and true losses",
    "mse": "mean squared error of the predicted losses, in squared units of the losses",
    "mae": "mean absolute error of the predicted losses, in units of the losses",
    "regret": "true loss of the run that is predicted best, minus the best true loss",
}
#: Those of them that are the same whatever unit the losses are in.
OF_NO_UNIT = ("spearman", "pearson")
#: A correlation, or NaN where there is none, which is null in JSON.
Correlation = Annotated[
    float,
    BeforeValidator(lambda value: math.nan if value is None else value),
    PlainSerializer(lambda value: None if math.isnan(value) else value),
]
NUM_RESAMPLES = 1000
#: Share of the resamples in which a metric must exist before an interval is given. A correlation of two runs
#: exists in half of them, and is then the same in all.
_LEAST_DEFINED = 0.6
#: Fewer mixtures than these are hardly ever drawn in two different ways.
LEAST_MIXTURES = 4
#: A variance below this share of the whole sample's is rounding, not variance.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Resamples:
    """Bootstrap samples of `n` runs.

    Attributes:
        counts: How often each run is in each sample, `(samples, n)`.
    """

    counts: Array

    @classmethod
    def draw(cls, mixture: Sequence[int] | NDArray[np.intp], rng: np.random.Generator) -> Resamples:
        """Draw `NUM_RESAMPLES` samples; runs of one mixture (repeated seeds) stay together.

        Of fewer than four mixtures all are empty, and tell no interval: most would hold what others hold,
        and a metric that is the same in all looks certain.

        Args:
            mixture: Number of the mixture of each run, from 0.
            rng: What they are drawn with.
        """
        groups = int(np.max(mixture)) + 1
        if groups < LEAST_MIXTURES:
            return cls(np.zeros((NUM_RESAMPLES, len(mixture))))
        drawn = rng.multinomial(groups, np.full(groups, 1 / groups), NUM_RESAMPLES)
        return cls(drawn[:, mixture].astype(np.float64))

    def metrics(self, truth: Array, predicted: Array) -> dict[str, Array]:
        """Return every metric in every sample, `(samples,)` each; NaN where it does not exist."""
        return _metrics(truth, predicted, self.counts)


def measure(truth: ArrayLike, predicted: ArrayLike) -> dict[str, float]:
    """Return every metric of `METRICS`; runs whose truth is NaN do not count.

    A correlation is NaN with fewer than two runs, or when the truths or the predictions are all equal.

    >>> [round(value, 3) for value in measure([1.0, 2.0, 4.0], [1.0, 3.0, 2.0]).values()]
    [0.5, 0.327, 1.667, 1.0, 0.0]
    """
    true, guess = np.asarray(truth, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if true.ndim != 1 or true.shape != guess.shape:
        raise RegressionError(f"truths have shape {true.shape}, predictions {guess.shape}; give two vectors.")
    return {name: float(value[0]) for name, value in _metrics(true, guess, np.ones((1, len(true)))).items()}


def interval(draws: Array) -> tuple[float, float]:
    """Return the central 95 % of bootstrap draws; NaN when the metric rarely exists in the samples."""
    defined = draws[~np.isnan(draws)]
    if len(defined) < _LEAST_DEFINED * len(draws):
        return np.nan, np.nan
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)


def evaluate_metric(name: str) -> Any:
    """Return one metric as an `evaluate.Metric`, which needs no network.

    `evaluate_metric("spearman").compute(predictions=[...], references=[...])` gives `{"spearman": ...}`.
    Importing `evaluate` takes seconds; `measure` gives the same numbers without it.

    Raises:
        RegressionError: There is no such metric.
    """
    if name not in METRICS:
        raise RegressionError(f"{name!r} is no metric.", did_you_mean(name, METRICS))
    return as_metric(name, METRICS[name], lambda true, predicted: measure(true, predicted)[name])


def as_metric(name: str, description: str, measured: Callable[[list[float], list[float]], float]) -> Any:
    """Make an `evaluate.Metric` of what is measured of true and predicted losses."""
    import evaluate
    from evaluate.info import Features, Value

    class MixtureRegressionMetric(evaluate.Metric):
        """A metric of predicted losses."""

        def _info(self) -> Any:
            return evaluate.MetricInfo(
                description=description,
                citation="",
                inputs_description="predictions and references: predicted and true losses, one per run",
                features=Features({"predictions": Value("float64"), "references": Value("float64")}),
            )

        def _compute(self, predictions: list[float], references: list[float]) -> dict[str, float]:
            return {name: measured(references, predictions)}

    return MixtureRegressionMetric(config_name=name, keep_in_memory=True)


def _metrics(truth: Array, predicted: Array, counts: Array) -> dict[str, Array]:
    known = ~np.isnan(truth)
    truth, predicted, counts = truth[known], predicted[known], counts[:, known]
    total = counts.sum(axis=1)
    error = predicted - truth
    with np.errstate(invalid="ignore", divide="ignore"):  # a sample may be empty or hold one value only
        return {
            "spearman": _spearman(truth, predicted, counts, total),
            "pearson": _pearson(truth, predicted, counts, total),
            "mse": counts @ error**2 / total,
            "mae": counts @ np.abs(error) / total,
            "regret": _regret(truth, predicted, counts),
        }


def _spearman(truth: Array, predicted: Array, counts: Array, total: Array) -> Array:
    x, y = (_ranks(values, counts) - (total[:, None] + 1) / 2 for values in (truth, predicted))
    moments = [np.einsum("bn,bn,bn->b", counts, a, b) for a, b in ((x, y), (x, x), (y, y))]
    correlation: Array = moments[0] / np.sqrt(moments[1] * moments[2])
    return correlation


def _pearson(truth: Array, predicted: Array, counts: Array, total: Array) -> Array:
    if not len(truth):
        return np.full(len(counts), np.nan)
    x, y = truth - truth.mean(), predicted - predicted.mean()
    means = counts @ x / total, counts @ y / total
    variances = counts @ x**2 / total - means[0] ** 2, counts @ y**2 / total - means[1] ** 2
    for variance, values in zip(variances, (x, y), strict=True):
        variance[variance <= _ROUNDING * np.abs(values).max() ** 2] = np.nan
    correlation: Array = (counts @ (x * y) / total - means[0] * means[1]) / np.sqrt(
        variances[0] * variances[1]
    )
    return np.clip(correlation, -1.0, 1.0)


def _ranks(values: Array, counts: Array) -> Array:
    """Rank of every run in every sample, from 1, ties at their mean; `(samples, n)`."""
    _, group = np.unique(values, return_inverse=True)
    sizes = _sum_by_group(counts, group)
    return (np.cumsum(sizes, axis=1) - (sizes - 1) / 2)[:, group]


def _regret(truth: Array, predicted: Array, counts: Array) -> Array:
    """Runs that are predicted equally good count with the mean of their truths."""
    if not len(truth):
        return np.full(len(counts), np.nan)
    _, group = np.unique(predicted, return_inverse=True)
    sizes, sums = _sum_by_group(counts, group), _sum_by_group(counts * truth, group)
    first = (np.arange(len(counts)), (sizes > 0).argmax(axis=1))
    best = np.where(counts > 0, truth, np.inf).min(axis=1)
    regret: Array = sums[first] / sizes[first] - best
    return np.where(np.isfinite(regret), np.maximum(regret, 0.0), np.nan)


def _sum_by_group(values: Array, group: NDArray[np.intp]) -> Array:
    """Sum the columns that belong to each group, groups in order; `(samples, groups)`."""
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(group.max() + 1)) if len(group) else np.arange(0)
    return np.add.reduceat(values[:, order], starts, axis=1) if len(group) else values
