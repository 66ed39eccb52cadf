"""How far a choice may go from what the runs were: what they say nothing about is left as it is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from regmix_hf.mixtures import Constraints

Array = NDArray[np.float64]

#: Decimals of a chosen weight: below a block in any run, and what a person can copy.
WEIGHT_DECIMALS = 6
#: Shares that differ by less are one share, rounded.
_STILL = 1e-9


def never_varied(swarm: pd.DataFrame) -> dict[str, float]:
    """Domains of one share in all runs, with that share; nobody knows what another would do.

    Args:
        swarm: The runs' weights, runs x domains.
    """
    if len(swarm) < 2:
        return {}
    still = swarm.max() - swarm.min() <= _STILL
    return {str(name): float(share) for name, share in swarm.mean()[still].items()}


def within_reach(asked: Constraints, known: Array, still: Mapping[str, float]) -> Constraints:
    """Add to constraints that no domain gets more than is known, and that one that never varied stays.

    What is asked comes first: a least weight above what is known stays, and where the two leave nothing to
    choose the constraints are returned as they are.

    Args:
        asked: The constraints.
        known: Largest weight of each domain that the runs tell of, `(d,)`.
        still: Share of each domain that never varied.
    """
    upper = np.maximum(asked.lower, np.minimum(asked.upper, known))
    lower = asked.lower.copy()
    for name, share in still.items():
        place = asked.domains.index(name)
        upper[place] = lower[place] = np.clip(share, asked.lower[place], asked.upper[place])
    if upper.sum() < 1.0 or lower.sum() > 1.0:
        return asked
    least = dict(zip(asked.domains, lower.tolist(), strict=True))
    most = dict(zip(asked.domains, upper.tolist(), strict=True))
    return Constraints(asked.domains, least, most, name=asked.name)


def held_back(weights: Array, bounds: Constraints, asked: Constraints) -> list[str]:
    """Name the domains that have as much as they could have in the swarm, but could have more now."""
    most = (weights > 0) & (weights >= bounds.upper - 10**-WEIGHT_DECIMALS)
    held = np.flatnonzero(most & (bounds.upper < asked.upper))
    if not len(held):
        return []
    named = ", ".join(f"{bounds.domains[i]!r} ({100 * weights[i]:.3g} %)" for i in held)
    return [
        f"{named}: the most the swarm's mixtures could have; more may be better, and to know, raise "
        "sampling.max_epochs or the domain's sampling.max"
    ]
