"""Folds for cross-validation in which runs of one mixture stay together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold

from regmix_hf.seeds import seed_of


def assign_folds(
    weights: NDArray[np.float64], num_folds: int, random_state: int, purpose: str
) -> NDArray[np.intp]:
    """Deal distinct mixtures into folds of nearly equal size, in random order.

    Runs with the same mixture (repeated seeds) share a fold, so that no run is predicted by a fit that saw
    its mixture.

    Args:
        weights: Runs x domains, of two different mixtures at least.
        num_folds: At most this many folds; fewer when there are fewer distinct mixtures.
        random_state: Seed of the order.
        purpose: What the folds are for; each purpose has an order of its own.

    Returns:
        The fold of each run, from 0.
    """
    mixture = np.unique(weights, axis=0, return_inverse=True)[1].reshape(-1)
    count = min(num_folds, int(mixture.max()) + 1)
    dealt = GroupKFold(count, shuffle=True, random_state=seed_of(random_state, "folds", purpose))
    folds = np.empty(len(weights), dtype=np.intp)
    for fold, (_, rows) in enumerate(dealt.split(weights, groups=mixture)):
        folds[rows] = fold
    return folds
