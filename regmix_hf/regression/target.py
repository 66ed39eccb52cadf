"""What is to be made good: one number out of the values of several targets."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Self, overload

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from regmix_hf.errors import RegressionError, did_you_mean
from regmix_hf.quantities import Quantity, bare
from regmix_hf.recipe.target import TARGET_WORDS, AskedTarget, TargetValue, is_pattern

__all__ = ["SPREADS", "Scales", "Target", "TargetValue", "scales_of"]

Array = NDArray[np.float64]
#: Target -> mean and standard deviation over the runs.
Scales = Mapping[str, tuple[float, float]]
#: The unit of what is counted in standard deviations over the runs of a fit.
SPREADS = "standard deviations over the runs"


@dataclass(frozen=True)
class Target:
    """A weighted mean of some targets, or the worst of them.

    Weights are scaled to sum to 1, so the combined value has the targets' unit and direction. Scaled targets
    are first counted in standard deviations over the runs, from their mean, less being better; so is what is
    made of them.

    Attributes:
        quantities: All targets, in the order of the columns that `combine` is given.
        weights: Share of each target that takes part.
        takes: The mean or the worst of them.
        scales: Of each target that takes part, where they are scaled; else empty.
    """

    quantities: tuple[Quantity, ...]
    weights: Mapping[str, float]
    takes: Literal["mean", "worst"] = "mean"
    scales: Scales = field(default_factory=dict)

    @classmethod
    def parse(
        cls, value: TargetValue, quantities: Mapping[str, Quantity], scales: Scales | None = None
    ) -> Self:
        """Read what the recipe's `regression.target` says.

        The words `mean` and `worst` speak of all losses and other plain columns, also where a domain has such
        a name; where there are none, of all targets.

        Args:
            value: A target, a list (its mean), a map target -> weight, `{mean_of: ...}`, `{worst_of: ...}`,
                `mean` or `worst`.
            quantities: All targets there are, in the order of their columns.
            scales: Of each target, over the runs; only a target in standard deviations needs them.

        Raises:
            RegressionError: A target is unknown or named twice, the weights are no weights, or what is better
                when higher stands beside what is better when lower.
        """
        asked = AskedTarget.of(value)
        _check_directions(asked, quantities)
        if asked.members is None:
            usual = asked.among(list(quantities))
            shares = dict.fromkeys(usual, 1.0 / len(usual))
        else:
            shares = _resolve(asked, quantities, isinstance(value, str))
        used = [quantities[name] for name, share in shares.items() if share > 0]
        if asked.is_scaled and not {one.name for one in used} <= (scales or {}).keys():
            raise RegressionError(f"target: {value!r} is in {SPREADS}, and there are no runs.")
        asked.check_one_direction(used)
        kept = {one.name: (scales or {})[one.name] for one in used} if asked.is_scaled else {}
        return cls(
            tuple(quantities.values()), {one.name: shares[one.name] for one in used}, asked.takes, kept
        )

    @property
    def names(self) -> tuple[str, ...]:
        """All targets, in the order of the columns."""
        return tuple(quantity.name for quantity in self.quantities)

    @cached_property
    def used(self) -> tuple[Quantity, ...]:
        """The targets that take part."""
        known = {quantity.name: quantity for quantity in self.quantities}
        return tuple(known[name] for name in self.weights)

    @property
    def quantity(self) -> Quantity:
        """What is made of them: its name in words, its unit where all have the same, its direction."""
        if self.scales:
            return Quantity(str(self), SPREADS)
        units = {one.unit for one in self.used}
        return Quantity(str(self), units.pop() if len(units) == 1 else None, self.used[0].direction)

    @property
    def is_linear(self) -> bool:
        """Whether the combined value is a weighted mean, so that `coefficients` says it all."""
        return self.takes == "mean"

    @property
    def shares(self) -> Array:
        """Share of each target that takes part, in the order of `used`."""
        return np.array([self.weights[one.name] for one in self.used])

    @property
    def spreads(self) -> Array:
        """What the value of each target that takes part is divided by; 1 where they are not scaled."""
        return np.array([self.scales[one.name][1] if self.scales else 1.0 for one in self.used])

    @property
    def factors(self) -> Array:
        """What the value of each target that takes part is multiplied by, so that less is better."""
        return np.array([one.sign for one in self.used]) / self.spreads

    @property
    def offsets(self) -> Array:
        """What is then added to each."""
        means = np.array([self.scales[one.name][0] if self.scales else 0.0 for one in self.used])
        return -means * self.factors if self.scales else np.zeros(len(self.used))

    @property
    def coefficients(self) -> Array:
        """What the combined value gains by one of each target, `(t,)`, in the order of `names`.

        Raises:
            ValueError: The worst of several has no coefficients.
        """
        if not self.is_linear:
            raise ValueError(f"the {self} is not linear in the losses")
        by_name = dict(zip(self.weights, self.quantity.sign * self.shares * self.factors, strict=True))
        return np.array([by_name.get(name, 0.0) for name in self.names])

    @overload
    def combine(self, losses: pd.DataFrame) -> pd.Series[float]: ...

    @overload
    def combine(self, losses: Array) -> Array: ...

    def combine(self, losses: pd.DataFrame | Array) -> pd.Series[float] | Array:
        """Make one number of each row of values; NaN where a target that takes part is NaN.

        Args:
            losses: `(n, t)` with columns as in `names`, or a DataFrame that has those of `used`.

        Returns:
            `(n,)`: a Series with the rows' index for a DataFrame, else an array.
        """
        if isinstance(losses, pd.DataFrame):
            values = self._combined(losses[list(self.weights)].to_numpy(dtype=np.float64))
            return pd.Series(values, index=losses.index, name=str(self))
        return self._combined(losses[:, [self.names.index(name) for name in self.weights]])

    def _combined(self, used: Array) -> Array:
        small = used * self.factors + self.offsets
        combined = small @ self.shares if self.is_linear else small.max(axis=1)
        return np.asarray(self.quantity.sign * combined)

    def ruled_by(self, scales: Scales) -> tuple[str, float] | None:
        """Which target all but decides a mean of unlike units, and its part of how far the mean moves.

        The widest of such units rules whatever the others do, as a percentage does beside a share. Of means
        in one unit, or in spreads, that is as it should be: `None`; so it is where no run tells the scales.
        """
        if not self.is_linear or self.scales or len(self.used) < 2 or self.quantity.unit is not None:
            return None
        if not scales:
            return None
        moves = {name: share * scales[name][1] for name, share in self.weights.items()}
        total, first = math.fsum(moves.values()), max(moves, key=lambda name: moves[name])
        rules = total > 0 and moves[first] >= _RULES * total
        return (first, moves[first] / total) if rules else None

    def is_in(self, values: pd.DataFrame) -> bool:
        """Whether all that takes part was measured."""
        return set(self.weights) <= set(values.columns)

    def __str__(self) -> str:
        scaled = ", in standard deviations" if self.scales else ""
        if len(self.weights) == 1:
            return f"{next(iter(self.weights))}{scaled}"
        alike = max(self.weights.values()) - min(self.weights.values()) <= 1e-9
        if self.is_linear and not alike:
            return " + ".join(f"{share:.3g} {name}" for name, share in self.weights.items()) + scaled
        plain = [name for name in self.names if "/" not in name]
        if list(self.weights) in (plain, list(self.names)) or len(self.weights) > _MOST_NAMED:
            return f"{self.takes} of {len(self.weights)} targets{scaled}"
        return f"{self.takes} of " + ", ".join(self.weights) + scaled


#: The part of how far a mean moves from which on one target rules it.
_RULES = 0.9
#: More targets than this are counted, not named.
_MOST_NAMED = 20


def scales_of(values: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of each target over the runs; NaN does not count. Of no run: none."""
    if values.empty:
        return {}
    return {
        str(name): (float(mean), float(spread))
        for name, mean, spread in zip(values, values.mean(), values.std(ddof=0), strict=True)
    }


def _check_directions(asked: AskedTarget, quantities: Mapping[str, Quantity]) -> None:
    for name, direction in asked.directions.items():
        if name in quantities and quantities[name].direction != direction:
            raise RegressionError(
                f"target: {name!r} is better when {direction} here, and was fitted as better when "
                f"{quantities[name].direction}.",
                "fit again",
            )


def _resolve(asked: AskedTarget, quantities: Mapping[str, Quantity], is_word: bool) -> dict[str, float]:
    """Shares that sum to 1, of every target that a name, a pattern or a mean within stands for."""
    found: dict[str, float] = {}
    for member, weight in asked.members or ():
        if isinstance(member, AskedTarget):
            parts = {
                name: weight * share for name, share in _resolve(member, quantities, is_word=False).items()
            }
        else:
            parts = dict.fromkeys(_named(bare(member), quantities, is_word), weight)
        for name, share in parts.items():
            found[name] = found.get(name, 0.0) + share
    total = math.fsum(found.values())
    return {name: share / total for name, share in found.items()}


def _named(name: str, quantities: Mapping[str, Quantity], is_word: bool) -> list[str]:
    found = fnmatch.filter(quantities, name) if is_pattern(name) and name not in quantities else [name]
    if not found or found[0] not in quantities:
        known = [*quantities, *TARGET_WORDS] if is_word else list(quantities)
        raise RegressionError(f"target: {name!r} is no target; {did_you_mean(name, known)}")
    return found
