"""What leaving the prior costs with `kl_strength: auto`: as much as promises fell short by."""

from __future__ import annotations

import numpy as np
from scipy.special import rel_entr

from regmix_hf.mixtures import Array


def divergence(weights: Array, prior: Array) -> Array:
    """`KL(w || prior)` of each row in nats, `(n, d) -> (n,)`; infinite where the prior has nothing."""
    return np.asarray(rel_entr(weights, prior).sum(axis=1))


def price_of_leaving(measured: Array, promised: Array, divergences: Array) -> float:
    """Nats of loss per nat of divergence by which promises fell short, at least 0.

    A choice looks at mixtures that are predicted well, so only the better half counts: there promises are
    too good, by luck and by extrapolation. Least squares through the origin, for the prior itself is left by
    nothing: `sum k (measured - promised) / sum k^2`.

    Args:
        measured: Target of each run.
        promised: Its prediction by a fit that saw neither the run nor its mixture.
        divergences: Of each run's mixture from the prior.
    """
    known = np.isfinite(measured) & np.isfinite(promised) & np.isfinite(divergences)
    better = known & (promised <= np.median(promised[known])) if known.any() else known
    away, short = divergences[better], (measured - promised)[better]
    total = float(away @ away)
    return max(0.0, float(away @ short) / total) if total > 0 else 0.0
