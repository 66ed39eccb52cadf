"""Which mixtures are allowed: bounds of single domains and caps on how often a domain's data is repeated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from regmix_hf.errors import MixtureError, did_you_mean
from regmix_hf.readable import at_most

Array = NDArray[np.float64]

#: Bounds may miss each other, and sums may miss 1, by this much before a mixture is refused.
_TOLERANCE = 1e-9
#: What floating point may leave of a sum that is 0, relative to its terms.
_ROUNDING = 1e-14


@dataclass(frozen=True)
class EpochCap:
    """No domain is repeated more than `max_epochs` times in a run of `num_train_tokens`.

    Attributes:
        max_epochs: Most passes over a domain's data.
        available_tokens: What each domain holds.
        num_train_tokens: Length of the run, in the unit of `available_tokens`.
    """

    max_epochs: float
    available_tokens: Mapping[str, float]
    num_train_tokens: float

    def weight(self, domain: str) -> float:
        """Largest weight at which `domain` stays within the cap; may be above 1."""
        return self.max_epochs * self.available_tokens[domain] / self.num_train_tokens

    def explain(self, domain: str) -> str:
        """Say in words why `domain` may have no more."""
        return (
            f"domain {domain!r} has {at_most(self.available_tokens[domain])} tokens: at max_epochs "
            f"{self.max_epochs:g} and a run of {at_most(self.num_train_tokens)} tokens it may have "
            f"at most {_floor(self.weight(domain))}"
        )


@dataclass(frozen=True)
class Constraints:
    """The set of allowed mixtures: `lower <= w <= upper`, sum 1. One that exists leaves something to choose.

    Attributes:
        domains: Names, in the order of every array of weights.
        minimum: Least weight of single domains; default 0.
        maximum: Largest weight of single domains; default 1.
        fixed: Weights that are pinned.
        epochs: Cap on the repetition of data, or `None`.
        name: What error messages call these constraints, e.g. the recipe's section.

    Raises:
        MixtureError: On construction: an unknown domain, a bound outside 0..1, or constraints that no
            mixture meets, with the ones that clash and what would do.
    """

    domains: tuple[str, ...]
    minimum: Mapping[str, float] = field(default_factory=dict)
    maximum: Mapping[str, float] = field(default_factory=dict)
    fixed: Mapping[str, float] = field(default_factory=dict)
    epochs: EpochCap | None = None
    name: str = "constraints"

    def __post_init__(self) -> None:
        for kind, bounds in (("min", self.minimum), ("max", self.maximum), ("fixed", self.fixed)):
            for domain, weight in bounds.items():
                if domain not in self.domains:
                    raise MixtureError(
                        f"{self.name}.{kind}: {domain!r} is no domain; {did_you_mean(domain, self.domains)}"
                    )
                if not 0.0 <= weight <= 1.0:
                    raise MixtureError(f"{self.name}.{kind}.{domain} is {weight}; write a number in 0..1.")
        if self.epochs is not None:
            for domain in self.domains:
                if domain not in self.epochs.available_tokens:
                    raise MixtureError(f"{self.name}: max_epochs needs the number of tokens of {domain!r}.")
        for domain in self.domains:
            self._check_domain(domain)
        self._check_sums()

    @cached_property
    def lower(self) -> Array:
        """Least weight of every domain, `(d,)`."""
        return np.array([self._lower(domain) for domain in self.domains])

    @cached_property
    def upper(self) -> Array:
        """Largest weight of every domain, all bounds taken together, `(d,)`."""
        highest = np.array([self._upper(domain) for domain in self.domains])
        return np.maximum(highest, self.lower)  # they may miss each other by `_TOLERANCE`

    def project(self, points: Array, scale: Array | None = None) -> Array:
        """Return the allowed mixture nearest to each point; exact.

        Nearest is what makes `sum_i (x_i - w_i)^2 / scale_i` small: `clip(x - t * scale, lower, upper)` with
        the one `t` that makes the sum 1. The sum falls piecewise linearly with `t` and bends where a domain
        meets a bound, so `t` is found by sorting the bends (Wang and Lu 2015, "Projection onto the capped
        simplex", in O(d log d) a row).

        Args:
            points: `(n, d)`, any finite numbers.
            scale: `(n, d)`, above 0. Default: all 1, the Euclidean distance.

        Returns:
            `(n, d)`.
        """
        scale = np.ones_like(points) if scale is None else scale
        bends = np.concatenate([(points - self.upper) / scale, (points - self.lower) / scale], axis=1)
        order = np.argsort(bends, axis=1)
        bends = np.take_along_axis(bends, order, axis=1)
        bent = np.take_along_axis(np.concatenate([scale, -scale], axis=1), order, axis=1)
        falling = np.cumsum(bent, axis=1)  # slope right of each bend
        falls = falling[:, :-1] * np.diff(bends, axis=1)
        sums = self.upper.sum() - np.cumsum(np.pad(falls, ((0, 0), (1, 0))), axis=1)
        last = np.maximum((sums >= 1.0).sum(axis=1) - 1, 0)[:, None]  # the segment in which the sum passes 1
        start, excess, slope = (np.take_along_axis(a, last, axis=1) for a in (bends, sums - 1.0, falling))
        flat = _ROUNDING * scale.max(axis=1, keepdims=True)
        shift = start + np.divide(excess, slope, out=np.zeros_like(excess), where=slope > flat)
        return np.asarray(np.clip(points - shift * scale, self.lower, self.upper))

    def _lower(self, domain: str) -> float:
        return self.fixed.get(domain, self.minimum.get(domain, 0.0))

    def _upper(self, domain: str, *, with_epochs: bool = True) -> float:
        highest = self.fixed.get(domain, self.maximum.get(domain, 1.0))
        return min(highest, self.epochs.weight(domain)) if self.epochs and with_epochs else highest

    def _check_domain(self, domain: str) -> None:
        low, high = self.minimum.get(domain, 0.0), self.maximum.get(domain, 1.0)
        if low > high:
            raise MixtureError(f"{self.name}: {domain!r} has min {low} above its max {high}.")
        if domain in self.fixed and not low <= self.fixed[domain] <= high:
            raise MixtureError(
                f"{self.name}: {domain!r} is fixed to {self.fixed[domain]}; its bounds are {low} and {high}."
            )
        least = self._lower(domain)
        if self.epochs is not None and least > self.epochs.weight(domain) + _TOLERANCE:
            kind = "fixed" if domain in self.fixed else "min"
            needed = least * self.epochs.num_train_tokens / max(self.epochs.available_tokens[domain], 1e-300)
            raise MixtureError(
                f"{self.name}: {self.epochs.explain(domain)}, below its {kind} {least}.",
                f"write {kind} {_floor(self.epochs.weight(domain))} or less, or raise max_epochs to "
                f"{_ceil(needed)}",
            )

    def _check_sums(self) -> None:
        if (least := float(self.lower.sum())) > 1.0 + _TOLERANCE:
            demands = sorted(self.domains, key=self._lower, reverse=True)
            named = ", ".join(f"{d!r} {self._lower(d):g}" for d in demands if self._lower(d) > 0)
            raise MixtureError(
                f"{self.name}: the least weights sum to {least:.4g}, above 1: {named}.",
                f"lower min or fixed by {_ceil(least - 1.0)} together",
            )
        if (most := float(self.upper.sum())) < 1.0 - _TOLERANCE:
            raise MixtureError(f"{self.name}: {self._binding(most)}", self._remedy())

    def _binding(self, most: float) -> str:
        """Name the domains whose upper bounds leave too little, the two that may have most in full."""
        bound = sorted((d for d in self.domains if self._upper(d) < 1.0), key=self._upper, reverse=True)
        reasons = [self._explain_upper(domain) for domain in bound[:2]]
        others = f"; so it is for {len(bound) - 2} more" if len(bound) > 2 else ""
        return "; ".join(reasons) + f"{others}; all domains together may have {_floor(most)}, less than 1."

    def _explain_upper(self, domain: str) -> str:
        if self.epochs is not None and self._upper(domain) < self._upper(domain, with_epochs=False):
            return self.epochs.explain(domain)
        kind = "fixed to" if domain in self.fixed else "given max"
        return f"domain {domain!r} is {kind} {self._upper(domain):g}"

    def _remedy(self) -> str:
        highest = math.fsum(self._upper(domain, with_epochs=False) for domain in self.domains)
        if highest < 1.0:
            return f"raise max or fixed by {_ceil(1.0 - highest)} together"
        needed = self._needed_epochs()
        if self.epochs is None or needed is None:
            return "raise max or fixed of a domain that has tokens"
        shorter = self.epochs.num_train_tokens * self.epochs.max_epochs / needed
        return (
            f"raise max_epochs to {_ceil(needed)}, train on at most {at_most(shorter)} tokens, "
            "or give the domains more text"
        )

    def _needed_epochs(self) -> float | None:
        """The smallest `max_epochs` that would leave room; `None` when none would.

        What the domains may have together grows with `max_epochs`, linearly between the points at which
        a domain meets its own max.
        """
        if self.epochs is None:
            return None
        highest = np.array([self._upper(domain, with_epochs=False) for domain in self.domains])
        per_epoch = np.array([self.epochs.weight(domain) for domain in self.domains]) / self.epochs.max_epochs
        knots = np.sort(highest[per_epoch > 0] / per_epoch[per_epoch > 0])
        room = np.minimum(knots[:, None] * per_epoch, highest).sum(axis=1)
        if not len(room) or room[-1] < 1.0:
            return None
        return float(np.interp(1.0, [0.0, *room], [0.0, *knots]))


def _ceil(value: float) -> str:
    """Round up to three digits, so that the number is enough when it is written down."""
    digits = _digits(value)
    return f"{math.ceil(round(value * 10**digits, 6)) / 10**digits:g}"


def _floor(value: float) -> str:
    """Round down to three digits, so that the number is allowed when it is written down."""
    digits = _digits(value)
    return f"{math.floor(round(value * 10**digits, 6)) / 10**digits:g}"


def _digits(value: float) -> int:
    """Decimals that leave three significant digits."""
    return 2 - math.floor(math.log10(value)) if value > 0 else 0
