"""What a choice makes small: the predicted target, and what straying from the prior costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from scipy.special import logsumexp, softmax, xlogy

from regmix_hf.errors import MixtureError
from regmix_hf.mixtures import Array, Constraints
from regmix_hf.regression import MixtureRegressor
from regmix_hf.regression.base import MixtureEstimator, Segment
from regmix_hf.regression.target import Target

#: Smallest weight in the derivative of the divergence, which is infinite at 0.
_SMALLEST_WEIGHT = 1e-12
#: Sums in another order differ by less than this, in nats.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Objective:
    """`target(values(w)) + kl_strength * KL(w || prior)`, to be made small, in the target's unit.

    Of what is better when higher, the negative is made small, as families are fitted to it.

    The divergence is that of Olmix's optimiser (Olmo team 2025): it keeps a mixture near the data's own
    unless the predictions pay for leaving it. With strength 0 this is RegMix's objective.

    Attributes:
        model: Predicts the targets that take part, and no others.
        shares: Share of each of them in a weighted mean, `(t,)`; `None` for the worst of them.
        prior: Share of each domain in the available tokens, `(d,)`.
        kl_strength: What one nat of divergence costs.
        factors: What each prediction is multiplied by, `(t,)`; above 0.
        offsets: What is then added to each, `(t,)`.
    """

    model: MixtureEstimator
    shares: Array | None
    prior: Array
    kl_strength: float = 0.0
    factors: Array | float = 1.0
    offsets: Array | float = 0.0

    @classmethod
    def of(
        cls,
        regressor: MixtureRegressor,
        target: Target,
        constraints: Constraints,
        prior: Mapping[str, float],
        kl_strength: float,
    ) -> Self:
        """Take from a regressor what `target` needs.

        Raises:
            MixtureError: The divergence from a prior that gives an allowed domain nothing is infinite.
        """
        domains = regressor.domains_
        for domain, highest in zip(domains, constraints.upper, strict=True):
            if kl_strength > 0 and prior[domain] == 0 and highest > 0:
                raise MixtureError(
                    f"kl_strength is {kl_strength:g}, but the prior gives domain {domain!r} nothing, so any "
                    "weight of it would cost infinitely much.",
                    f"set {constraints.name}.max.{domain} to 0, or kl_strength to 0",
                )
        used = [regressor.targets_.index(name) for name in target.weights]
        return cls(
            model=regressor.model.select_targets(used),
            shares=target.shares if target.is_linear else None,
            prior=np.array([prior[domain] for domain in domains]),
            kl_strength=kl_strength,
            factors=1.0 / target.spreads,
            offsets=target.offsets,
        )

    def __call__(self, weights: Array) -> Array:
        """Value of each row of `weights`, `(n, d) -> (n,)`."""
        return self.combine(self.model.predict(weights)) + self.divergence_cost(weights)

    def below(self, weights: Array, ceiling: float) -> Array:
        """Value of each row, `(n,)`; infinite for rows that are seen to lie above `ceiling` on the way.

        Where a prediction is a sum whose later terms have a bound, a row whose sum so far plus that bound is
        above the ceiling need not be followed.
        """
        values = np.full(len(weights), np.inf)
        rows = np.arange(len(weights))
        sums = np.zeros((len(weights), self.model.num_targets_))
        for segment in self._segments if np.isfinite(ceiling) else ():
            sums[rows] += segment.predict(weights[rows])
            least = self.combine(sums[rows] + segment.still_to_come) + self.divergence_cost(weights[rows])
            rows = rows[least <= ceiling + _ROUNDING]
            if not len(rows):
                return values
        values[rows] = self(weights[rows])
        return values

    @cached_property
    def _segments(self) -> list[Segment]:
        return self.model.segments()

    def combine(self, losses: Array) -> Array:
        """The target made of the model's predictions, `(n, t) -> (n,)`."""
        values = losses * self.factors + self.offsets
        return np.asarray(values.max(axis=1) if self.shares is None else values @ self.shares)

    def values(self, weights: Array) -> Array:
        """What the worst is taken of, `(n, t)`."""
        return np.asarray(self.model.predict(weights) * self.factors + self.offsets)

    def values_slope(self, weights: Array) -> Array:
        """Its derivatives with respect to the weights, `(n, t, d)`; the model must be smooth."""
        return np.asarray(self.model.gradient(weights) * np.asarray(self.factors)[..., None])

    def slope(self, weights: Array) -> Array:
        """Derivatives of a weighted mean with respect to the weights, `(n, d)`; the model must be smooth."""
        if self.shares is None:
            raise ValueError("the worst of several losses has no derivatives")
        slope = np.einsum("t,ntd->nd", self.shares, self.values_slope(weights))
        return np.asarray(slope + self.divergence_slope(weights))

    def smooth_worst(self, weights: Array, smoothing: float) -> Array:
        """The worst loss as `m * log sum_t exp(loss_t / m)`, at most `m * log t` above it, `(n,)`."""
        losses = self.values(weights)
        return np.asarray(smoothing * logsumexp(losses / smoothing, axis=1) + self.divergence_cost(weights))

    def smooth_worst_slope(self, weights: Array, smoothing: float) -> Array:
        """Derivatives of `smooth_worst` with respect to the weights, `(n, d)`; the model must be smooth."""
        shares = softmax(self.values(weights) / smoothing, axis=1)
        slope = np.einsum("nt,ntd->nd", shares, self.values_slope(weights))
        return np.asarray(slope + self.divergence_slope(weights))

    def divergence_cost(self, weights: Array) -> Array:
        """`kl_strength * KL(w || prior)` of each row, `(n,)`."""
        if self.kl_strength == 0:
            return np.zeros(len(weights))
        safe = np.where(self.prior > 0, self.prior, 1.0)  # weights are 0 where the prior is
        return np.asarray(self.kl_strength * xlogy(weights, weights / safe).sum(axis=1))

    def divergence_slope(self, weights: Array) -> Array:
        """Derivative of `divergence_cost` with respect to the weights, `(n, d)`."""
        if self.kl_strength == 0:
            return np.zeros_like(weights)
        safe = np.where(self.prior > 0, self.prior, 1.0)
        return np.asarray(self.kl_strength * (np.log(np.maximum(weights, _SMALLEST_WEIGHT) / safe) + 1.0))
