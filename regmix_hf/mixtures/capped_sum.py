"""Numbers between bounds that sum to what is asked: the nearest to given ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: What floating point may leave of a sum that is 0, relative to its terms.
_ROUNDING = 1e-14
#: What it may leave of a sum of numbers between bounds. Of points far outside it leaves more.
_SETTLED = 1e-12


def meet_sum(points: Array, scale: Array, lower: Array, upper: Array, total: float) -> Array:
    """Return `clip(points - t * scale, lower, upper)` with the `t` of each row that makes it sum to `total`.

    The sum falls piecewise linearly with `t` and bends where a number meets a bound, so `t` is found by
    sorting the bends (Wang and Lu 2015, "Projection onto the capped simplex", in O(d log d) a row).

    Args:
        points: `(n, d)`, any finite numbers.
        scale: `(n, d)`, above 0.
        lower: `(d,)` or `(n, d)`.
        upper: Alike, nowhere below.
        total: No less than the sum of `lower`, no more than that of `upper`.

    Returns:
        `(n, d)`.
    """
    bends = np.concatenate([(points - upper) / scale, (points - lower) / scale], axis=1)
    order = np.argsort(bends, axis=1)
    bends = np.take_along_axis(bends, order, axis=1)
    bent = np.take_along_axis(np.concatenate([scale, -scale], axis=1), order, axis=1)
    falling = np.cumsum(bent, axis=1)  # slope right of each bend
    falls = falling[:, :-1] * np.diff(bends, axis=1)
    sums = upper.sum(axis=-1, keepdims=True) - np.cumsum(np.pad(falls, ((0, 0), (1, 0))), axis=1)
    last = np.maximum((sums >= total).sum(axis=1) - 1, 0)[:, None]  # the segment in which the sum passes it
    start, excess, slope = (np.take_along_axis(a, last, axis=1) for a in (bends, sums - total, falling))
    flat = _ROUNDING * scale.max(axis=1, keepdims=True)
    shift = start + np.divide(excess, slope, out=np.zeros_like(excess), where=slope > flat)
    return _settled(np.clip(points - shift * scale, lower, upper), scale, lower, upper, total)


def _settled(found: Array, scale: Array, lower: Array, upper: Array, total: float) -> Array:
    """Give what large points' rounding has left of the sum to what lies between its bounds, else to all."""
    left = total - found.sum(axis=1, keepdims=True)
    if np.abs(left).max(initial=0.0) <= _SETTLED:
        return np.asarray(found)
    within = (found > lower) & (found < upper)
    movable = np.where(left > 0, found < upper, found > lower)
    moving = scale * np.where(within.any(axis=1, keepdims=True), within, movable)
    room = moving.sum(axis=1, keepdims=True)
    shift = np.divide(left, room, out=np.zeros_like(left), where=room > 0)
    return np.asarray(np.clip(found + shift * moving, lower, upper))
