"""A Gaussian process over roots and logarithms of the weights, its length scales learned per domain."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky
from scipy.optimize import minimize
from scipy.spatial.distance import cdist

from regmix_hf.regression.base import MANY_RUNS, Array, telling_runs
from regmix_hf.regression.matern import MaternEstimator, matern, matern_slope
from regmix_hf.regression.threads import one_blas_thread, side_by_side

#: Added to every weight, so that its square root has a slope at 0.
WEIGHT_OFFSET = 1e-4
#: The same for its logarithm, and what that is divided by: a weight from nothing to all then moves both
#: features by about as much.
LOG_OFFSET, LOG_SCALE = 1e-3, 4.0

#: Priors of the logarithms, losses standardised: mean and precision.
_LENGTH_PRIOR = (1.5, 0.5)
_SIGNAL_PRIOR = (0.5, 0.1)
_NOISE_PRIOR = (-4.0, 0.1)


class GaussianProcess(MaternEstimator):
    """A constant plus a Matern 5/2 process over `[sqrt(w + 1e-4), log(w + 1e-3) / 4]`, a length scale each.

    On the square roots the kernel sees that the first percent of a domain matters more than the tenth, on the
    logarithms that a domain which is absent may be another matter than one present at a fifth of a percent.
    Length scales, signal and noise have the largest posterior: the marginal likelihood (Rasmussen and
    Williams 2006, eq. 5.8) with a weak prior on their logarithms. `GaussianProcessRegressor` has no
    such prior and takes 32 times as long (128 of RegMix's runs, 3 targets: Spearman 68.2 %, not 98.2 %).

    Args:
        max_steps: Most L-BFGS steps per target.
        random_state: Seed of which runs tell the hyperparameters, where there are many.

    Attributes:
        mean_: The constant, one per target.
        lengths_: Length scales, targets x features: the root of every domain, then the logarithms.
        weights_: The fitted runs, runs x domains.
        coefficients_: Targets x runs.

    >>> weights = np.random.default_rng(0).dirichlet([1, 1, 1], 24)
    >>> model = GaussianProcess().fit(weights, 3 - np.sqrt(weights[:, 0]))
    >>> model.predict([[0.5, 0.3, 0.2]]).round(2)
    array([2.29])
    """

    arrays: ClassVar = {
        **MaternEstimator.arrays,
        "mean_": ("targets",),
        "lengths_": ("targets", "features"),
    }

    mean_: Array
    lengths_: Array
    #: Hyperparameters to keep instead of learning them, targets x (features + 2).
    _given: Array | None = None
    _learned: Array

    def __init__(self, max_steps: int = 20, *, random_state: int = 0):
        self.max_steps = max_steps
        self.random_state = random_state

    def _for_fold(self) -> Self:
        """From `MANY_RUNS` runs on, the hyperparameters are learned once."""
        part = super()._for_fold()
        if len(self.weights_) >= MANY_RUNS:
            part._given = self._learned
        return part

    def _fit(self, weights: Array, losses: Array, own: NDArray[np.intp]) -> None:
        features = _features_of(weights)

        def solve(target: int) -> tuple[Array, Array, float]:
            loss = losses[:, target]
            known = ~np.isnan(loss)
            mean, spread = loss[known].mean(), loss[known].std() or 1.0
            standard = (loss[known] - mean) / spread
            if self._given is None:
                some = telling_runs(len(standard), self.random_state)
                hyper = _learn(features[known][some], standard[some], self.max_steps)
            else:
                hyper = self._given[target]
            coefficients = np.zeros(len(loss))
            coefficients[known] = spread * _coefficients(features[known], standard, hyper)
            return hyper, coefficients, mean

        with one_blas_thread():
            learned, coefficients, means = zip(*side_by_side(solve, range(losses.shape[1])), strict=True)
        self.weights_, self.coefficients_ = weights, np.stack(coefficients)
        self._learned, self.mean_ = np.stack(learned), np.array(means)
        self.lengths_ = np.exp(self._learned[:, :-2])

    def _features(self, weights: Array, target: int) -> tuple[Array, Array]:
        # A fit of version 0.1 has length scales of the roots only.
        lengths = self.lengths_[target]
        slopes = [0.5 / np.sqrt(weights + WEIGHT_OFFSET), 1 / (LOG_SCALE * (weights + LOG_OFFSET))]
        return (
            _features_of(weights)[:, : len(lengths)] / lengths,
            np.concatenate(slopes, axis=1)[:, : len(lengths)] / lengths,
        )

    def _trend(self, weights: Array) -> Array:
        return np.tile(self.mean_, (len(weights), 1))

    def _trend_gradient(self, weights: Array) -> Array:
        return np.zeros((len(weights), self.num_targets_, self.n_features_in_))


def _features_of(weights: Array) -> Array:
    """Roots, then logarithms: runs x twice the domains."""
    logs = np.log(weights + LOG_OFFSET) / LOG_SCALE
    return np.concatenate([np.sqrt(weights + WEIGHT_OFFSET), logs], axis=1)


def _learn(features: Array, standard: Array, max_steps: int) -> Array:
    """Hyperparameters of the largest posterior, laid out as `negative_log_posterior` says."""
    start = np.full(features.shape[1] + 2, _LENGTH_PRIOR[0])
    start[-2:] = _SIGNAL_PRIOR[0], _NOISE_PRIOR[0]
    bounds = [(-4.0, 6.0)] * features.shape[1] + [(-6.0, 6.0), (-12.0, 2.0)]
    result = minimize(
        negative_log_posterior,
        start,
        args=(features, standard),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": max_steps},
    )
    learned: Array = result.x
    return learned


def negative_log_posterior(hyper: Array, features: Array, standard: Array) -> tuple[float, Array]:
    """Minus the log posterior of the hyperparameters up to a constant, and its gradient.

    Args:
        hyper: Log length scale of every feature, log signal variance, log noise variance.
        features: Of the weights, runs x features.
        standard: Standardised losses.
    """
    scaled = features / np.exp(hyper[:-2])
    signal, noise = np.exp(hyper[-2:])
    apart = cdist(scaled, scaled)
    covariance = signal * matern(apart)
    factor = cholesky(covariance + noise * np.eye(len(features)), lower=True)
    inverse = cho_solve((factor, True), np.eye(len(features)))
    solved = inverse @ standard
    # d nll / d K = (K^-1 - solved solved') / 2, K the whole covariance.
    by_covariance = 0.5 * (inverse - np.outer(solved, solved))
    by_half_square = by_covariance * signal * matern_slope(apart)
    # d(|u_i - u_j|^2 / 2) / d log l_k = -(u_ik - u_jk)^2, summed over all pairs without forming them.
    by_length = -2 * (
        by_half_square.sum(axis=1) @ scaled**2
        - np.einsum("ik,ij,jk->k", scaled, by_half_square, scaled, optimize=True)
    )
    mean = np.full(len(hyper), _LENGTH_PRIOR[0])
    precision = np.full(len(hyper), _LENGTH_PRIOR[1])
    (mean[-2], precision[-2]), (mean[-1], precision[-1]) = _SIGNAL_PRIOR, _NOISE_PRIOR
    away = hyper - mean
    value = np.log(np.diag(factor)).sum() + 0.5 * standard @ solved + 0.5 * precision @ away**2
    slope = precision * away
    slope[:-2] += by_length
    slope[-2] += (by_covariance * covariance).sum()
    slope[-1] += noise * np.trace(by_covariance)
    return float(value), slope


def _coefficients(features: Array, standard: Array, hyper: Array) -> Array:
    scaled = features / np.exp(hyper[:-2])
    signal, noise = np.exp(hyper[-2:])
    covariance = signal * matern(cdist(scaled, scaled)) + noise * np.eye(len(features))
    solved: Array = signal * cho_solve((cholesky(covariance, lower=True), True), standard)
    return solved
