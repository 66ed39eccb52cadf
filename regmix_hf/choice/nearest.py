"""How near a mixture lies to the runs that a regressor was fitted on."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from regmix_hf.mixtures import Array


class NearestRuns:
    """The mixtures of the runs that a regressor was fitted on.

    Args:
        weights: Runs x domains. Runs of one mixture count once.
        domains: Order in which weights come and go.

    Attributes:
        widest_gap: Largest distance of a run to its nearest other one: how far apart runs of this swarm
            may lie. 0 for a single mixture.
    """

    widest_gap: float

    def __init__(self, weights: pd.DataFrame, domains: tuple[str, ...]):
        mixtures = np.unique(weights[list(domains)].to_numpy(dtype=np.float64), axis=0)
        self._tree = KDTree(mixtures)
        to_others = self._tree.query(mixtures, k=[2], p=1)[0][:, 0] / 2
        self.widest_gap = float(to_others.max()) if len(mixtures) > 1 else 0.0

    def distance(self, weights: Array) -> Array:
        """Share of the tokens by which the nearest run differs from each row, `(n, d) -> (n,)`."""
        distances, _ = self._tree.query(weights, p=1)
        return np.asarray(distances / 2)  # total variation is half the sum of absolute differences
