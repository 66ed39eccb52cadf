"""Which mixtures are allowed: bounds of domains, alone and in groups, and caps on repeating their data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from regmix_hf.errors import MixtureError, did_you_mean
from regmix_hf.mixtures.capped_sum import Array, meet_sum
from regmix_hf.readable import at_most
from regmix_hf.recipe import Group

#: Bounds may miss each other, and sums may miss 1, by this much before a mixture is refused.
_TOLERANCE = 1e-9
#: A mixture may pass a bound by this much: the rounding of a sum.
_SLACK = 1e-12


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
class Part:
    """Domains that are bounded together; one that is in no group is a part of its own.

    Attributes:
        name: In words.
        places: Of its domains in every array of weights.
        least: What they must have together, beside what each must.
        most: What they may have together.
    """

    name: str
    places: NDArray[np.intp]
    least: float
    most: float


@dataclass(frozen=True)
class Constraints:
    """The set of allowed mixtures: `lower <= w <= upper`, the sums of groups within theirs, sum 1.

    One that exists leaves something to choose.

    Attributes:
        domains: Names, in the order of every array of weights.
        minimum: Least weight of single domains; default 0.
        maximum: Largest weight of single domains; default 1.
        fixed: Weights that are pinned.
        groups: Domains that are bounded together, each in one group at most, by name.
        epochs: Cap on the repetition of data, or `None`.
        name: What error messages call these constraints, e.g. the recipe's section.

    Raises:
        MixtureError: On construction: an unknown domain, one in two groups, a group called as a domain is, a
            bound outside 0..1, or constraints that no mixture meets, with the ones that clash and what would
            do.
    """

    domains: tuple[str, ...]
    minimum: Mapping[str, float] = field(default_factory=dict)
    maximum: Mapping[str, float] = field(default_factory=dict)
    fixed: Mapping[str, float] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
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
        self._check_members()
        if self.epochs is not None:
            for domain in self.domains:
                if domain not in self.epochs.available_tokens:
                    raise MixtureError(f"{self.name}: max_epochs needs the number of tokens of {domain!r}.")
        for domain in self.domains:
            self._check_domain(domain)
        for name, part in zip(self.groups, self.parts, strict=False):
            self._check_group(name, part)
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

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The groups, and then every domain that is in none."""
        place = {domain: number for number, domain in enumerate(self.domains)}
        grouped = [
            Part(f"group {name!r}", np.array([place[one] for one in group.domains]), group.min, group.max)
            for name, group in self.groups.items()
        ]
        members = {domain for group in self.groups.values() for domain in group.domains}
        alone = [domain for domain in self.domains if domain not in members]
        return (*grouped, *(Part(repr(domain), np.array([place[domain]]), 0.0, 1.0) for domain in alone))

    @property
    def largest(self) -> dict[str, float]:
        """What each domain may have at most; none may have more than its group."""
        largest = {}
        for part in self.parts:
            for place in part.places:
                largest[self.domains[place]] = min(float(self.upper[place]), part.most)
        return {domain: largest[domain] for domain in self.domains}

    @property
    def group_limits(self) -> tuple[Array, Array]:
        """The bounds of groups as `A @ w >= b`: `A`, `(2 g, d)`, and `b`, `(2 g,)`."""
        grouped = self.parts[: len(self.groups)]
        member = np.zeros((len(grouped), len(self.domains)))
        for row, part in zip(member, grouped, strict=True):
            row[part.places] = 1.0
        least, most = ([getattr(part, end) for part in grouped] for end in ("least", "most"))
        return np.concatenate([member, -member]), np.concatenate([least, np.negative(most)])

    def allows(self, mixtures: Array) -> NDArray[np.bool_]:
        """Tell for each row, one that sums to 1, whether it meets the bounds, `(n, d) -> (n,)`."""
        met = ((mixtures >= self.lower - _SLACK) & (mixtures <= self.upper + _SLACK)).all(axis=1)
        if self.groups:
            matrix, least = self.group_limits
            met &= (mixtures @ matrix.T >= least - _SLACK).all(axis=1)
        return np.asarray(met)

    def span(self, lower: Array, upper: Array) -> tuple[float, float]:
        """What all domains together must and may have, where each lies between these and groups hold."""
        sums = [
            (part, float(lower[part.places].sum()), float(upper[part.places].sum())) for part in self.parts
        ]
        least = math.fsum(max(part.least, low) for part, low, _ in sums)
        return least, math.fsum(max(part.least, min(part.most, high)) for part, _, high in sums)

    def project(self, points: Array, scale: Array | None = None) -> Array:
        """Return the allowed mixture nearest to each point; exact.

        Nearest is what makes `sum_i (x_i - w_i)^2 / scale_i` small: `clip(x - t * scale, lower, upper)` with
        the one `t` that makes the sum 1. A group whose sum would pass a bound stays at it, with a `t` of its
        own: the `t` that is nearest to that of all between the two that make its sum what it may be at most,
        and at least. So what its domains are at these two bounds them, row by row, in the place of
        `lower` and `upper`.

        Args:
            points: `(n, d)`, any finite numbers.
            scale: `(n, d)`, above 0. Default: all 1, the Euclidean distance.

        Returns:
            `(n, d)`.
        """
        scale = np.ones_like(points) if scale is None else scale
        lower, upper = self.lower, self.upper
        if self.groups:
            lower, upper = (np.tile(ends, (len(points), 1)) for ends in (lower, upper))
        for part in self.parts[: len(self.groups)]:
            at = part.places
            own = points[:, at], scale[:, at], self.lower[at], self.upper[at]
            if part.most < self.upper[at].sum():
                upper[:, at] = meet_sum(*own, part.most)
            if part.least > self.lower[at].sum():
                lower[:, at] = meet_sum(*own, part.least)
        return meet_sum(points, scale, lower, upper, 1.0)

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

    def _check_members(self) -> None:
        group_of: dict[str, str] = {}
        for name, group in self.groups.items():
            if name in self.domains:
                raise MixtureError(
                    f"{self.name}.groups.{name}: a domain is called {name!r}, too.",
                    f"give the group a name of its own, e.g. all_{name}; for the domain alone write "
                    f"{self.name}.min and {self.name}.max",
                )
            for domain in group.domains:
                if domain not in self.domains:
                    raise MixtureError(
                        f"{self.name}.groups.{name}: {domain!r} is no domain; "
                        f"{did_you_mean(domain, self.domains)}"
                    )
                if (first := group_of.get(domain)) is not None:
                    where = f"{first!r} twice" if first == name else f"{first!r} and in {name!r}"
                    raise MixtureError(
                        f"{self.name}.groups: {domain!r} is in {where}.",
                        "a domain may be in one group, once",
                    )
                group_of[domain] = name

    def _check_group(self, name: str, part: Part) -> None:
        """Refuse a group whose domains must have more than it may, or may have less than it must."""
        key, members = f"{self.name}.groups.{name}", [self.domains[place] for place in part.places]
        if (least := float(self.lower[part.places].sum())) > part.most + _TOLERANCE:
            named = ", ".join(f"{one!r} {self._lower(one):g}" for one in members if self._lower(one) > 0)
            raise MixtureError(
                f"{self.name}: the least weights of {part.name} sum to {least:.4g}, above its max "
                f"{part.most:g}: {named}.",
                f"raise {key}.max to {_ceil(least)}, or lower min or fixed of its domains by "
                f"{_ceil(least - part.most)} together",
            )
        if (most := float(self.upper[part.places].sum())) < part.least - _TOLERANCE:
            alone = [Part(repr(one), part.places[i : i + 1], 0.0, 1.0) for i, one in enumerate(members)]
            raise MixtureError(
                f"{self.name}: {self._binding(alone)}; {part.name} may have {_floor(most)}, less than "
                f"its min {part.least:g}.",
                f"lower {key}.min to {_floor(most)}, or {self._remedy(alone, part.least)}",
            )

    def _check_sums(self) -> None:
        least, most = self.span(self.lower, self.upper)
        if least > 1.0 + _TOLERANCE:
            raise MixtureError(
                f"{self.name}: the least weights sum to {least:.4g}, above 1: {self._demands()}.",
                f"lower min or fixed by {_ceil(least - 1.0)} together",
            )
        if most < 1.0 - _TOLERANCE:
            raise MixtureError(
                f"{self.name}: {self._binding(self.parts)}; all domains together may have {_floor(most)}, "
                "less than 1.",
                self._remedy(self.parts, 1.0),
            )

    def _demands(self) -> str:
        """Name what must have some weight, largest first: a group where it asks for more than its domains."""
        demands = []
        for part in self.parts:
            alone = [(self._lower(self.domains[place]), repr(self.domains[place])) for place in part.places]
            asks_more = part.least > math.fsum(weight for weight, _ in alone)
            demands += [(part.least, part.name)] if asks_more else alone
        demands.sort(key=lambda one: one[0], reverse=True)
        return ", ".join(f"{name} {weight:g}" for weight, name in demands if weight > 0)

    def _binding(self, parts: Iterable[Part]) -> str:
        """Name the upper bounds that leave too little, the two that leave most in full."""
        bound = []
        for part in parts:
            if part.most < self.upper[part.places].sum():
                bound.append((part.most, f"{part.name} is given max {part.most:g}"))
                continue
            for domain in (self.domains[place] for place in part.places):
                if self._upper(domain) < 1.0:
                    bound.append((self._upper(domain), self._explain_upper(domain)))
        bound.sort(key=lambda one: one[0], reverse=True)
        others = f"; so it is for {len(bound) - 2} more" if len(bound) > 2 else ""
        return "; ".join(reason for _, reason in bound[:2]) + others

    def _explain_upper(self, domain: str) -> str:
        if self.epochs is not None and self._upper(domain) < self._upper(domain, with_epochs=False):
            return self.epochs.explain(domain)
        kind = "fixed to" if domain in self.fixed else "given max"
        return f"domain {domain!r} is {kind} {self._upper(domain):g}"

    def _remedy(self, parts: Sequence[Part], total: float) -> str:
        """Say what would let parts have `total` together."""
        without = np.array([self._upper(domain, with_epochs=False) for domain in self.domains])
        sums = [(part, float(without[part.places].sum())) for part in parts]
        highest = math.fsum(min(part.most, most) for part, most in sums)
        if highest < total:
            ends = [f"max of {part.name}" for part, most in sums if part.most < most]
            if math.fsum(most for _, most in sums) < total:
                ends.append("max or fixed")
            return f"raise {' or '.join(ends)} by {_ceil(total - highest)} together"
        if self.epochs is None or (needed := self._needed_epochs(self.epochs, parts, total)) is None:
            return "raise max or fixed of a domain that has tokens"
        shorter = self.epochs.num_train_tokens * self.epochs.max_epochs / needed
        return (
            f"raise max_epochs to {_ceil(needed)}, train on at most {at_most(shorter)} tokens, "
            "or give the domains more text"
        )

    def _needed_epochs(self, cap: EpochCap, parts: Sequence[Part], total: float) -> float | None:
        """The smallest `max_epochs` that would let parts have `total` together; `None` when none would.

        What they may have together grows with `max_epochs`, linearly between the points at which a domain
        meets its own max, or a group its.
        """
        highest = np.array([self._upper(domain, with_epochs=False) for domain in self.domains])
        per_epoch = np.array([cap.weight(domain) for domain in self.domains]) / cap.max_epochs
        has_text = per_epoch > 0
        knots = (highest[has_text] / per_epoch[has_text]).tolist()
        for part in parts:
            free = replace(part, most=math.inf)
            if len(part.places) > 1 and (full := _reaches(highest, per_epoch, [free], part.most, knots)):
                knots.append(full)
        return _reaches(highest, per_epoch, parts, total, knots)


def _reaches(
    highest: Array, per_epoch: Array, parts: Iterable[Part], total: float, knots: list[float]
) -> float | None:
    """The first number of epochs at which parts may have `total`, given where what they may have bends."""
    at = np.sort(knots)
    may = np.minimum(at[:, None] * per_epoch, highest)
    room = np.zeros(len(at))
    for part in parts:
        room += np.minimum(may[:, part.places].sum(axis=1), part.most)
    if not len(room) or room[-1] < total:
        return None
    return float(np.interp(total, [0.0, *room], [0.0, *at]))


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
