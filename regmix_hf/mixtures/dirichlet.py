"""RegMix's distribution of mixtures: Dirichlets of many concentrations around a prior, within constraints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from regmix_hf.errors import MixtureError
from regmix_hf.mixtures.capped_sum import Array
from regmix_hf.mixtures.constraints import Constraints

#: Different strengths between the weakest and the strongest (RegMix's public sampler).
NUM_STRENGTHS = 15
#: Where fewer draws than this meet the upper bounds, excess is handed on instead of drawn again.
_MIN_ACCEPTED = 0.01
#: The same with groups, which only candidates of a choice have: drawing on costs more and gains nothing.
_MIN_IN_GROUPS = 0.1
#: An upper bound may be passed by this much: the rounding of a sum.
_ROUNDING = 1e-12
#: Added to weights that are raised in proportion, so that one of 0 can be raised where no other can.
_LEAST_SCALE = 1e-9


@dataclass(frozen=True)
class AroundPrior:
    """Mixtures around a prior (RegMix, Liu et al. 2025, section 3.1 and appendix).

    A mixture is drawn from `Dirichlet(strength * prior**temperature / sum(prior**temperature))`, every one
    of 15 log-spaced strengths equally often; weights below a floor become 0. As in RegMix, draws beyond an
    upper bound are thrown away, so what the bounds allow keeps its distribution. Four things are new, and
    do nothing under RegMix's own settings:

    - A domain's least weight is set aside first; the Dirichlet shares out the rest.
    - Where less than 1 % of the draws meets the upper bounds, throwing away would not end. Then what a
      domain has too much is handed to the others in proportion to their weights, until all bounds are met.
    - So it is with groups: draws beyond their bounds are thrown away, and where less than a tenth is left, a
      group's weights are raised or lowered in proportion, until it has what it must, or may.
    - Gammas are drawn as logarithms: with a strength of 0.1 and a prior of 0.001 they are as small as
      e**-10000, and a Dirichlet that divides 0 by 0 would give NaN.

    Attributes:
        prior: Share of each domain in the available tokens; what has none is never drawn.
        constraints: Bounds of the domains.
        temperature: From 0 (uniform) to 1 (the prior itself).
        min_strength: Weakest concentration: nearly all weight on one domain.
        max_strength: Strongest concentration.
        min_weight: Weights below this become 0, or the domain's least weight.
    """

    prior: Mapping[str, float]
    constraints: Constraints
    temperature: float = 0.5
    min_strength: float = 0.1
    max_strength: float = 5.0
    min_weight: float = 0.0

    def __post_init__(self) -> None:
        reached = self.constraints.lower.copy()
        reached[self._drawn] = self.constraints.upper[self._drawn]
        _, most = self.constraints.span(self.constraints.lower, reached)
        if most < 1.0 - 1e-9:
            without = [d for d in self.constraints.domains if not self.prior[d]]
            raise MixtureError(
                f"{self.constraints.name}: the domains that the prior gives tokens may have at most "
                f"{most:.3g} together; {', '.join(map(repr, without))} has none.",
                "raise their max, or give the domain without tokens a min",
            )

    def chunks(self, rng: np.random.Generator, rows: int) -> Iterator[Array]:
        """Yield mixtures for ever, `(<= rows, d)` at a time; a multiple of 15 uses all strengths evenly.

        Raises:
            MixtureError: No draw is left by `min_weight` and the bounds.
        """
        keep = self._keep_within
        mixtures = keep(logs := self._draw(rng, rows))
        if len(mixtures) < (_MIN_IN_GROUPS if self.constraints.groups else _MIN_ACCEPTED) * rows:
            keep = self._hand_on
            mixtures = keep(logs)
        while True:
            if keep == self._hand_on and not len(mixtures):
                raise MixtureError(
                    f"{self.constraints.name}: no mixture of {len(self.prior)} domains has a weight of "
                    f"min_weight {self.min_weight} or more within the bounds.",
                    "lower min_weight",
                )
            yield mixtures
            mixtures = keep(self._draw(rng, rows))

    @cached_property
    def _mass(self) -> float:
        """What is left to share out after the least weights."""
        return max(0.0, 1.0 - float(self.constraints.lower.sum()))

    @cached_property
    def _room(self) -> Array:
        """What each domain may have on top of its least weight, `(d,)`."""
        return np.asarray(self.constraints.upper - self.constraints.lower)

    @cached_property
    def _drawn(self) -> NDArray[np.intp]:
        """Domains that the Dirichlet shares the mass among."""
        prior = np.array([self.prior[domain] for domain in self.constraints.domains])
        return np.flatnonzero((prior > 0) & (self._room > 0))

    def _draw(self, rng: np.random.Generator, rows: int) -> Array:
        """Draw `rows` unbounded mixtures of the drawn domains, as logarithms that are good up to a constant.

        `log Gamma(a) = log Gamma(a + 1) + log(U) / a` in distribution, which stays finite for any `a > 0`.
        """
        prior = np.array([self.prior[self.constraints.domains[i]] for i in self._drawn])
        centre = prior**self.temperature
        strengths = np.geomspace(self.min_strength, self.max_strength, NUM_STRENGTHS)
        concentration = np.resize(strengths, rows)[:, None] * centre / centre.sum()
        logs = -rng.standard_exponential(concentration.shape) / concentration  # -Exp is log U
        logs += np.log(rng.standard_gamma(concentration + 1.0))
        return logs

    def _keep_within(self, logs: Array) -> Array:
        """Turn draws into mixtures, leaving out those beyond an upper bound."""
        shares = softmax(logs, axis=1) * self._mass
        shares[self._is_floored(shares)] = 0.0
        total = shares.sum(axis=1, keepdims=True)
        shares *= np.divide(self._mass, total, out=np.zeros_like(total), where=total > 0)
        within = (shares <= self._room[self._drawn] + _ROUNDING).all(axis=1)
        mixtures = self._assemble(shares[within & ((total > 0).ravel() | (self._mass == 0))])
        return mixtures[self.constraints.allows(mixtures)] if self.constraints.groups else mixtures

    def _hand_on(self, logs: Array) -> Array:
        """Turn draws into mixtures, handing the excess over an upper bound to the other domains."""
        room = self._room[self._drawn]
        shares = _fill(logs, room, self._mass)
        floored = self._is_floored(shares)
        logs = np.where(floored, -np.inf, logs)
        enough = (~floored * room).sum(axis=1) >= self._mass - _ROUNDING
        again = enough & floored.any(axis=1)
        shares[again] = _fill(logs[again], room, self._mass)
        mixtures = self._assemble(shares[enough])
        return self._regroup(mixtures) if self.constraints.groups else mixtures

    def _regroup(self, mixtures: Array) -> Array:
        """Meet the bounds of groups, weights in proportion; without mixtures with one below the floor."""
        met = self.constraints.project(mixtures, mixtures + _LEAST_SCALE)
        low = (met < self.min_weight) & (met > self.constraints.lower + _LEAST_SCALE)
        return np.asarray(met[~low.any(axis=1)])

    def _is_floored(self, shares: Array) -> NDArray[np.bool_]:
        return (shares + self.constraints.lower[self._drawn]) < self.min_weight

    def _assemble(self, shares: Array) -> Array:
        mixtures = np.tile(self.constraints.lower, (len(shares), 1))
        mixtures[:, self._drawn] += shares
        return np.minimum(mixtures, self.constraints.upper)


def _fill(logs: Array, room: Array, mass: float) -> Array:
    """Share `mass` out in the proportions `exp(logs)`, no share above its `room`.

    The result is `min(room, c * exp(logs))` with one `c` a row: of all ways to share out within `room`, the
    one nearest to the draw in relative entropy. Domains that meet their room are set to it and the rest is
    shared out again; as the rest only grows, that ends after at most `d` rounds.

    Args:
        logs: `(n, d)`; where it is `-inf` the share is 0.
        room: `(d,)`, in sum over the finite `logs` of each row at least `mass`.
        mass: What each row of the result sums to.
    """
    shares = np.empty_like(logs)
    full = np.zeros(logs.shape, dtype=bool)
    rows = np.arange(len(logs))
    while len(rows):
        filled = full[rows]
        left = np.maximum(mass - (room * filled).sum(axis=1, keepdims=True), 0.0)
        open_logs = np.where(filled, -np.inf, logs[rows])
        largest = open_logs.max(axis=1, keepdims=True)
        parts = np.exp(open_logs - np.where(np.isfinite(largest), largest, 0.0))
        total = parts.sum(axis=1, keepdims=True)
        parts *= np.divide(left, total, out=np.zeros_like(total), where=total > 0)
        over = parts > room
        shares[rows] = np.where(filled, room, parts)
        full[rows] |= over
        rows = rows[over.any(axis=1)]
    return shares
