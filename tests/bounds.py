"""What a test needs to know of constraints that the package itself never asks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from regmix_hf.mixtures import Constraints


def allowed(
    bounds: Constraints, weights: NDArray[np.float64], *, tolerance: float = 1e-9
) -> NDArray[np.bool_]:
    """Tell for each row of `weights`, `(n, d)`, whether it is a mixture within the bounds."""
    within = (weights >= bounds.lower - tolerance) & (weights <= bounds.upper + tolerance)
    return np.asarray(within.all(axis=1) & (np.abs(weights.sum(axis=1) - 1.0) <= tolerance))
