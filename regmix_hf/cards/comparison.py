"""Whether the chosen mixture beats the others by more than the noise between seeds: computed, not assumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.special import stdtrit

from regmix_hf.quantities import NATS, Quantity
from regmix_hf.recipe.schema import CHOSEN

#: What is compared where nothing else is said.
_LOSS = Quantity("loss", NATS)
#: Share of cases an interval of a difference is made for.
CONFIDENCE = 0.95


class Outcome(StrEnum):
    """What the final models say about two mixtures."""

    BETTER = "better"
    WORSE = "worse"
    #: The interval of the difference holds 0.
    UNDECIDED = "undecided"
    #: Both have the same weights, so they are the same models.
    SAME = "the same"
    #: No mixture was trained with two seeds, so nothing is known of the noise.
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Comparison:
    """The chosen mixture against another, by the target of their final models.

    Attributes:
        baseline: Name of the other mixture.
        gain: By how much the mean of the chosen one is better than that of the other, in the target's unit.
        half_width: Half of the `CONFIDENCE` interval of `gain`; `None` where the noise is not known.
        num_seeds: Runs of the chosen mixture and of the other.
        target: What is compared: its unit and direction.
        is_same: Whether both are the same runs, which say nothing of each other.
    """

    baseline: str
    gain: float
    half_width: float | None
    num_seeds: tuple[int, int]
    target: Quantity = _LOSS
    is_same: bool = False

    @property
    def outcome(self) -> Outcome:
        """What this says, at the confidence of the interval."""
        if self.is_same:
            return Outcome.SAME
        if self.half_width is None:
            return Outcome.UNKNOWN
        if abs(self.gain) <= self.half_width:
            return Outcome.UNDECIDED
        return Outcome.BETTER if self.gain > 0 else Outcome.WORSE

    @property
    def interval(self) -> tuple[float, float] | None:
        """The `CONFIDENCE` interval of `gain`, within what two values can differ by."""
        if self.half_width is None:
            return None
        least, most = self.target.bounds
        return (
            max(self.gain - self.half_width, least - most),
            min(self.gain + self.half_width, most - least),
        )

    @property
    def sentence(self) -> str:
        """The outcome as a person says it."""
        if self.is_same:
            return f"`chosen` is `{self.baseline}`: the same weights, and the same models."
        size = f"{abs(self.gain):.3f} {self.target.unit or ''}".strip()
        noun = self.target.noun
        side = "lower" if self.gain * self.target.sign > 0 else "higher"
        if self.interval is None:
            return (
                f"The {noun} of `chosen` is {size} {side} than that of `{self.baseline}`. With one seed per "
                "mixture nobody can say how much of that is noise."
            )
        low, high = self.interval
        bounds = f"{100 * CONFIDENCE:.0f} % interval of the gain: {low:+.3f} to {high:+.3f}"
        if self.outcome is Outcome.UNDECIDED:
            return (
                f"`chosen` is not shown to differ from `{self.baseline}`: its {noun} is {size} {side}, "
                f"which is within the noise between seeds ({bounds})."
            )
        verb = "beats" if self.outcome is Outcome.BETTER else "loses to"
        return f"`chosen` {verb} `{self.baseline}` by {size}, more than the noise between seeds ({bounds})."


def compare(
    losses: Mapping[str, Sequence[float]],
    target: Quantity = _LOSS,
    runs: Mapping[str, Sequence[str]] | None = None,
) -> list[Comparison]:
    """Compare the chosen mixture with every other one.

    The noise of one run is the standard deviation over seeds, pooled over all mixtures (they are taken to
    have the same); the interval is Student's for two means with that pooled deviation.

    Args:
        losses: Mixture -> the target after its runs, one value per seed.
        target: Its unit and direction.
        runs: Mixture -> its runs. Those that two mixtures share are noise of one only, and no comparison;
            `None`: no mixture shares any.
    """
    if CHOSEN not in losses:
        return []
    of = {name: tuple(runs[name]) if runs else (name,) for name in losses}
    noise, freedom = seed_noise({" ".join(of[name]): values for name, values in losses.items()})
    mine = losses[CHOSEN]
    comparisons = []
    for name, theirs in losses.items():
        if name == CHOSEN:
            continue
        num_seeds = (len(mine), len(theirs))
        if of[name] == of[CHOSEN]:
            comparisons.append(Comparison(name, 0.0, None, num_seeds, target, is_same=True))
            continue
        half_width = None
        if noise is not None:
            quantile = float(stdtrit(freedom, 0.5 + CONFIDENCE / 2))
            half_width = quantile * noise * float(np.sqrt(1 / len(mine) + 1 / len(theirs)))
        gain = target.sign * float(np.mean(theirs) - np.mean(mine))
        comparisons.append(Comparison(name, gain, half_width, num_seeds, target))
    return comparisons


def seed_noise(losses: Mapping[str, Sequence[float]]) -> tuple[float | None, int]:
    """Standard deviation over seeds, pooled over mixtures, and its degrees of freedom.

    >>> seed_noise({"a": [1.0, 3.0], "b": [5.0]})
    (1.4142135623730951, 1)
    """
    freedom = sum(len(values) - 1 for values in losses.values())
    if freedom == 0:
        return None, 0
    squares = sum(float(((np.asarray(values) - np.mean(values)) ** 2).sum()) for values in losses.values())
    return float(np.sqrt(squares / freedom)), freedom
