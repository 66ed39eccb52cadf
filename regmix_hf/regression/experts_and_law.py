"""Experts asked twice: by the formula of their mixture, and as runs on single domains to fit a law on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regmix_hf.regression.base import ENOUGH_TO_JUDGE, Array, MixtureEstimator
from regmix_hf.regression.experts import Experts
from regmix_hf.regression.kriged_power_law import KrigedPowerLaw

#: Fewer runs tell neither the scale of what experts say nor how far off it is.
_LEAST_RUNS = 2
#: Of the formula; the law has the rest.
_SHARE = 0.5


class ExpertsAndLaw(MixtureEstimator):
    """`loss_t(w) = (e_t(w) + l_t(w)) / 2` of `Experts` and of a `KrigedPowerLaw` that takes experts for runs.

    What an expert loses on a target is a loss like any, of a mixture that is one domain. So a law can be
    fitted where experts and mixtures together are ten, and knows the corners that no mixture comes near. The
    formula errs otherwise than the law does (`recipes/how-many-runs.md`).

    A target that the experts were not asked about is predicted by the law on the mixtures alone. A run that
    is itself one of the experts counts once, as the expert, and judges nothing (`of_experts`).

    Args:
        random_state: Seed of both.

    Attributes:
        experts_: The fitted formula.
        law_: The fitted law.
    """

    takes_experts: ClassVar = True
    needs_experts: ClassVar = True
    is_smooth = True
    parts: ClassVar = {"experts": Experts, "law": KrigedPowerLaw}

    experts_: Experts
    law_: KrigedPowerLaw

    def __init__(self, *, random_state: int = 0):
        self.random_state = random_state

    @classmethod
    def min_runs(cls, num_domains: int) -> int:
        """Return how many mixtures there must be beside an expert of each domain, at least two."""
        return max(_LEAST_RUNS, ENOUGH_TO_JUDGE - num_domains)

    @property
    def reach(self) -> Array | None:
        """As much of each domain as an expert was trained on."""
        return self.experts_.reach

    def out_of_fold(self, X: ArrayLike, y: ArrayLike, own: Sequence[int]) -> Array:
        """Predict each run by a line and a law that saw neither it nor its mixture."""
        weights = self._check_predictable(X)
        losses = np.asarray(y, dtype=np.float64).reshape(len(weights), -1)
        law = self.law_.out_of_fold(*self._with_experts(weights, losses), own)[: len(weights)]
        return self._mean(self.experts_.out_of_fold(weights, losses, own), law)

    def sampling_errors(self, weights: Array) -> Array:
        """Standard error of the difference between two mixtures, `(2, d) -> (t,)`, as tokens are a sample."""
        return np.asarray(self.shares * self.experts_.sampling_errors(weights))

    def _fit(self, weights: Array, losses: Array, own: NDArray[np.intp]) -> None:
        self.experts_ = Experts(random_state=self.random_state)
        self.experts_.fit(weights, losses, own_domains=own, experts=self._experts)
        self.law_ = KrigedPowerLaw(random_state=self.random_state)
        self.law_.fit(*self._with_experts(weights, losses), own_domains=own)

    def _with_experts(self, weights: Array, losses: Array) -> tuple[Array, Array]:
        """Runs and, behind them, experts: what they were trained on, and what they lose."""
        tokens = self.experts_.tokens_
        return np.vstack([weights, tokens.weights]), np.vstack([losses, tokens.losses])

    @property
    def shares(self) -> Array:
        """Of the formula, per target: none where the experts were not asked."""
        asked = [logs.shape[1] > 0 for logs in self.experts_.tokens_.logs]
        return np.where(asked, _SHARE, 0.0)

    def _mean(self, formula: Array, law: Array) -> Array:
        return np.asarray(self.shares * formula + (1.0 - self.shares) * law)

    def _predict(self, weights: Array) -> Array:
        formula, law = (
            model.predict(weights).reshape(len(weights), -1) for model in (self.experts_, self.law_)
        )
        return self._mean(formula, law)

    def _gradient(self, weights: Array) -> Array:
        share = self.shares[:, None]
        return np.asarray(
            share * self.experts_.gradient(weights) + (1.0 - share) * self.law_.gradient(weights)
        )
