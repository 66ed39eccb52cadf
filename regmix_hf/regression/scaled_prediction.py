"""What a fitted law over mixtures, sizes and lengths predicts: the part of `ScaledLaw` that fits nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from regmix_hf.regression.base import Array, MixtureEstimator
from regmix_hf.regression.matern import matern
from regmix_hf.regression.power_law import WEIGHT_OFFSET
from regmix_hf.regression.scaled_curve import BY_PARAMETERS, ScaledCurve, ScaledLayout
from regmix_hf.regression.size_process import AtSize, Places, at_size, correlate, correlate_slope, covariance
from regmix_hf.regression.threads import one_blas_thread

#: Sizes with at least this share of the mixtures of the size that has most tell the trend.
_COMMON = 0.25
#: Rows of one prediction of the process over sizes at once.
_BLOCK_ROWS = 512


class ScaledPrediction(MixtureEstimator):
    """`loss_t(w, N, D) = trend_t(w, N, D) - fall_t(N) + z_t(w) + g_t(w, N, D)`, as `ScaledLaw` has it.

    Attributes:
        raw_: The trend's parameters (`ScaledLayout`), targets x parameters, of standardised losses.
        mean_: Mean loss of each target.
        spread_: Standard deviation of each.
        centre_: Mean log parameters and log tokens, `(2,)`.
        weights_: The fitted runs, runs x domains.
        sizes_: Log parameters and log tokens of each, runs x 2.
        lengths_: Length scale of z, one per target.
        totals_: Mean effective tokens, one per target.
        kriged_: Coefficients of z, targets x runs.
        level_: Mean and standard deviation of the fitted trend, targets x 2.
        hyper_: Hyperparameters of g.
        coefficients_: Coefficients of g, targets x runs.
        at_: Log parameters and log tokens that predictions are for, `(2,)`.
        falls_: What a run of endless parameters would lose less than the trend says, where that is told by
            runs of one size alone (`_fallen`), one per target.
    """

    is_smooth = True
    arrays: ClassVar = {
        "raw_": ("targets", "parameters"),
        "mean_": ("targets",),
        "spread_": ("targets",),
        "centre_": ("size",),
        "weights_": ("runs", "domains"),
        "sizes_": ("runs", "size"),
        "lengths_": ("targets",),
        "totals_": ("targets",),
        "kriged_": ("targets", "runs"),
        "level_": ("targets", "moments"),
        "hyper_": ("hyperparameters",),
        "coefficients_": ("targets", "runs"),
        "at_": ("size",),
        "falls_": ("targets",),
    }
    later_arrays: ClassVar = ("falls_",)

    raw_: Array
    mean_: Array
    spread_: Array
    centre_: Array
    weights_: Array
    sizes_: Array
    lengths_: Array
    totals_: Array
    kriged_: Array
    level_: Array
    hyper_: Array
    coefficients_: Array
    at_: Array
    falls_: Array

    def predict_runs(self, weights: Array, sizes: Array) -> Array:
        """Predict runs, each at its own log parameters and log tokens; runs x targets."""
        losses = self._trend(weights, sizes)
        falls = np.outer(self._fallen(sizes), self.falls_)
        rows = range(0, len(weights), _BLOCK_ROWS)
        with one_blas_thread():
            for target in range(self.num_targets_):
                runs = self._fitted_places(target)
                for block in (slice(start, start + _BLOCK_ROWS) for start in rows):
                    here = self._places(weights[block], sizes[block], losses[block, target], target)
                    losses[block, target] += self._left_over(here, runs, target)
        return np.asarray(losses - falls)

    def _left_over(self, here: Places, runs: Places, target: int) -> Array:
        kriged, coefficients = self.kriged_[target], self.coefficients_[target]
        left = np.zeros(len(here.trend))
        if len(used := np.flatnonzero(kriged)):
            left += matern(cdist(here.features, runs.features[used]) / self.lengths_[target]) @ kriged[used]
        if coefficients.any():
            left += self._beside_swarm(here.sizes) * (covariance(self.hyper_, here, runs) @ coefficients)
        return left

    def _is_common(self) -> NDArray[np.bool_]:
        """Runs of the sizes that have a good part of the mixtures: those that the trend can be told from."""
        sizes, size = np.unique(self.sizes_[:, 0], return_inverse=True)
        mixture = np.unique(self.weights_, axis=0, return_inverse=True)[1].reshape(-1)
        mixtures = np.array([len(np.unique(mixture[size == number])) for number in range(len(sizes))])
        return np.asarray((mixtures >= _COMMON * mixtures.max())[size])

    def _fallen(self, sizes: Array) -> Array:
        """`1 - (N / N_0)^-a`, with a as expected, where N_0 alone has mixtures enough for the trend; or 0."""
        common = np.unique(self.sizes_[self._is_common(), 0])
        if len(common) > 1:
            return np.zeros(len(sizes))
        return np.asarray(-np.expm1(-BY_PARAMETERS * (sizes[:, 0] - common[0])))

    def _swarm(self) -> NDArray[np.bool_]:
        """Runs of the one size and length that most runs are of; none where no size and length has half."""
        _, cell, counts = np.unique(self.sizes_, axis=0, return_inverse=True, return_counts=True)
        return np.asarray((2 * counts > len(self.sizes_))[cell.reshape(-1)])

    def _beside_swarm(self, sizes: Array) -> Array:
        """How much of g holds at each size and length: from 0 at the swarm's, where z tells all and g has no
        run, to 1 at the nearest other, in proportion to how far it is in log parameters and log tokens.
        """
        is_swarm = self._swarm()
        if is_swarm.all() or not is_swarm.any():
            return np.ones(len(sizes))
        swarm, others = self.sizes_[is_swarm][:1], self.sizes_[~is_swarm]
        return np.asarray(np.minimum(cdist(sizes, swarm)[:, 0] / cdist(others, swarm).min(), 1.0))

    def at_one_size(self) -> tuple[Array, Array, AtSize]:
        """What the runs add to the trend at the one size and length that predictions are for.

        Returns:
            The fitted mixtures, each once, whatever sizes it was run at, mixtures x domains; coefficients of
            z, targets x mixtures; and g, with what larger runs lose less in its offset.
        """
        mixtures, number = np.unique(self.weights_, axis=0, return_inverse=True)
        mixture = number.reshape(-1)
        level, spread = self.level_.T
        here = ((self._trend(mixtures, np.tile(self.at_, (len(mixtures), 1))) - level) / spread).T[:, mixture]
        trend = ((self._trend(self.weights_, self.sizes_) - level) / spread).T
        coefficients = self.coefficients_ * self._beside_swarm(self.at_[None])
        left = at_size(self.hyper_, self.at_, mixture, here, trend, self.sizes_, coefficients)
        left = replace(left, offset=left.offset - self._fallen(self.at_[None]) * self.falls_)
        kriged = np.zeros((self.num_targets_, len(mixtures)))
        np.add.at(kriged.T, mixture, self.kriged_.T)
        return mixtures, kriged, left

    def _predict(self, weights: Array) -> Array:
        losses = self._trend(weights, np.tile(self.at_, (len(weights), 1)))
        mixtures, kriged, left = self.at_one_size()
        with one_blas_thread():
            for target, (level, spread) in enumerate(self.level_):
                here, there = (self._roots(rows, target) for rows in (weights, mixtures))
                added = correlate(here, there, kriged[target], self.lengths_[target])
                added += left.left_over(target, here, (losses[:, target] - level) / spread, there)
                losses[:, target] += added
        return losses

    def _gradient(self, weights: Array) -> Array:
        curve = ScaledCurve(weights, np.tile(self.at_ - self.centre_, (len(weights), 1)))
        slope = curve.by_weight(self.raw_).transpose(1, 0, 2) * self.spread_[:, None]
        mixtures, kriged, left = self.at_one_size()
        for target, spread in enumerate(self.level_[:, 1]):
            here, there = (self._roots(rows, target) for rows in (weights, mixtures))
            by_feature = correlate_slope(here, there, kriged[target], self.lengths_[target])
            by_feature += correlate_slope(here, there, left.alike[target], left.length)
            turning = here * self._saturation(target) / (2 * (weights + WEIGHT_OFFSET))
            slope[:, target] *= 1 + left.slope[target] / spread
            slope[:, target] += by_feature * turning
        return slope

    def _trend(self, weights: Array, sizes: Array) -> Array:
        """The trend of runs, each at its own log parameters and log tokens; runs x targets."""
        standard = ScaledCurve(weights, sizes - self.centre_).values(self.raw_)
        return np.asarray(self.mean_ + self.spread_ * standard.T)

    def _saturation(self, target: int) -> Array:
        return ScaledLayout(self.n_features_in_).beta(self.raw_[[target]])[0]

    def _tokens(self, weights: Array, target: int) -> Array:
        helps = np.log(weights + WEIGHT_OFFSET) * self._saturation(target)
        return np.asarray(np.exp(helps + self.raw_[target, ScaledLayout(self.n_features_in_).affinities]))

    def _roots(self, weights: Array, target: int) -> Array:
        return np.asarray(np.sqrt(self._tokens(weights, target) / self.totals_[target]))

    def _places(self, weights: Array, sizes: Array, trend: Array, target: int) -> Places:
        mean, spread = self.level_[target]
        return Places(self._roots(weights, target), (trend - mean) / spread, sizes)

    def _fitted_places(self, target: int) -> Places:
        raw = self.raw_[[target]]
        standard = ScaledCurve(self.weights_, self.sizes_ - self.centre_).values(raw)[0]
        trend = self.mean_[target] + self.spread_[target] * standard
        return self._places(self.weights_, self.sizes_, trend, target)
