"""Losses that no mixture explains: a run that ended, but far from where all others did."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: At most this share of the runs (and one at least) can be beside all others; more are a group of their own.
_MOST = 0.05
#: How far beside, in ranges of the others, and what is added to it, divided by the number of runs: of ten
#: runs one may be the only one of its kind. In 300 random subsets each of 10, 16, 32 and 64 of RegMix's runs,
#: and of 512 runs on six languages, nothing is found but 4 in 100,000 losses of ten runs on the languages.
_RANGES, _PER_RUN = 2.0, 100.0
#: Of fewer runs none is: those that try a choice lie close together, and the prior beside them is no fault.
_FEWEST = 10


def find_absurd(losses: Array, sizes: Array | None = None) -> NDArray[np.bool_]:
    """Tell which losses stand so far beside those of all other runs that no mixture explains them.

    One such loss (50 where others have 2) would bend every mean, line and tree that is fitted to it.

    Args:
        losses: Runs x targets; NaN where there is none, which is never absurd.
        sizes: What says how large each run is and how long, runs x numbers; losses stand beside those of
            their own size and length. `None`: all are of one.

    >>> find_absurd(np.array([[2.0 + share / 40, 3.0] for share in range(40)] + [[50.0, 3.0]])).sum(axis=0)
    array([1, 0])
    """
    found = np.zeros(losses.shape, dtype=np.bool_)
    if sizes is not None and len(losses):
        alike = np.unique(sizes, axis=0, return_inverse=True)[1].reshape(-1)
        for number in range(alike.max() + 1):
            found[alike == number] = find_absurd(losses[alike == number])
        return found
    for target, loss in enumerate(losses.T):
        known = np.flatnonzero(~np.isnan(loss))
        for side in (loss[known], -loss[known]):
            order = np.argsort(side)
            found[known[order[_first_beside(side[order]) :]], target] = True
    return found


def without_absurd(losses: Array, sizes: Array | None = None) -> Array:
    """Return the losses with NaN in the place of those that `find_absurd` finds."""
    return np.where(find_absurd(losses, sizes), np.nan, losses)


def _first_beside(ascending: Array) -> int:
    """Position from which on the highest values stand beside all others; their number when none do."""
    count = len(ascending)
    if count < _FEWEST:
        return count
    farthest = _RANGES + _PER_RUN / count
    for first in range(max(count - max(1, math.floor(_MOST * count)), 2), count):
        spread = ascending[first - 1] - ascending[0]
        if 0 < farthest * spread < ascending[first] - ascending[first - 1]:
            return first
    return count
