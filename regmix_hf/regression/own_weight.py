"""The trivial baseline: the more of the target's own domain, the lower its loss."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from regmix_hf.regression.base import Array
from regmix_hf.regression.linear import LinearEstimator

#: The least a loss falls per unit of weight, so that the ranks are always those of minus the weight.
_LEAST_FALL = 1e-6


class OwnWeight(LinearEstimator):
    """`loss_t(w) = intercept_t - fall_t * w_d` with `d` the target's own domain. Show it beside every claim.

    The line is fitted by least squares, but never rises: it ranks mixtures by minus the weight of `d`.
    A target that is no domain's loss (a validation-only domain, the mean of several) has no own
    weight; it gets the one domain whose weight ranks the losses of the fitted runs best.

    Args:
        random_state: Unused; every estimator has one.

    Attributes:
        coef_: Targets x domains; the one entry of a row that is not 0 is the target's domain, and negative.
        intercept_: One per target.

    >>> weights = np.random.default_rng(0).dirichlet([1, 1, 1], 24)
    >>> model = OwnWeight().fit(weights, 3 - np.sqrt(weights[:, 0]))
    >>> model.predict([[0.5, 0.3, 0.2]]).round(2)
    array([2.29])
    """

    def __init__(self, *, random_state: int = 0):
        self.random_state = random_state

    @classmethod
    def min_runs(cls, num_domains: int) -> int:
        """Two runs make a line."""
        return 2

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True  # one domain of many, on purpose
        return tags

    def _fit(self, weights: Array, losses: Array, own: NDArray[np.intp]) -> None:
        self.coef_ = np.zeros((losses.shape[1], weights.shape[1]))
        self.intercept_ = np.empty(losses.shape[1])
        for target, loss in enumerate(losses.T):
            known = ~np.isnan(loss)
            domain = own[target] if own[target] >= 0 else _best_single_domain(weights[known], loss[known])
            weight = weights[known, domain]
            variance = weight.var()
            slope = ((weight - weight.mean()) @ loss[known]) / (len(weight) * variance) if variance else 0.0
            slope = min(slope, -_LEAST_FALL)
            self.coef_[target, domain] = slope
            self.intercept_[target] = loss[known].mean() - slope * weight.mean()


def _best_single_domain(weights: Array, loss: Array) -> int:
    """The domain whose weight has the most negative rank correlation with the loss."""
    ranks = rankdata(weights, axis=0) - (len(loss) + 1) / 2
    spread = np.sqrt((ranks**2).sum(axis=0))
    covariance = ranks.T @ rankdata(loss)
    return int(np.divide(covariance, spread, out=np.zeros_like(spread), where=spread > 0).argmin())
