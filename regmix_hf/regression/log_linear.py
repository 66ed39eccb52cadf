"""The log-linear data mixing law (Ye et al. 2024, "Data Mixing Laws", eq. 1; Olmix fits the same form)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from regmix_hf.regression.base import Array, MixtureEstimator
from regmix_hf.regression.least_squares import Prior, minimise, standardised


class LogLinear(MixtureEstimator):
    """`loss_t(w) = floor_t + exp(rate_t . w)`; the law's factor k is in the rates, as weights sum to 1.

    The fit minimises a robust loss of the standardised losses with a weak Gaussian prior on floor and rates.

    Args:
        robust_scale: Residuals well above this many standard deviations of the losses count linearly.
        max_steps: Most Levenberg-Marquardt steps of the fit.
        random_state: Unused; every estimator has one.

    Attributes:
        floor_: One per target.
        scale_: One per target: the losses' standard deviation.
        rate_: Targets x domains; `loss = floor + scale * exp(rate . w)`.

    >>> weights = np.random.default_rng(0).dirichlet([1, 1, 1], 24)
    >>> model = LogLinear().fit(weights, 3 - np.sqrt(weights[:, 0]))
    >>> model.predict([[0.5, 0.3, 0.2]]).round(2)
    array([2.28])
    """

    is_smooth = True
    arrays: ClassVar = {"floor_": ("targets",), "scale_": ("targets",), "rate_": ("targets", "domains")}

    floor_: Array
    scale_: Array
    rate_: Array

    def __init__(self, robust_scale: float = 3.0, max_steps: int = 200, *, random_state: int = 0):
        self.robust_scale = robust_scale
        self.max_steps = max_steps
        self.random_state = random_state

    def _fit(self, weights: Array, losses: Array, own: NDArray[np.intp]) -> None:
        observed, mean, spread = standardised(losses, self.robust_scale)
        centre = np.zeros((losses.shape[1], 1 + weights.shape[1]))
        precision = np.full_like(centre, 3e-4)
        centre[:, 0], precision[:, 0] = -2.0, 0.1
        raw = minimise(
            LogLinearCurve(weights), centre, Prior(centre, precision), observed, max_steps=self.max_steps
        )
        self.floor_, self.scale_, self.rate_ = mean + spread * raw[:, 0], spread, raw[:, 1:]

    def _predict(self, weights: Array) -> Array:
        losses: Array = self.floor_ + self.scale_ * np.exp(weights @ self.rate_.T)
        return losses

    def _gradient(self, weights: Array) -> Array:
        growing = self.scale_ * np.exp(weights @ self.rate_.T)
        slope: Array = growing[:, :, None] * self.rate_
        return slope


class LogLinearCurve:
    """The law of runs x domains over its parameters (floor, then rates), with derivatives, for `minimise`."""

    def __init__(self, weights: Array):
        self.weights = weights

    def __call__(self, parameters: Array) -> tuple[Array, Array]:
        """Return values, problems x runs, and derivatives, problems x runs x parameters."""
        growing = np.exp(parameters[:, 1:] @ self.weights.T)
        jacobian = np.empty((*growing.shape, parameters.shape[1]))
        jacobian[:, :, 0] = 1.0
        jacobian[:, :, 1:] = growing[:, :, None] * self.weights
        return parameters[:, [0]] + growing, jacobian
