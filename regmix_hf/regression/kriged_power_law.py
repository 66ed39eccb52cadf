"""The power law, and a Gaussian process over its effective tokens for what the law leaves over."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.spatial.distance import cdist

from regmix_hf.regression.base import MANY_RUNS, Array, telling_runs
from regmix_hf.regression.matern import MaternEstimator, matern
from regmix_hf.regression.power_law import WEIGHT_OFFSET, PowerLaw
from regmix_hf.regression.threads import one_blas_thread, side_by_side

#: Length scales to choose from, in root shares of effective tokens.
LENGTHS = (0.1, 0.2, 0.35, 0.6, 1.0, 1.7, 3.0, 6.0)
#: Noise variances to choose from, in units of the process's own.
NOISES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
#: A residual further out than this many robust standard deviations is pulled in to there.
_FARTHEST = 4.0


class KrigedPowerLaw(MaternEstimator):
    """`loss_t(w) = law_t(w) + z_t(sqrt(a_t(w) / s_t))`: universal kriging with the power law as its trend.

    `a_t(w)` are the effective tokens of each domain for the target (`PowerLaw.effective_tokens`), `s_t` their
    mean total over the fitted runs and `z_t` a Matern 5/2 process: mixtures are alike when they help the
    target alike. Length scale and noise have the largest marginal likelihood on a grid; when no process
    at all is likelier, the law stands alone.

    Args:
        random_state: Seed of which runs tell length scale and noise, where there are many.

    Attributes:
        law_: The fitted `PowerLaw`.
        lengths_: Length scale of each target.
        totals_: s, one per target.
        weights_: The fitted runs, runs x domains.
        coefficients_: Targets x runs; all 0 where the law stands alone.

    >>> weights = np.random.default_rng(0).dirichlet([1, 1, 1], 24)
    >>> model = KrigedPowerLaw().fit(weights, 3 - np.sqrt(weights[:, 0]))
    >>> model.predict([[0.5, 0.3, 0.2]]).round(2)
    array([2.29])
    """

    takes_epochs = True
    arrays: ClassVar = {**MaternEstimator.arrays, "lengths_": ("targets",), "totals_": ("targets",)}
    parts: ClassVar = {"law": PowerLaw}

    law_: PowerLaw
    lengths_: Array
    totals_: Array
    #: Indices into the grids to keep instead of choosing: length scale and noise of each target, or -1.
    _given: NDArray[np.intp] | None = None
    _chosen: NDArray[np.intp]
    _unfitted: PowerLaw | None = None

    def __init__(self, *, random_state: int = 0):
        self.random_state = random_state

    def _for_fold(self) -> Self:
        """The law starts where it ended; from `MANY_RUNS` runs on, lengths and noises are chosen once."""
        part = super()._for_fold()
        part._unfitted = self.law_._for_fold()
        if len(self.weights_) >= MANY_RUNS:
            part._given = self._chosen
        return part

    def _fit(self, weights: Array, losses: Array, own: NDArray[np.intp]) -> None:
        self.law_ = (self._unfitted or PowerLaw())._fit_unchecked(weights, losses, own)
        self.weights_ = weights
        self.lengths_ = np.ones(losses.shape[1])
        left = losses - self.law_.predict(weights)
        self.totals_ = np.array(
            [
                self.law_.effective_tokens(weights, target).sum(axis=1).mean()
                for target in range(left.shape[1])
            ]
        )

        def solve(target: int) -> tuple[NDArray[np.intp], Array]:
            known = ~np.isnan(left[:, target])
            residual = pull_in(left[known, target])
            roots = self._features(weights[known], target)[0]
            some = telling_runs(len(residual), self.random_state)
            chosen = likeliest(roots[some], residual[some]) if self._given is None else self._given[target]
            coefficients = np.zeros(len(left))
            if chosen[0] >= 0:
                correlation = matern(cdist(roots, roots) / LENGTHS[chosen[0]])
                correlation[np.diag_indices_from(correlation)] += NOISES[chosen[1]]
                coefficients[known] = np.linalg.solve(correlation, residual)
            return chosen, coefficients

        with one_blas_thread():
            chosen, coefficients = zip(*side_by_side(solve, range(left.shape[1])), strict=True)
        self._chosen, self.coefficients_ = np.stack(chosen), np.stack(coefficients)
        self.lengths_ = np.array([LENGTHS[length] if length >= 0 else 1.0 for length, _ in self._chosen])

    def _features(self, weights: Array, target: int) -> tuple[Array, Array]:
        tokens = self.law_.effective_tokens(weights, target)
        roots = np.sqrt(tokens / self.totals_[target]) / self.lengths_[target]
        return roots, roots * self.law_.saturation_[target] / (2 * (weights + WEIGHT_OFFSET))

    def _trend(self, weights: Array) -> Array:
        return self.law_.predict(weights)

    def _trend_gradient(self, weights: Array) -> Array:
        return self.law_.gradient(weights)


def pull_in(residual: Array) -> Array:
    """Bring in residuals far outside the others."""
    farthest = _FARTHEST * 1.4826 * np.median(np.abs(residual))
    return np.clip(residual, -farthest, farthest)


def likeliest(roots: Array, residual: Array) -> NDArray[np.intp]:
    """Indices of the length scale and noise of the largest marginal likelihood; -1, -1 for no process.

    The variance of the process is profiled out (Rasmussen and Williams 2006, eq. 5.8).
    """
    runs = len(residual)
    apart = cdist(roots, roots)
    best, chosen = 0.5 * runs * np.log(max((residual**2).mean(), np.finfo(float).tiny)), (-1, -1)
    for i, length in enumerate(LENGTHS):
        eigenvalues, vectors = eigh(matern(apart / length))
        along = vectors.T @ residual
        for j, noise in enumerate(NOISES):
            spectrum = np.maximum(eigenvalues, 0.0) + noise
            variance = max((along**2 / spectrum).mean(), np.finfo(float).tiny)
            value = 0.5 * runs * np.log(variance) + 0.5 * np.log(spectrum).sum()
            if value < best:
                best, chosen = value, (i, j)
    return np.array(chosen)
