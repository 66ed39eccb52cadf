"""Whether runs of one size rank mixtures as runs of another size or length do, target by target."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pydantic import TypeAdapter

from regmix_hf.regression.metrics import Correlation, Resamples, interval, measure
from regmix_hf.regression.target import Target
from regmix_hf.runs.runs import Runs
from regmix_hf.seeds import generator
from regmix_hf.tables import SIZES

#: Fewer mixtures have no correlation worth a word.
_LEAST_SHARED = 4
#: Of fewer nothing is certain: chance ranks four alike in one case of 24, which no bootstrap of them sees.
_LEAST_TO_TELL = 5
#: A size of which this share of the most mixtures is, or more, may be the swarm.
_SWARM = 0.5
TELL, UNCLEAR, DO_NOT_TELL = (
    *("small models tell", "the mixtures are too few to say whether small models tell"),
    "small models do not tell for this target",
)
#: A correlation that may be clear, as a verdict has it: below it the interval's upper end tells of none.
_CLEAR = 0.5


@dataclass(frozen=True)
class Agreement:
    """How the mixtures that were trained at two sizes or lengths rank there.

    Attributes:
        target: What they are ranked by.
        small: Which runs are the swarm, in words.
        large: Which runs are held against them.
        num_mixtures: How many both have.
        spearman: Rank correlation of the two; NaN if there is none.
        low: Lower end of its bootstrap 95 % interval.
        high: Upper end.
    """

    target: str
    small: str
    large: str
    num_mixtures: int
    spearman: Correlation
    low: Correlation
    high: Correlation

    @property
    def word(self) -> str:
        """`TELL` where the interval lies above 0, `DO_NOT_TELL` where all of it is less than clear."""
        if self.num_mixtures < _LEAST_TO_TELL:
            return UNCLEAR
        if self.low > 0:
            return TELL
        return DO_NOT_TELL if self.high < _CLEAR else UNCLEAR

    @property
    def sizes(self) -> str:
        """Which runs are held against which."""
        return f"{self.num_mixtures} mixtures of {self.small} against {self.large}"

    @property
    def plain(self) -> dict[str, Any]:
        """As JSON has it: what is not a number is null."""
        return dict(TypeAdapter(Agreement).dump_python(self, mode="json"))

    @classmethod
    def said_in(cls, summary: Mapping[str, Any]) -> list[Agreement]:
        """Read all that a fit noted; of runs of one size it notes nothing."""
        return TypeAdapter(list[Agreement]).validate_python(summary.get("size_agreement", ()))

    @property
    def found(self) -> str:
        """What was found of the target, in words."""
        found = "no rank correlation"
        if not math.isnan(self.spearman):
            found = f"rank correlation {100 * self.spearman:.0f} %"
        if not math.isnan(self.low):
            found += f" [{100 * self.low:.0f}, {100 * self.high:.0f}]"
        return f"{self.target}: {self.sizes}, {found}"

    def __str__(self) -> str:
        """The same, and what follows from it, without a full stop."""
        return self.found if self.word == TELL else f"{self.found}; {self.word}"


def size_agreement(parts: Sequence[Runs], goal: Target, random_state: int) -> list[Agreement]:
    """Hold the runs of each size against those of the swarm, the smallest size that many mixtures are of.

    Of a size that was trained for several lengths the longest runs count. Runs of a mixture with several
    seeds count with their mean.

    Args:
        parts: Runs with `sizes`, of the same targets.
        goal: What a mixture will be judged on: it comes first, then what it is made of, then all others.
        random_state: Seed of the bootstrap.

    Returns:
        For each size, smallest first, one of every target; nothing where all runs are of one size.
    """
    losses, words = _by_size(parts)
    pairs = _pairs({size: int(table.notna().any(axis=1).sum()) for size, table in losses.items()})
    found = []
    for small, large in pairs:
        shared = losses[small].index.intersection(losses[large].index)
        if len(shared) < _LEAST_SHARED:
            continue
        both = losses[small].loc[shared], losses[large].loc[shared]
        draws = Resamples.draw(np.arange(len(shared)), generator(random_state, "bootstrap", "sizes"))
        for name, before, after in _values(both, goal):
            after = np.where(np.isnan(before), np.nan, after)
            spearman = measure(after, before)["spearman"]
            low, high = interval(draws.metrics(after, before)["spearman"])
            low, high = (math.nan, math.nan) if math.isnan(spearman) else (low, high)
            found.append(Agreement(name, words[small], words[large], len(shared), spearman, low, high))
    return found


def by_pair(found: Sequence[Agreement]) -> list[list[Agreement]]:
    """Those of the same two sizes together, in order."""
    pairs = dict.fromkeys((one.small, one.large) for one in found)
    return [[one for one in found if (one.small, one.large) == pair] for pair in pairs]


_Size = tuple[float, float]


def _by_size(parts: Sequence[Runs]) -> tuple[dict[_Size, pd.DataFrame], dict[_Size, str]]:
    """Mean losses of each mixture, by parameters and tokens; and what these are called."""
    losses: dict[_Size, pd.DataFrame] = {}
    words: dict[_Size, str] = {}
    for part in parts:
        if part.sizes is None or part.scale is None:
            continue
        sizes = [(float(count), float(tokens)) for count, tokens in part.sizes[list(SIZES)].to_numpy()]
        mixtures = pd.Series([row.tobytes() for row in part.weights.to_numpy().round(9)], part.losses.index)
        for size in dict.fromkeys(sizes):
            here = np.array([other == size for other in sizes])
            table = part.losses[here].groupby(mixtures[here], sort=False).mean()
            losses[size] = pd.concat([losses[size], table]) if size in losses else table
            words[size] = str(part.scale[here].iloc[0])
    return losses, words


def _pairs(counts: Mapping[_Size, int]) -> Iterator[tuple[_Size, _Size]]:
    """The swarm's size and length beside the longest runs of each size, smallest first."""
    if len(counts) < 2:
        return
    enough = _SWARM * max(counts.values())
    least = min(size for size in counts if counts[size] >= enough)
    alike = {size: count for size, count in counts.items() if size[0] == least[0]}
    smallest = [size for size in sorted(alike) if alike[size] == max(alike.values())]
    longest = {size[0]: size for size in sorted(counts)}
    base = smallest[0] if len(longest) == 1 else smallest[-1]
    yield from ((base, size) for size in longest.values() if size != base)


def _values(
    both: tuple[pd.DataFrame, pd.DataFrame], goal: Target
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    small, large = both
    if len(goal.weights) != 1 or goal.scales:
        yield str(goal), goal.combine(small).to_numpy(), goal.combine(large).to_numpy()
    for name in sorted(small.columns, key=lambda name: name not in goal.weights):
        yield str(name), small[name].to_numpy(), large[name].to_numpy()
