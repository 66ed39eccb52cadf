"""How far a choice may go from what the runs were: what they say nothing about is left as it is.

`asked` are the constraints, `weights` a chosen mixture, `(d,)`, `known` the largest weight of each domain
that the runs tell of, `(d,)`, `still` the share of each that never varied.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from regmix_hf.mixtures import Array, Constraints
from regmix_hf.mixtures.capped_sum import meet_sum

#: Decimals of a chosen weight: below a block in any run, and what a person can copy.
WEIGHT_DECIMALS = 6
#: Added to what is known of a domain, so that one of which nothing is may have some, too.
_LEAST_SHARE = 1e-9
#: Shares that differ by less are one share, rounded.
_STILL = 1e-9
#: By how much a chosen weight may differ from what it was before it was rounded.
_ROUNDED = 2 * 10**-WEIGHT_DECIMALS
_TO_KNOW = (
    "to know, train runs that have more of it (in a study, raise sampling.max_epochs or the domain's "
    "sampling.max)"
)


def never_varied(swarm: pd.DataFrame) -> dict[str, float]:
    """Domains of one share in all runs of a swarm, with that share; nobody knows what another would do."""
    if len(swarm) < 2:
        return {}
    still = swarm.max() - swarm.min() <= _STILL
    return {str(name): float(share) for name, share in swarm.mean()[still].items()}


def within_reach(asked: Constraints, known: Array, still: Mapping[str, float]) -> Constraints:
    """Add to constraints that no domain gets more than is known, and that one that never varied stays.

    What is asked comes first. A least weight above what is known stays. Where domains that must have
    something together cannot, each may have more in proportion to what is known of it, as much as is asked;
    and those of one share give way where a group may not have so much. Where nothing is left to choose the
    constraints are returned as they are.
    """
    upper = np.maximum(asked.lower, np.minimum(asked.upper, known))
    lower = asked.lower.copy()
    for name, share in still.items():
        place = asked.domains.index(name)
        upper[place] = lower[place] = np.clip(share, asked.lower[place], asked.upper[place])
    for part in asked.parts[: len(asked.groups)]:
        at = part.places
        if upper[at].sum() < part.least:
            upper[at] = _in_proportion(upper[at], upper[at], asked.upper[at], part.least)
        if lower[at].sum() > part.most:
            lower[at] = _in_proportion(lower[at], asked.lower[at], lower[at], part.most)
    least, most = asked.span(lower, upper)
    if most < 1.0 or least > 1.0:
        return asked
    return Constraints(
        asked.domains,
        minimum=dict(zip(asked.domains, lower.tolist(), strict=True)),
        maximum=dict(zip(asked.domains, upper.tolist(), strict=True)),
        groups=asked.groups,
        name=asked.name,
    )


def _in_proportion(bounds: Array, lower: Array, upper: Array, total: float) -> Array:
    """Lower or raise bounds until they sum to `total`, each in proportion to what it was."""
    return meet_sum(bounds[None], bounds[None] + _LEAST_SHARE, lower, upper, total)[0]


def beyond_reach(asked: Constraints, known: Array) -> list[str]:
    """Say where constraints ask for more than domains could have together in what is known."""
    found = []
    for part in asked.parts[: len(asked.groups)]:
        if (most := float(known[part.places].sum())) < part.least:
            found.append(
                f"{part.name} must have {100 * part.least:.3g} %, and its domains could have "
                f"{100 * most:.3g} % together in the swarm's mixtures: predictions are extrapolated there; "
                f"{_TO_KNOW}"
            )
    _, together = asked.span(asked.lower, np.maximum(asked.lower, np.minimum(asked.upper, known)))
    if together < 1.0:
        found.append(
            f"{asked.name}: what is allowed and what the swarm's mixtures could have sum to {together:.3g}, "
            "below 1, so any domain may have more than in them: predictions are extrapolated there"
        )
    return found


def extrapolated(weights: Array, asked: Constraints, known: Array) -> list[str]:
    """Name the domains that have more than they could have in the swarm, as bounds of theirs demand."""
    more = (weights > known + _ROUNDED) & (asked.lower > known + _ROUNDED)
    if not more.any():
        return []
    named = ", ".join(
        f"{asked.domains[i]!r} ({100 * weights[i]:.3g} %, of {100 * known[i]:.3g} %)"
        for i in np.flatnonzero(more)
    )
    return [
        f"{named}: more than the swarm's mixtures could have, as is asked: predictions are extrapolated "
        f"there; {_TO_KNOW}"
    ]


def held_back(weights: Array, bounds: Constraints, asked: Constraints, known: Array) -> list[str]:
    """Name the domains that have as much as they could have in the swarm, but could have more now.

    `bounds` are what the mixture was chosen within.
    """
    most = (weights > 0) & (weights >= bounds.upper - 10**-WEIGHT_DECIMALS) & (bounds.upper <= known)
    held = np.flatnonzero(most & (bounds.upper < asked.upper))
    if not len(held):
        return []
    named = ", ".join(f"{asked.domains[i]!r} ({100 * weights[i]:.3g} %)" for i in held)
    return [f"{named}: the most the swarm's mixtures could have; more may be better, and {_TO_KNOW}"]


def unknown_shares(weights: Array, domains: tuple[str, ...], still: Mapping[str, float]) -> list[str]:
    """Name the domains that never varied: those that keep their share, and those that may not."""
    kept, moved = [], []
    for name, share in still.items():
        now = float(weights[domains.index(name)])
        if abs(now - share) <= _ROUNDED:
            kept.append(f"{name!r} ({100 * share:.3g} %)")
        else:
            moved.append(f"{name!r} ({100 * share:.3g} %, and {100 * now:.3g} % now)")
    found = []
    if kept:
        found.append(
            f"{', '.join(kept)}: the same share in all runs, so it is kept; what another would do is not "
            "known"
        )
    if moved:
        found.append(
            f"{', '.join(moved)}: the same share in all runs, and another now, as bounds demand; what that "
            "does is not known"
        )
    return found
