"""Which mixtures of a swarm are trained at another size, too: some that lie far apart."""

from __future__ import annotations

import numpy as np

from regmix_hf.mixtures.capped_sum import Array
from regmix_hf.seeds import generator


def spread(mixtures: Array, taken: Array, count: int, random_state: int) -> Array:
    """Return what lacks of `count` mixtures, each drawn with chances as its squared distance to the nearest.

    This is how k-means++ finds its first centres (Arthur and Vassilvitskii 2007): farther apart than by
    chance, and yet not all of them corners. Distances are total variation. The first of a larger number are
    those of a smaller one, whatever size they are for.

    Args:
        mixtures: To choose from, `(n, d)`; equal ones count once.
        taken: Those that were chosen before.
        count: How many there shall be, those included.
        random_state: Seed.
    """
    known = np.unique(mixtures, axis=0)
    chosen = list(taken)
    while len(chosen) < min(count, len(known)):
        apart = np.array([np.abs(known - one).sum(axis=1) for one in chosen])
        chances = apart.min(axis=0) ** 2 if len(chosen) else np.ones(len(known))
        if not chances.any():
            break
        rng = generator(random_state, "ladder", len(chosen))
        chosen.append(known[rng.choice(len(known), p=chances / chances.sum())])
    return np.asarray(chosen[len(taken) :]).reshape(-1, mixtures.shape[1])
