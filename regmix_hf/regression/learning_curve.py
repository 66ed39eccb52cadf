"""What more runs would bring: held-out correlation against the number of fitted runs, and where it goes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from regmix_hf.progress import Progress
from regmix_hf.readable import count_of
from regmix_hf.regression.assessment import number_mixtures
from regmix_hf.regression.expert_tokens import expert_tokens
from regmix_hf.regression.folds import assign_folds
from regmix_hf.regression.metrics import Resamples, measure
from regmix_hf.regression.registry import build_estimator, estimator_class
from regmix_hf.regression.regressor import own_domains
from regmix_hf.regression.target import Target
from regmix_hf.runs.runs import Runs
from regmix_hf.seeds import generator

Array = NDArray[np.float64]

_NUM_FOLDS = 5
_POINTS = ["estimator", "num_runs", "repeat", "spearman"]
#: A curve is drawn through this many sizes at most, and gone beyond from this many at least.
_MOST_SIZES, _LEAST_SIZES = 6, 4
#: Below this number of runs sizes are dense and every run is predicted: few runs are noisy.
_FEW_RUNS = 100
#: Random subsets of each size. Where every repeat goes through all folds it is five subsets by itself.
_REPEATS, _FEW_REPEATS = 5, 3
#: Share of the bootstrap samples of the test runs in which there must be a correlation at every size.
_LEAST_USABLE = 0.5
#: Rates at which the error may fall with the number of runs: `error = floor + scale * runs ** -rate`.
_RATES = np.linspace(0.1, 2.0, 39)


@dataclass(frozen=True)
class Gain:
    """What further runs would add to the held-out Spearman correlation.

    Attributes:
        num_more: Runs beyond those fitted on.
        expected: The middle of what the curve allows.
        at_most: Its upper 97.5 % limit.
    """

    num_more: int
    expected: float
    at_most: float


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """Held-out correlation of one target against the number of runs fitted on.

    Attributes:
        points: `estimator`, `num_runs`, `repeat`, `spearman`; a repeat is another random subset.
        gains: Per estimator what more runs would bring; empty where the curve cannot tell.
    """

    points: pd.DataFrame
    gains: dict[str, tuple[Gain, ...]]

    @classmethod
    def empty(cls) -> Self:
        """Of no run, or of one mixture."""
        return cls(pd.DataFrame(columns=_POINTS), {})

    def table(self) -> pd.DataFrame:
        """Return `estimator`, `num_runs`, `num_subsets`, and `mean`, `lower`, `upper` over these subsets."""
        groups = self.points.groupby(["estimator", "num_runs"], sort=False)["spearman"]
        return groups.agg(num_subsets="size", mean="mean", lower="min", upper="max").reset_index()

    def outlook(self, estimator: str) -> str:
        """Say in one sentence what more runs would bring."""
        points = self.points[self.points["estimator"] == estimator]
        sizes = points["num_runs"].unique()
        if estimator not in self.gains:
            return (
                "the runs are too few to tell what more would bring: "
                f"{count_of(len(sizes), 'size')} could be compared, "
                f"an outlook needs {_LEAST_SIZES} with a correlation at each."
            )
        gain = self.gains[estimator][1]
        return (
            f"{count_of(gain.num_more, 'more run')} would bring at most {100 * gain.at_most:+.1f} "
            "points of Spearman "
            f"correlation (about {100 * gain.expected:+.1f})."
        )


def learning_curve(
    fitted: Runs,
    held_out: Runs | None,
    estimators: Sequence[str],
    target: Target,
    *,
    random_state: int,
    progress: Progress,
) -> LearningCurve:
    """Fit on random subsets of growing size and predict the same unseen runs each time.

    Args:
        fitted: Runs to fit on; those without a loss that `target` needs take no part.
        held_out: Runs to predict, with every loss `target` needs. `None`: every fitted run is predicted by
            fits on subsets of the other four fifths of the mixtures; of many runs, only one fifth is.
        estimators: Families, each fitted at every size it can be fitted at.
        target: What is predicted.
        random_state: Seed of subsets, folds and fits.
        progress: Told how many fits are done.
    """
    fitted = fitted.take(np.flatnonzero(fitted.losses[list(target.weights)].notna().all(axis=1)))
    if len(set(number_mixtures(fitted))) < 2:
        return LearningCurve.empty()
    work = _Work(fitted, held_out, target, random_state)
    plan = [(estimator, size, repeat) for estimator in estimators for size, repeat in work.subsets(estimator)]
    rows, draws = [], []
    with progress.bar("learning curve", total=len(plan), unit="subsets") as bar:
        for done, (estimator, size, repeat) in enumerate(plan):
            bar.update(done, detail=f"{estimator} on {size} runs")
            predicted = work.predict(estimator, size, repeat)
            spearman = measure(work.truth, predicted)["spearman"]
            rows.append((estimator, size, repeat, spearman))
            draws.append(work.resamples.metrics(work.truth, predicted)["spearman"])
        bar.update(len(plan))
    points = pd.DataFrame(rows, columns=_POINTS)
    gains = {}
    for estimator in estimators:
        own = points[points["estimator"] == estimator]
        rng = generator(random_state, "outlook", estimator)
        if found := _gains(own, np.array([draws[row] for row in own.index]), len(fitted), rng):
            gains[estimator] = found
    return LearningCurve(points, gains)


class _Work:
    """The runs of one curve as matrices, and which of them each fit sees."""

    def __init__(self, fitted: Runs, held_out: Runs | None, target: Target, random_state: int):
        names = list(target.weights)
        folds = assign_folds(fitted.weights.to_numpy(), _NUM_FOLDS, random_state, "learning curve")
        if held_out is None and len(fitted) >= _FEW_RUNS:
            fitted, held_out = (fitted.take(np.flatnonzero(rows)) for rows in (folds > 0, folds == 0))
        tests = fitted if held_out is None else held_out
        self._random_state = random_state
        self._target = replace(target, quantities=target.used)
        self._signs = np.array([quantity.sign for quantity in target.used])
        self._own = own_domains(names, fitted.domains)
        self._experts, self._names = fitted.experts, (names, fitted.domains)
        self._weights, self._losses = fitted.weights.to_numpy(), fitted.losses[names].to_numpy()
        self._test_weights = tests.weights.to_numpy()
        self.truth = self._target.combine(tests.losses[names].to_numpy())
        everyone = np.arange(len(fitted))
        if held_out is None:
            self._parts = [(everyone[folds != k], everyone[folds == k]) for k in range(folds.max() + 1)]
        else:
            self._parts = [(everyone, np.arange(len(tests)))]
        self._mixture = number_mixtures(fitted)
        self.resamples = Resamples.draw(
            number_mixtures(tests), generator(random_state, "bootstrap", "learning curve")
        )

    def subsets(self, estimator: str) -> Iterator[tuple[int, int]]:
        """Sizes from all runs downwards, each with the numbers of its random subsets."""
        most = min(len(pool) for pool, _ in self._parts)
        # So many runs are of enough different mixtures, however often each was run.
        least = estimator_class(estimator).min_runs(self._weights.shape[1]) * np.bincount(self._mixture).max()
        least = max(least, 1)
        few, in_folds = most < _FEW_RUNS, len(self._parts) > 1
        step, repeats = np.sqrt(2.0) if few else 2.0, _REPEATS if few and not in_folds else _FEW_REPEATS
        sizes = (round(most / step**k) for k in range(_MOST_SIZES))
        for size in [size for size in sizes if size >= least][::-1]:
            for repeat in range(repeats if size < most else 1):
                yield size, repeat

    def predict(self, estimator: str, size: int, repeat: int) -> Array:
        """Predict the target of every test run by fits on `size` runs; subsets of one repeat are nested."""
        losses = np.empty((len(self._test_weights), len(self._target.names)))
        for number, (pool, tests) in enumerate(self._parts):
            rows = self._shuffled(pool, generator(self._random_state, "subset", repeat, number))[:size]
            model = build_estimator(estimator, self._random_state, {})
            experts = expert_tokens(self._experts, *self._names, required=model.needs_experts)
            model.fit(
                self._weights[rows],
                self._signs * self._losses[rows],
                own_domains=self._own,
                experts=experts,
            )
            losses[tests] = self._signs * model.predict(self._test_weights[tests])
        return self._target.combine(losses)

    def _shuffled(self, pool: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
        """Runs in random order, those of one mixture together, so that a subset repeats as all runs do."""
        places = rng.permutation(self._mixture.max() + 1)
        return pool[np.argsort(places[self._mixture[pool]], kind="stable")]


def _gains(points: pd.DataFrame, draws: Array, num_runs: int, rng: np.random.Generator) -> tuple[Gain, ...]:
    """Go beyond all runs: by half as many more, as many and three times as many.

    Args:
        points: Rows of one estimator.
        draws: The Spearman correlation of each row in every bootstrap sample of the test runs.
        num_runs: All runs there are to fit on.
        rng: What subsets are resampled with.
    """
    sizes, row_of = np.unique(points["num_runs"], return_inverse=True)
    if len(sizes) < _LEAST_SIZES or points["spearman"].isna().any():
        return ()
    usable = ~np.isnan(draws).any(axis=0)
    if usable.mean() < _LEAST_USABLE:
        return ()
    samples = _pick_repeats(draws[:, usable], row_of, rng)
    luck = _luck(points["spearman"].to_numpy(), sizes, row_of) * rng.normal(size=len(samples))
    gains, room = [], 1.0 - points.loc[points["num_runs"] == sizes[-1], "spearman"].mean()
    for num_more in (num_runs // 2, num_runs, 3 * num_runs):
        gain = _extrapolate(sizes.astype(np.float64), 1.0 - samples, num_runs, num_runs + num_more)
        owed = np.sqrt(1 / num_runs - 1 / (num_runs + num_more))
        high = min(np.percentile(gain + owed * luck, 97.5), room)
        gains.append(Gain(num_more, float(min(np.median(gain), room)), float(max(high, 0.0))))
    return tuple(gains)


def _luck(correlations: Array, sizes: NDArray[np.intp], row_of: NDArray[np.intp]) -> float:
    """How much a fit owes to which runs it got, as the deviation of one run.

    The mean of `m` out of `n` draws deviates from that of all `n` by that of one draw, times
    `sqrt(1/m - 1/n)`; here it is turned around, for the subsets of the second largest size.
    """
    spread = correlations[row_of == len(sizes) - 2].std(ddof=1)
    return float(spread / np.sqrt(1 / sizes[-2] - 1 / sizes[-1]))


def _pick_repeats(draws: Array, row_of: NDArray[np.intp], rng: np.random.Generator) -> Array:
    """Resample the subsets of every size too; `(samples, sizes)`, each the mean over the subsets drawn."""
    columns = []
    for size in range(int(row_of.max()) + 1):
        rows = draws[row_of == size]
        counts = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), draws.shape[1])
        columns.append((rows * counts.T).sum(axis=0) / len(rows))
    return np.stack(columns, axis=1)


def _extrapolate(sizes: Array, errors: Array, start: int, stop: int) -> Array:
    """Fall of `error = floor + scale * runs ** -rate` from `start` to `stop` runs, `(samples,)`.

    Least squares with `floor` and `scale` not negative, the best of `_RATES` for each sample of `errors`
    (samples x sizes).
    """
    best, gain = np.full(len(errors), np.inf), np.zeros(len(errors))
    for rate in _RATES:
        basis = (sizes / sizes[-1]) ** -rate  # 1 at the largest size
        centred = basis - basis.mean()
        scale = np.maximum(errors @ centred / (centred @ centred), 0.0)
        floor = errors.mean(axis=1) - scale * basis.mean()
        scale = np.where(floor < 0, errors @ basis / (basis @ basis), scale)
        floor = np.maximum(floor, 0.0)
        misfit = ((errors - floor[:, None] - scale[:, None] * basis) ** 2).sum(axis=1)
        fall = (start / sizes[-1]) ** -rate - (stop / sizes[-1]) ** -rate
        gain = np.where(misfit < best, scale * fall, gain)
        best = np.minimum(best, misfit)
    return gain
