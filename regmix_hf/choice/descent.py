"""Smooth functions of mixtures made small by scaled projected gradients, from several starts at once.

Each step goes along `project(w - step * scale * slope) - w`, where `scale` is about `w` itself: a domain of
a thousandth moves by thousandths, as in mirror descent, and one at 0 can come back. The step is Barzilai and
Borwein's in that metric, the line search allows a rise now and then (Birgin, Martinez and Raydan 2000,
"Nonmonotone spectral projected gradient methods"; Bonettini, Zanella and Zanni 2009, "A scaled gradient
projection method"). A step costs one slope and one sort, so hundreds of domains are no trouble, where
sequential quadratic programming solves a dense system of all of them: SciPy's SLSQP takes 140
times as long for 300 domains and the mean of 13 power laws.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from regmix_hf.mixtures import Array, Constraints

#: Added to every weight in the scale, so that a domain at 0 can come back.
_LEAST_SCALE = 1e-5
#: The first step moves no weight by more than this share of its scale.
_FIRST_STEP = 0.1
_SHORTEST_STEP, _LONGEST_STEP = 1e-12, 1e6
#: Steps whose highest value the next may not exceed; steps after which progress is looked at.
_MEMORY, _PATIENCE = 10, 20
#: Share of the promised fall that must come true; most halvings of a step until it does.
_SUFFICIENT, _MOST_HALVINGS = 1e-4, 40
#: The shorter of the two spectral steps is taken when they differ by more than this factor.
_DISAGREEMENT = 0.3


def descend(
    value: Callable[[Array], Array],
    slope: Callable[[Array], Array],
    constraints: Constraints,
    starts: Array,
    *,
    precision: float,
    max_steps: int,
) -> Array:
    """Return the best mixture found from each start, `(s, d)`; none is worse than its start.

    Args:
        value: Of each row, `(n, d) -> (n,)`.
        slope: Its derivatives, `(n, d) -> (n, d)`.
        constraints: What the mixtures must meet.
        starts: Allowed mixtures, `(s, d)`.
        precision: A row is done when some twenty steps lower it by no more.
        max_steps: Most steps of a row.
    """
    at, values, slopes = starts.copy(), value(starts), slope(starts)
    best, lowest, looked = starts.copy(), values.copy(), values.copy()
    recent = np.tile(values[:, None], (1, _MEMORY))
    scale = at + _LEAST_SCALE
    away = slopes - (slopes * scale).sum(axis=1, keepdims=True) / scale.sum(axis=1, keepdims=True)
    steps = _FIRST_STEP / np.maximum(np.abs(away).max(axis=1), _SHORTEST_STEP)
    active = np.arange(len(starts))
    for count in range(1, max_steps + 1):
        here, scale = at[active], at[active] + _LEAST_SCALE
        aim = constraints.project(here - steps[active, None] * scale * slopes[active], scale) - here
        promised = (slopes[active] * aim).sum(axis=1)
        there, found = _search(value, here, values[active], aim, promised, recent[active].max(axis=1))
        turned = slope(there)
        steps[active] = _spectral(there - here, turned - slopes[active], scale)
        at[active], values[active], slopes[active] = there, found, turned
        recent[active, count % _MEMORY] = found
        better = active[found < lowest[active]]
        best[better], lowest[better] = at[better], values[better]
        if count % _PATIENCE == 0:
            active = active[looked[active] - lowest[active] > precision]
            looked[active] = lowest[active]
            if not len(active):
                break
    return best


def _search(
    value: Callable[[Array], Array], here: Array, values: Array, aim: Array, promised: Array, ceiling: Array
) -> tuple[Array, Array]:
    """Halve the way to the aim until enough of the promised fall comes true; rows that never do stay."""
    there, found = here.copy(), values.copy()
    left, share = np.arange(len(here)), 1.0
    for _ in range(_MOST_HALVINGS):
        trial = here[left] + share * aim[left]
        tried = value(trial)
        falls = tried <= ceiling[left] + _SUFFICIENT * share * promised[left]
        there[left[falls]], found[left[falls]] = trial[falls], tried[falls]
        left = left[~falls]
        if not len(left):
            break
        share /= 2
    return there, found


def _spectral(moved: Array, turned: Array, scale: Array) -> Array:
    """Length of the next step: Barzilai and Borwein's two, the shorter where they disagree."""
    curved = (moved * turned).sum(axis=1)
    convex = curved > 0
    longest = np.full(len(moved), _LONGEST_STEP)
    long = np.divide((moved**2 / scale).sum(axis=1), curved, out=longest.copy(), where=convex)
    short = np.divide(curved, (turned**2 * scale).sum(axis=1), out=longest.copy(), where=convex)
    return np.clip(np.where(short < _DISAGREEMENT * long, short, long), _SHORTEST_STEP, _LONGEST_STEP)
