"""What the two Gaussian-process families share: a Matern 5/2 kernel over features of the weights."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from scipy.spatial.distance import cdist

from regmix_hf.regression.base import Array, MixtureEstimator
from regmix_hf.regression.threads import side_by_side

_ROOT5 = np.sqrt(5.0)
#: From this many mixtures on, predictions are made in single precision.
_MANY_ROWS = 1024
#: Mixtures whose correlations with 512 runs fit a core's cache.
_BLOCK_ROWS = 256


def matern(distance: Array) -> Array:
    """Matern 5/2 correlation at a distance in length scales (Rasmussen and Williams 2006, eq. 4.17)."""
    far = _ROOT5 * distance
    correlation: Array = (1 + far + far**2 / 3) * np.exp(-far)
    return correlation


def matern_slope(distance: Array) -> Array:
    """Derivative of the correlation with respect to half the squared distance; finite at 0."""
    far = _ROOT5 * distance
    slope: Array = -5 / 3 * (1 + far) * np.exp(-far)
    return slope


def correlate_exactly(here: Array, runs: Array, coefficients: Array) -> Array:
    """Return `sum_j coefficient_j * matern(|here_i - runs_j|)` for each row of `here`, `(n,)`."""
    return np.asarray(matern(cdist(here, runs)) @ coefficients)


def correlate_quickly(
    here: Array, runs: Array, coefficients: Array, kind: type[np.floating[Any]] = np.float32
) -> Array:
    """The same block by block in a core's cache, distances from one product.

    In single precision it is five times as fast, and off by about a millionth of the sum of the coefficients'
    sizes: nothing to the choice among a million mixtures, too much for the last steps of an optimiser. In
    double precision it is off by what rounding is.
    """
    centre = runs.mean(axis=0)
    away, there = _ROOT5 * (here - centre), _ROOT5 * (runs - centre)
    # One product gives five times the squared distance: |a|^2 - 2 a.b + |b|^2.
    left = np.column_stack([away, (away**2).sum(axis=1), np.ones(len(away))]).astype(kind)
    right = np.column_stack([-2 * there, np.ones(len(there)), (there**2).sum(axis=1)]).astype(kind)
    weights = coefficients.astype(kind)
    sums = np.empty(len(here))
    for start in range(0, len(here), _BLOCK_ROWS):
        square = np.maximum(left[start : start + _BLOCK_ROWS] @ right.T, kind(0))
        far = np.sqrt(square)
        square *= kind(1 / 3)
        square += far
        square += kind(1)
        np.exp(np.negative(far, out=far), out=far)
        square *= far
        sums[start : start + _BLOCK_ROWS] = square @ weights
    return sums


class MaternEstimator(MixtureEstimator):
    """`loss_t(w) = trend_t(w) + sum_j coefficient_tj * matern(|f_t(w) - f_t(w_j)|)` over the fitted runs j.

    A family defines the trend and the features `f_t`, each a function of one domain's weight: one or several
    per domain, first one of every domain, then the next.

    Attributes:
        weights_: The fitted runs, runs x domains.
        coefficients_: Targets x runs; 0 where a run has no loss.
    """

    is_smooth = True
    arrays: ClassVar = {"weights_": ("runs", "domains"), "coefficients_": ("targets", "runs")}

    weights_: Array
    coefficients_: Array

    def _predict(self, weights: Array) -> Array:
        losses = self._trend(weights)
        correlate = correlate_exactly if len(weights) < _MANY_ROWS else correlate_quickly

        def add(target: int) -> None:
            here, runs = (self._features(rows, target)[0] for rows in (weights, self.weights_))
            losses[:, target] += correlate(here, runs, self.coefficients_[target])

        side_by_side(add, np.flatnonzero(self.coefficients_.any(axis=1)).tolist())
        return losses

    def _gradient(self, weights: Array) -> Array:
        slope = self._trend_gradient(weights)
        for target, coefficients in enumerate(self.coefficients_):
            if coefficients.any():
                here, turning = self._features(weights, target)
                runs = self._features(self.weights_, target)[0]
                pull = matern_slope(cdist(here, runs)) * coefficients
                by_feature = (pull.sum(axis=1, keepdims=True) * here - pull @ runs) * turning
                slope[:, target] += by_feature.reshape(len(here), -1, weights.shape[1]).sum(axis=1)
        return slope

    def _features(self, weights: Array, target: int) -> tuple[Array, Array]:
        """Return features in length scales, runs x features, and the derivative of each by its own weight."""
        raise NotImplementedError

    def _trend(self, weights: Array) -> Array:
        raise NotImplementedError

    def _trend_gradient(self, weights: Array) -> Array:
        raise NotImplementedError
