"""One mixture: domain -> share of training tokens."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from regmix_hf.errors import MixtureError

#: Weights that come from outside may be rounded: their sum may miss 1 by this much.
SUM_TOLERANCE = 0.01
#: Room for the rounding of a sum that misses 1 by exactly the tolerance.
_SUM_SLACK = 1e-9


def normalise(
    weights: Mapping[str, float], domains: Iterable[str], *, name: str = "mixture"
) -> dict[str, float]:
    """Scale non-negative weights to sum to 1, over all `domains` in their order; those not named get 0.

    Raises:
        MixtureError: A domain is unknown, a weight is negative or not finite, or all are 0.
    """
    order = list(domains)
    for domain, weight in weights.items():
        if domain not in order:
            raise MixtureError(f"{name}: {domain!r} is no domain of this study.")
        if not math.isfinite(weight) or weight < 0:
            raise MixtureError(f"{name}: the weight of {domain!r} is {weight}; write a number from 0 to 1.")
    total = math.fsum(weights.values())
    if total <= 0:
        raise MixtureError(f"{name}: the weights sum to {total}; give at least one domain a weight above 0.")
    return {domain: weights.get(domain, 0.0) / total for domain in order}


def check_mixture(
    weights: Mapping[str, float], domains: Iterable[str], *, name: str = "mixture"
) -> dict[str, float]:
    """Like `normalise`, for weights that claim to be a mixture already.

    Raises:
        MixtureError: Also when the weights miss a sum of 1 by more than `SUM_TOLERANCE`.
    """
    mixture = normalise(weights, domains, name=name)
    total = math.fsum(weights.values())
    if abs(total - 1.0) > SUM_TOLERANCE + _SUM_SLACK:
        raise MixtureError(f"{name}: the weights sum to {total:.4g}, not to 1.")
    return mixture


def uniform(domains: Iterable[str]) -> dict[str, float]:
    """The mixture that gives every domain the same share."""
    return normalise(dict.fromkeys(names := list(domains), 1.0), names)


def is_no_mixture(weights: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell for every row whether a weight is negative or no finite number, or their sum is not near 1."""
    values = weights.to_numpy(dtype=np.float64, na_value=np.nan)
    misses = np.abs(values.sum(axis=1) - 1.0)
    return np.asarray(~(misses <= SUM_TOLERANCE + _SUM_SLACK) | ~(values >= 0).all(axis=1))


def what_is_wrong(weights: pd.Series[float]) -> str:
    """Say why a row is no mixture.

    >>> what_is_wrong(pd.Series({"web": 1.5, "code": -0.5}))
    "the weight of 'code' is -0.5"
    >>> what_is_wrong(pd.Series({"web": 0.5, "code": 0.1}))
    'the weights sum to 0.6, not to 1'
    """
    for domain, weight in weights.items():
        if not (math.isfinite(weight) and weight >= 0):
            return f"the weight of {domain!r} is {weight}"
    return f"the weights sum to {weights.sum():.4g}, not to 1"
