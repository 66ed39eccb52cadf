"""One law over mixtures, sizes and lengths: what a larger or longer run would lose, from smaller ones."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist

from regmix_hf.errors import RegressionError
from regmix_hf.regression.base import Array, of_largest
from regmix_hf.regression.folds import assign_folds
from regmix_hf.regression.intervals import Elsewhere
from regmix_hf.regression.kriged_power_law import LENGTHS, NOISES, likeliest, pull_in
from regmix_hf.regression.least_squares import Curve, minimise, standardised
from regmix_hf.regression.matern import matern
from regmix_hf.regression.repetition import Repeats
from regmix_hf.regression.scaled_curve import BY_PARAMETERS, EXPONENT_SPREAD, ScaledCurve, ScaledLayout
from regmix_hf.regression.scaled_prediction import ScaledPrediction
from regmix_hf.regression.shared_help import SharedHelp
from regmix_hf.regression.size_process import COUNT, Places, learn, solve, unsure_of_offset
from regmix_hf.regression.threads import one_blas_thread
from regmix_hf.seeds import generator

#: Times the fit of the trend is repeated with a prior from the fit before.
_SWEEPS = 3
#: Runs that hyperparameters of the process over sizes are learned from, and targets: of fewer runs more
#: targets, for the time grows with the cube of the runs.
_LEARN_RUNS, _LEARN_TARGETS = 240, 4
#: Standard deviation of what a law from runs of one length misses of another, as a share of the loss for each
#: e-fold of tokens: of 310M on `scale-ladder`, by 310M alone or with 122M at one of five lengths, means over
#: mixtures are missed by that much (root mean square over targets and other lengths; nine of ten by 0.21).
_PER_LENGTH = 0.127
#: The share of runs that is missed by less than what is compared between sizes.
_FAR = 0.9
#: Of runs of one size those more than half as long as the longest are left out, to see how far off longer
#: ones are. Then 90 % intervals of runs 1.25 to 3.3 times as long as all fitted ones held 72 to 97 %, of 310M
#: 4 to 51 % without (122M and 310M of `scale-ladder`, 40 mixtures to 6, 10 and 16B tokens, 20 others).
_HALF = float(np.log(2.0)) - 1e-9


class ScaledLaw(ScaledPrediction):
    """`loss_t(w, N, D) = trend_t(w, N, D) - fall_t(N) + z_t(w) + g_t(w, N, D)`: a law over sizes, kriged.

    The trend is `ScaledCurve`. Where runs of one size tell it, `fall` is what a power law of parameters, by
    the exponent to expect, takes off at other sizes. `z` is a Matern 5/2 process over root shares of
    effective tokens, as in `KrigedPowerLaw`, for what the runs of the size with the most mixtures miss on
    average over their lengths.
    `g` is the process of `size_process`: with a few runs at a larger size it is an offset and a slope there,
    and what mixtures keep over sizes; at the size and length that z is of it is nothing. Predictions are
    those at one size and length, by default those of `of_largest`: `at` returns a copy for another.

    Without sizes all runs are taken to be of one, and it is a kriged power law.

    Args:
        robust_scale, max_steps: As in `PowerLaw`.
        random_state: Seed of the folds, and of which runs tell the hyperparameters.

    Attributes, beside those of `ScaledPrediction`:
        judged_: The size and length that `out_of_fold` tells how far off predictions are at, `(2,)`.
        beyond_: How far off the law was at the largest size without its runs, or with few, in what it misses
            of the size that is judged, and how far that is beyond the next, in log parameters; `(2,)`. Known
            after `out_of_fold`; 1 and 1 before.

    >>> weights = np.random.default_rng(0).dirichlet([1, 1, 1], 24)
    >>> sizes = np.tile([[1e6, 1e9], [6e7, 1e9]], (12, 1))
    >>> losses = 3 - np.sqrt(weights[:, 0]) - 0.1 * np.log(sizes[:, 0])
    >>> model = ScaledLaw().fit(weights, losses, sizes=sizes)
    >>> model.at(6e7, 1e9).predict([[0.5, 0.3, 0.2]]).round(1)
    array([0.5])
    """

    takes_sizes = True
    takes_epochs = True
    arrays: ClassVar = {**ScaledPrediction.arrays, "judged_": ("size",), "beyond_": ("size",)}

    judged_: Array
    beyond_: Array
    #: Of the fit of all runs, for the fits of its folds.
    _start: Array | None = None
    _given: Array | None = None

    def __init__(self, robust_scale: float = 0.1, max_steps: int = 200, *, random_state: int = 0):
        self.robust_scale = robust_scale
        self.max_steps = max_steps
        self.random_state = random_state

    def at(self, num_parameters: float, num_train_tokens: float) -> Self:
        """Return a fitted copy whose predictions are those of runs of this size and length.

        Raises:
            RegressionError: A number is not above 0, or the size is not that of the runs, which are of one.
        """
        if not (num_parameters > 0 and num_train_tokens > 0):
            raise RegressionError(
                f"{num_parameters} parameters on {num_train_tokens} tokens: give numbers above 0."
            )
        at = np.log([num_parameters, num_train_tokens])
        sizes = np.unique(self.sizes_[:, 0])
        if len(sizes) == 1 and not np.isclose(at[0], sizes[0]):
            raise RegressionError(
                f"all runs have {np.exp(sizes[0]):.4g} parameters: they do not tell what "
                f"{num_parameters:.4g} lose.",
                "train a few of the mixtures at a larger size, too",
            )
        part = copy(self)
        part.at_ = at
        if self.repetition_ is not None:
            part.repetition_ = self.repetition_.sized(at[0] - self.centre_[0], at[1])
        return part

    @property
    def only_length(self) -> float | None:
        """Tokens that all fitted runs trained on; `None` where they are of several lengths."""
        lengths = np.unique(self.sizes_[:, 1])
        return float(np.exp(lengths[0])) if len(lengths) == 1 else None

    @property
    def elsewhere(self) -> Elsewhere | None:
        """How predictions differ from those of the size and length that `out_of_fold` judged.

        They may be further off in proportion to log parameters (and log tokens) beyond it, or below it to the
        nearest that was run, by what the runs of the largest size were missed by without them, or out of fold
        where they are few. Between sizes and beyond them all may be off the same way, for the exponent of
        parameters is not known; where all runs are of one length, in proportion to how far another is.
        """
        if np.array_equal(self.at_, self.judged_):
            return None
        ratio, apart = self.beyond_
        nearest = np.abs(self.sizes_ - self.at_).min(axis=0)
        away = np.where(self.at_ > self.judged_, self.at_ - self.judged_, nearest).sum()
        weights = self.weights_[(self.sizes_ == self.judged_).all(axis=1)]
        judged = self.predict_runs(weights, np.tile(self.judged_, (len(weights), 1)))
        by_length = 0.0 if self.only_length is None else _PER_LENGTH * nearest[1] * np.abs(self.mean_)
        return Elsewhere(
            stretch=float(1 + (ratio - 1) * away / apart),
            shift=np.asarray((self._predict(weights) - judged).mean(axis=0)),
            unseen=np.hypot(by_length, self._by_exponent(weights)),
        )

    def _by_exponent(self, weights: Array) -> Array:
        """What a loss may be off, on average over mixtures, for its exponent of parameters is not known.

        A power law through the two sizes next to what is asked, by exponents one deviation up and down.
        """
        sizes = np.unique(self.sizes_[:, 0])
        if len(sizes) == 1:
            return np.zeros(self.num_targets_)
        upper = int(np.clip(np.searchsorted(sizes, self.at_[0]), 1, len(sizes) - 1))
        smaller, larger = sizes[upper - 1 : upper + 1]
        at_smaller, at_larger = (
            self.predict_runs(weights, np.tile([size, self.at_[1]], (len(weights), 1)))
            for size in (smaller, larger)
        )
        exponents = BY_PARAMETERS * np.exp([-EXPONENT_SPREAD, EXPONENT_SPREAD])
        low, high = np.expm1(exponents * (smaller - self.at_[0])) / np.expm1(exponents * (smaller - larger))
        return np.asarray(np.abs((low - high) / 2 * (at_smaller - at_larger).mean(axis=0)))

    def out_of_fold(self, X: ArrayLike, y: ArrayLike, own: Sequence[int]) -> Array:
        """Predict each run, at its own size and length, by a fit that saw none of its mixture."""
        weights = self._check_predictable(X)
        losses = np.asarray(y, dtype=np.float64).reshape(len(weights), -1)
        folds = assign_folds(weights, self._num_folds(len(weights)), self.random_state, "out of fold")
        predicted = np.empty_like(losses)
        for fold in range(folds.max() + 1):
            held_out = folds == fold
            part = self._without(held_out, weights, losses, own)
            predicted[held_out] = part.predict_runs(weights[held_out], self.sizes_[held_out])
        self._look_beyond(weights, losses, own, predicted)
        return predicted

    def _without(
        self, held_out: NDArray[np.bool_], weights: Array, losses: Array, own: Sequence[int]
    ) -> Self:
        part = self._for_fold()
        part._sizes = self.sizes_[~held_out]
        return part._fit_unchecked(weights[~held_out], losses[~held_out], np.asarray(own))

    def _look_beyond(self, weights: Array, losses: Array, own: Sequence[int], unseen: Array) -> None:
        """Set `beyond_`, from the ninth of ten runs by how far they are missed, which intervals are made of.

        Where the largest size has runs enough to be judged by, it is left out. Where it has a few, they
        are missed, out of fold, as much as others of that size will be. Where all runs are of one size, what
        trained longer than half as long as the longest is left out.
        """
        sizes = np.unique(self.sizes_[:, 0])
        if len(sizes) == 1:
            self._look_beyond_lengths(weights, losses, own, unseen)
            return
        missed, largest = np.abs(unseen - losses), self.sizes_[:, 0] == sizes[-1]
        usual, nearest = missed[(self.sizes_ == self.judged_).all(axis=1)], self.judged_[0]
        share = 1.0
        longest = largest & (self.sizes_[:, 1] == self.sizes_[largest, 1].max())
        if nearest == sizes[-1]:
            part, nearest = self._without(largest, weights, losses, own), sizes[-2]
            alone = part.predict_runs(weights[longest], self.sizes_[longest])
            missed[longest] = np.abs(alone - losses[longest])
            # What one size alone misses of the next is more than what two miss, which know how losses fall.
            # Three tenths of the way from 1 to it, in logarithms, held on `scale-ladder`.
            share = 0.3 if len(sizes) == 2 else 1.0
        # Of few mixtures the farthest stands for the tenth that is missed by most, as in conformal intervals.
        count = len(np.unique(weights[longest], axis=0))
        most = min(1.0, _FAR * (count + 1) / count)
        self._set_beyond(missed[longest], usual, most, share, sizes[-1] - nearest)

    def _look_beyond_lengths(self, weights: Array, losses: Array, own: Sequence[int], unseen: Array) -> None:
        """Set `beyond_` where all runs are of one size."""
        lengths, judged = self.sizes_[:, 1], self.sizes_[:, 1] == self.judged_[1]
        longer = lengths > max(self.judged_[1] - _HALF, lengths.min())
        if not longer.any():
            return
        missed, nearest = np.abs(unseen - losses)[judged], lengths[~longer].max()
        part = self._without(longer, weights, losses, own)
        alone = part.predict_runs(weights[judged], self.sizes_[judged])
        share = 0.5 if part.only_length is not None else 1.0  # what one length alone misses is more
        self._set_beyond(np.abs(alone - losses[judged]), missed, _FAR, share, self.judged_[1] - nearest)

    def _set_beyond(self, far: Array, usual: Array, most: float, share: float, apart: float) -> None:
        both = ~(np.isnan(far).all(axis=0) | np.isnan(usual).all(axis=0))  # targets that are known at both
        if both.any():
            times = np.nanquantile(far[:, both], most, axis=0) / np.nanquantile(usual[:, both], _FAR, axis=0)
            self.beyond_ = np.array([max(1.0, float(np.median(times))) ** share, apart])

    def load(self, folder: Path, part: str = "", *, num_domains: int, num_targets: int) -> Self:
        """Read what `save` wrote, also before `falls_`, and before what a mixture has for itself grew."""
        self.falls_ = np.zeros(num_targets)
        super().load(folder, part, num_domains=num_domains, num_targets=num_targets)
        self.hyper_ = np.append(self.hyper_, np.zeros(max(0, COUNT - len(self.hyper_))))
        return self

    def _for_fold(self) -> Self:
        part = super()._for_fold()
        part._start, part._given = self.raw_, self.hyper_
        return part

    def _fit(self, weights: Array, losses: Array, own: NDArray[np.intp]) -> None:
        self.fit_raw(weights, losses, own)
        sizes = self.sizes_
        self.at_, self.beyond_ = sizes[of_largest(sizes)][0], np.ones(2)
        self.judged_ = self.at_
        trend = self._trend(weights, sizes)
        self.level_ = np.stack([trend.mean(axis=0), trend.std(axis=0)], axis=1)
        self.level_[self.level_[:, 1] == 0, 1] = 1.0
        self.falls_ = self._fit_falls(losses - trend)
        self.totals_ = np.array([self._tokens(weights, t).sum(axis=1).mean() for t in range(losses.shape[1])])
        self.lengths_, self.kriged_ = np.ones(losses.shape[1]), np.zeros((losses.shape[1], len(weights)))
        self.hyper_, self.coefficients_ = np.zeros(COUNT), np.zeros((losses.shape[1], len(weights)))
        with one_blas_thread():
            for target in range(losses.shape[1]):
                self._krige(losses[:, target] - trend[:, target], target)
            self._fit_process(losses, trend)

    def fit_raw(
        self, weights: Array, losses: Array, own: NDArray[np.intp], repeats: Repeats | None = None
    ) -> tuple[Array, Array, Array]:
        """Fit the trend; arguments and what is returned as `PowerLaw.fit_raw` has them."""
        self.weights_ = weights
        self.sizes_ = np.zeros((len(weights), 2)) if self._sizes is None else self._sizes
        self.centre_ = self.sizes_.mean(axis=0)
        observed, self.mean_, self.spread_ = standardised(losses, self.robust_scale)
        # Errors count by their share of the loss: late in a run a nat is more than at its beginning.
        known = np.where(np.isfinite(losses), losses, self.mean_)
        sizes = np.maximum(np.abs(known), 0.5 * np.abs(self.mean_))
        counts = observed.precision * (self.mean_ / np.where(sizes > 0, sizes, 1.0)).T ** 2
        observed = replace(observed, precision=counts * self._is_common())
        layout = ScaledLayout(weights.shape[1])
        curve: Curve = ScaledCurve(weights, self.sizes_ - self.centre_)
        prior, raw = layout.prior(losses.shape[1]), self._start
        if repeats is not None:
            curve, prior = repeats.added_to(curve, prior)
        if raw is None:
            raw = minimise(curve, prior.mean, prior, observed, max_steps=self.max_steps)
        shared = SharedHelp.of(own, weights.shape[1])
        for _ in range(_SWEEPS):
            prior = layout.informed(prior, raw, shared)
            raw = minimise(curve, raw, prior, observed, max_steps=self.max_steps)
        self.raw_ = raw
        return raw, self.mean_, self.spread_

    def _fit_falls(self, left: Array) -> Array:
        """Fit what runs of other sizes are below the trend, on average, where that knows of one size alone.

        All of it would else be the process's, which does not fall on beyond the largest size.
        """
        fallen, falls = self._fallen(self.sizes_), np.zeros(left.shape[1])
        for target, values in enumerate(left.T):
            known = np.flatnonzero(fallen * ~np.isnan(values))
            sizes, size = np.unique(fallen[known], return_inverse=True)
            if len(sizes):
                below = [-pull_in(values[known[size == number]]).mean() for number in range(len(sizes))]
                falls[target] = sizes @ below / (sizes @ sizes)
        return falls

    def _krige(self, left: Array, target: int) -> None:
        """Fit z to the swarm."""
        here = np.flatnonzero(self._swarm() & ~np.isnan(left))
        if not len(here):
            return
        missed, roots = pull_in(left[here]), self._roots(self.weights_[here], target)
        length, noise = likeliest(roots, missed)
        if length >= 0:
            self.lengths_[target] = LENGTHS[length]
            alike = matern(cdist(roots, roots) / LENGTHS[length])
            alike[np.diag_indices_from(alike)] += NOISES[noise]
            self.kriged_[target, here] = np.linalg.solve(alike, missed)

    def _fit_process(self, losses: Array, trend: Array) -> None:
        """Fit g to all other runs."""
        runs = [self._fitted_places(target) for target in range(losses.shape[1])]
        left = losses - trend + np.outer(self._fallen(self.sizes_), self.falls_)
        for target, places in enumerate(runs):
            left[:, target] -= self._left_over(places, places, target)
        left = left[others := ~self._swarm()]
        told = np.flatnonzero(~np.isnan(left).all(axis=0))  # targets that these runs have a loss of
        if not len(told):
            return
        runs, left = [runs[target].take(others) for target in told], left[:, told]
        size = 1.4826 * np.nanmedian(np.abs(left - np.nanmedian(left, axis=0)), axis=0)
        size[size == 0] = 1.0
        left /= size
        self.hyper_ = self._learn(runs, left, others) if self._given is None else self._given
        if self.falls_.any():
            self.hyper_ = unsure_of_offset(self.hyper_)
        for row, places, unit, values in zip(told, runs, size, left.T, strict=True):
            known = ~np.isnan(values)
            coefficients = unit * solve(self.hyper_, places.take(known), values[known])
            self.coefficients_[row, np.flatnonzero(others)[known]] = coefficients

    def _learn(self, runs: Sequence[Places], left: Array, others: NDArray[np.bool_]) -> Array:
        """Learn from whole mixtures, those that the largest size has first, the others by chance."""
        mixture = np.unique(self.weights_[others], axis=0, return_inverse=True)[1].reshape(-1)
        order = generator(self.random_state, "sizes").permutation(mixture.max() + 1)
        is_largest = np.isin(order, mixture[runs[0].sizes[:, 0] == self.sizes_[:, 0].max()])
        order = order[np.argsort(~is_largest, kind="stable")]
        counts = np.bincount(mixture)[order].cumsum()
        some = np.isin(mixture, order[: max(1, int(np.searchsorted(counts, _LEARN_RUNS)))])
        targets = _LEARN_TARGETS * (_LEARN_RUNS / some.sum()) ** 3
        every = max(1, int(len(runs) / targets))
        return learn([places.take(some) for places in runs[::every]], list(left[some][:, ::every].T))
