"""What a test needs to know of constraints that the package itself never asks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from regmix_hf.mixtures import Constraints


def allowed(
    bounds: Constraints, weights: NDArray[np.float64], *, tolerance: float = 1e-9
) -> NDArray[np.bool_]:
    """Tell for each row of `weights`, `(n, d)`, whether it is a mixture within the bounds."""
    within = (weights >= bounds.lower - tolerance) & (weights <= bounds.upper + tolerance)
    met = within.all(axis=1) & (np.abs(weights.sum(axis=1) - 1.0) <= tolerance)
    for group in bounds.groups.values():
        together = weights[:, [bounds.domains.index(domain) for domain in group.domains]].sum(axis=1)
        met &= (together >= group.min - tolerance) & (together <= group.max + tolerance)
    return np.asarray(met)


def promised_fall(bounds: Constraints, weights: NDArray[np.float64], slope: NDArray[np.float64]) -> float:
    """How far a linear function of this slope can fall from a mixture within the bounds.

    It is 0 where, and only where, the conditions of Karush, Kuhn and Tucker hold (duality of linear
    programs), and a convex function of this slope cannot fall farther either.
    """
    member = np.array(
        [[name in group.domains for name in bounds.domains] for group in bounds.groups.values()]
    )
    rows = member.reshape(-1, len(weights)).astype(float)
    ends = [[group.max for group in bounds.groups.values()], [-group.min for group in bounds.groups.values()]]
    lowest = linprog(
        slope,
        A_ub=np.concatenate([rows, -rows]),
        b_ub=np.concatenate(ends),
        A_eq=np.ones((1, len(weights))),
        b_eq=[1.0],
        bounds=np.column_stack([bounds.lower, bounds.upper]),
    )
    assert lowest.success
    return float(slope @ weights - lowest.fun)
