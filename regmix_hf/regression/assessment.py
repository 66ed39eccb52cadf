"""How good fitted regressors are on runs they never saw: one tidy table, and the predictions behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import TypeAdapter

from regmix_hf.quantities import are_alike
from regmix_hf.readable import with_interval
from regmix_hf.regression import intervals
from regmix_hf.regression.expert_tokens import of_experts
from regmix_hf.regression.metrics import METRICS, OF_NO_UNIT, Resamples, interval, measure
from regmix_hf.regression.regressor import MixtureRegressor
from regmix_hf.regression.target import Target
from regmix_hf.runs.runs import Runs
from regmix_hf.seeds import generator

Array = NDArray[np.float64]

#: The trivial predictor that stands beside every claim.
BASELINE = "own_weight"
#: What `test` says of fitted runs, predicted by fits on the other folds, and of runs that were never fitted.
CROSS_VALIDATION, HOLDOUT = "cross-validation", "holdout"
#: What it says of fewer runs than `MANY_TO_RANK`, predicted by the fit on all of them.
FITTED = "the fitted runs"
#: What it says where experts alone were trained.
NOTHING = "no run on a mixture"
#: With fewer runs, which only families of few parameters are fitted on, each is predicted by the fit on all:
#: what the others alone would put between two of them is mostly their own noise.
MANY_TO_RANK = 10
#: What predictions speak of where no run was fitted on.
OF_NO_MODEL = "no model: experts alone rank mixtures, and their numbers have no scale"


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Runs with their predictions by fits that did not see them.

    Attributes:
        test: What the runs are: `holdout`, `cross-validation`, `the fitted runs` where these are few, or the
            name of an extra test set.
        runs: The runs.
        predictions: Estimator -> predicted losses, runs x targets.
    """

    test: str
    runs: Runs
    predictions: Mapping[str, pd.DataFrame]

    def measures(self, target: Target) -> bool:
        """Tell whether every loss that `target` needs was measured in these runs."""
        return set(target.weights) <= set(self.runs.targets)

    def num_judging(self, target: Target) -> int:
        """Count the runs that judge a prediction of `target`: those in which all of it was measured."""
        return int((~np.isnan(_values(self.runs.losses, target))).sum())

    def pair(self, estimator: str, target: Target) -> tuple[Array, Array]:
        """Return the true and the predicted values of `target`, one per run."""
        return _values(self.runs.losses, target), _values(self.predictions[estimator], target)

    def resamples(self, random_state: int) -> Resamples:
        """Draw bootstrap samples of the runs, the same whoever asks: one interval, wherever it is shown."""
        return Resamples.draw(number_mixtures(self.runs), generator(random_state, "bootstrap", self.test))


def _values(table: pd.DataFrame, target: Target) -> Array:
    """What `target` makes of each row; NaN where a part of it is not there."""
    return target.combine(table.reindex(columns=list(target.names)).to_numpy(dtype=np.float64))


def predict(test: str, runs: Runs, regressors: Mapping[str, MixtureRegressor]) -> HeldOut:
    """Predict runs that no regressor was fitted on."""
    predictions = {name: model.predict(runs.weights) for name, model in regressors.items()}
    return HeldOut(test, _judging(runs, regressors), predictions)


def _judging(runs: Runs, regressors: Mapping[str, MixtureRegressor]) -> Runs:
    """Leave out what runs lost that are experts themselves, where any regressor has listened to these."""
    listens = any(one.model.takes_experts for one in regressors.values())
    told = of_experts(runs.losses, runs.experts if listens else None)
    return replace(runs, losses=runs.losses.mask(told))


def cross_validation(runs: Runs, regressors: Mapping[str, MixtureRegressor]) -> HeldOut:
    """Take the fitted runs with their predictions by fits on the other folds, which every regressor has.

    The baseline alone keeps its predictions by the fit on all runs: by a target's own domain it ranks without
    being fitted, and pooling folds would break its many ties against it and flatter whatever stands beside
    it. (Of a target that is no domain it is flattered itself: its domain is picked on these runs.) So do all
    where there are fewer runs than `MANY_TO_RANK`.
    """
    predictions = {
        name: model.predict(runs.weights)
        if name == BASELINE or len(runs) < MANY_TO_RANK
        else runs.losses - model.out_of_fold_residuals
        for name, model in regressors.items()
    }
    test = CROSS_VALIDATION if len(runs) >= MANY_TO_RANK else FITTED
    return HeldOut(test, _judging(runs, regressors), predictions)


def quality_table(held_out: Sequence[HeldOut], target: Target, random_state: int) -> pd.DataFrame:
    """Measure every estimator on every test set, for every target.

    Returns:
        One row per `test`, `estimator` and `target`. `kind` is `single` for one that was measured,
        `combined` for `target` where it is made of several, and `average` for the mean of the single
        rows' metrics (its `target` is `average`). `num_runs`, then `<metric>`, `<metric>_low` and
        `<metric>_high` for each of `METRICS`: the value and its bootstrap 95 % interval. All estimators
        are resampled alike. NaN where a metric does not exist: the correlation of a constant, the average
        of errors in several units.
    """
    rows: list[dict[str, Any]] = []
    for part in held_out:
        resamples = part.resamples(random_state)
        for estimator in part.predictions:
            rows += _quality(part, estimator, target, resamples)
    return pd.DataFrame(rows)


def table_for_people(quality: pd.DataFrame, target: str) -> pd.DataFrame:
    """Make text of the rows of a `quality_table` that matter: of the target of this name, and of the average.

    Returns:
        `test`, `target`, `estimator`, `runs` and one column per metric: the value with its bootstrap 95 %
        interval, correlations in percent. In each test and target the best Spearman correlation is first.
    """
    if quality.empty:
        return pd.DataFrame(columns=["test", "target", "estimator", "runs", *METRICS])
    rows = quality[
        ((quality["target"] == target) & (quality["kind"] != "average")) | (quality["kind"] == "average")
    ]
    groups = rows.groupby(["test", "target"], sort=False)
    rows = pd.concat([group.sort_values("spearman", ascending=False, kind="stable") for _, group in groups])
    table = rows[["test", "target", "estimator", "num_runs"]].rename(columns={"num_runs": "runs"})
    for metric in METRICS:
        in_percent = metric in OF_NO_UNIT
        values = rows[[metric, f"{metric}_low", f"{metric}_high"]].to_numpy() * (100 if in_percent else 1)
        name = f"{metric} (%)" if in_percent else metric
        table[name] = [with_interval(value, low, high, 1 if in_percent else 4) for value, low, high in values]
    return table.reset_index(drop=True)


def predictions_table(held_out: Sequence[HeldOut], target: Target) -> pd.DataFrame:
    """Return one row per `test`, `estimator`, `target` and run: `kind`, `run_id`, `true` and `predicted`."""
    frames = []
    for part in held_out:
        for estimator in part.predictions:
            for labels, true, predicted, _ in _pairs(part, estimator, target):
                columns = {"run_id": part.runs.losses.index, "true": true, "predicted": predicted}
                frames.append(pd.DataFrame(labels | columns))
    return pd.concat(frames, ignore_index=True)


def seed_noise(runs: Runs) -> dict[str, float]:
    """Return how far runs of one mixture lie apart: the standard deviation over seeds, target by target.

    Pooled over mixtures that were run more than once, in the unit of the losses; targets without such a
    mixture are left out. No regression can come closer than this.
    """
    deviation, freedom = intervals.seed_noise(runs.losses.to_numpy(), number_mixtures(runs))
    return {name: float(deviation[i]) for i, name in enumerate(runs.targets) if freedom[i]}


@dataclass(frozen=True)
class Promise:
    """What a regressor promises of the run it predicts best, and what that measured, in the target's unit.

    A choice takes the best of many predictions, which is the luckiest, too: the promise is too good by as
    much as luck had a part in it.

    Attributes:
        run: The run, predicted by a fit that saw neither it nor its mixture.
        promised: Its predicted target.
        measured: Its true target.
        difference: Promised minus measured.
    """

    run: str
    promised: float
    measured: float
    difference: float

    @classmethod
    def of(cls, folds: HeldOut, estimator: str, target: Target) -> Self | None:
        """Look at out-of-fold predictions; `None` where no run measured all that `target` needs."""
        true, predicted = folds.pair(estimator, target)
        known = np.flatnonzero(~np.isnan(true))
        if not len(known):
            return None
        best = known[(target.quantity.sign * predicted[known]).argmin()]
        promised, measured = float(predicted[best]), float(true[best])
        return cls(str(folds.runs.losses.index[best]), promised, measured, promised - measured)

    @classmethod
    def from_plain(cls, found: Mapping[str, Any]) -> Self:
        """Read what `asdict` gave."""
        return TypeAdapter(cls).validate_python(found)

    def __str__(self) -> str:
        return (
            f"promised {self.promised:.4f} and measured {self.measured:.4f} ({self.difference:+.4f}) "
            f"of run {self.run}, which it predicted best out of fold"
        )


def speaks_of(summary: Mapping[str, Any]) -> str:
    """Say of which runs the predictions of a fit and their intervals are; `summary` is its `summary.json`."""
    if summary.get("num_runs", {}).get("fit") == 0:
        return OF_NO_MODEL
    return of_scale(summary.get("scale"), holds_seed_noise=summary.get("intervals_hold_seed_noise"))


def of_scale(scale: str | None, *, holds_seed_noise: bool | None = None) -> str:
    """Say which runs a predicted loss and its interval speak of: no other size or length, and of which seeds.

    Args:
        scale: What the fitted runs trained for how long, where that is known.
        holds_seed_noise: Whether intervals hold the noise between seeds; `None`: nobody said.
    """
    of = f"{scale}, not of a larger model" if scale else "the size and length of those fitted on"
    said = f"a new run of {of}"
    if holds_seed_noise is None:
        return said
    if holds_seed_noise:
        return f"{said} (intervals hold the noise between seeds)"
    return f"{said} (intervals do not hold the noise between seeds: no mixture was run with two at that size)"


def number_mixtures(runs: Runs) -> NDArray[np.intp]:
    """Number the mixtures of the runs, from 0; runs of equal weights share a number."""
    return intervals.number_rows(runs.weights.to_numpy())


def _pairs(
    part: HeldOut, estimator: str, target: Target
) -> Iterator[tuple[dict[str, str], Array, Array, float]]:
    """Every target that was measured in these runs, then what is made of them.

    With labels, true and predicted values, one per run, and the sign that makes less better.
    """
    labels = {"test": part.test, "estimator": estimator}
    true, predicted = part.runs.losses, part.predictions[estimator]
    for name, quantity in part.runs.quantities.items():
        single = labels | {"target": name, "kind": "single"}
        yield single, true[name].to_numpy(), predicted[name].to_numpy(), quantity.sign
    if (len(target.weights) != 1 or target.scales) and part.measures(target):
        combined = labels | {"target": str(target), "kind": "combined"}
        yield combined, *part.pair(estimator, target), target.quantity.sign


def _quality(part: HeldOut, estimator: str, target: Target, resamples: Resamples) -> list[dict[str, Any]]:
    rows, points, draws = [], [], []
    for labels, true, predicted, sign in _pairs(part, estimator, target):
        small = (sign * true, sign * predicted)  # regret is of what is made small
        point, draw = measure(*small), resamples.metrics(*small)
        rows.append(labels | {"num_runs": int((~np.isnan(true)).sum())} | _columns(point, draw))
        if labels["kind"] == "single":
            points.append(point)
            draws.append(draw)
    if len(points) > 1:
        is_one_unit = are_alike(part.runs.quantities.values())
        point = {
            metric: float(np.mean([one[metric] for one in points]))
            if is_one_unit or metric in OF_NO_UNIT
            else np.nan
            for metric in METRICS
        }
        draw = {metric: np.mean([one[metric] for one in draws], axis=0) for metric in METRICS}
        labels = {"test": part.test, "estimator": estimator, "target": "average", "kind": "average"}
        rows.append(labels | {"num_runs": len(part.runs)} | _columns(point, draw))
    return rows


def _columns(point: Mapping[str, float], draws: Mapping[str, Array]) -> dict[str, float]:
    columns: dict[str, float] = {}
    for metric, value in point.items():
        low, high = interval(draws[metric]) if not np.isnan(value) else (np.nan, np.nan)
        columns |= {metric: value, f"{metric}_low": low, f"{metric}_high": high}
    return columns
