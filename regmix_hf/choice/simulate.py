"""RegMix's choice (Liu et al. 2025, algorithm 1): predict a million random mixtures, average the best."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, repeat

import joblib
import numpy as np

from regmix_hf.mixtures import AroundPrior, Array
from regmix_hf.mixtures.dirichlet import NUM_STRENGTHS
from regmix_hf.progress import Progress, Silent
from regmix_hf.seeds import CANDIDATES, generator

#: Numbers in one chunk of candidates; with what a regressor holds for it, some ten megabytes.
_CHUNK_NUMBERS = 1 << 18


@dataclass(frozen=True)
class Simulation:
    """The best of many random mixtures.

    Attributes:
        weights: Mean of the best candidates, `(d,)`; allowed, because the set of allowed mixtures is convex.
        best: The best candidates, `(top_k, d)`, best first.
        values: Their objective, `(top_k,)`.
    """

    weights: Array
    best: Array
    values: Array


def simulate(
    objective: Callable[[Array, float], Array],
    candidates: AroundPrior,
    *,
    num_candidates: int,
    top_k: int,
    random_state: int,
    progress: Progress | None = None,
) -> Simulation:
    """Draw candidates, and average those with the smallest objective.

    Candidates come and go in chunks, so memory does not grow with their number. Of equal candidates those
    drawn first count; the result does not depend on the number of threads.

    Args:
        objective: Maps mixtures `(n, d)` and a ceiling to values `(n,)`. A value above the ceiling need not
            be right, only above it. Called from several threads at once.
        candidates: What they are drawn from.
        num_candidates: How many are drawn.
        top_k: How many of the best are averaged.
        random_state: Seed of the draws.
        progress: Where to count them.
    """
    rng = generator(random_state, *CANDIDATES)
    domains = len(candidates.constraints.domains)
    rows = max(1, _CHUNK_NUMBERS // (domains * NUM_STRENGTHS)) * NUM_STRENGTHS
    chunks = candidates.chunks(rng, rows)
    threads = joblib.cpu_count()
    best, values = np.empty((0, domains)), np.empty(0)
    seen = 0
    bars = (progress or Silent()).bar("candidates", total=num_candidates, unit="mixtures")
    with bars as bar, ThreadPoolExecutor(threads) as pool:
        while seen < num_candidates:
            left = num_candidates - seen
            drawn = [mixtures[:left] for mixtures in islice(chunks, min(threads, math.ceil(left / rows)))]
            ceiling = values[-1] if len(values) == top_k else np.inf
            scored = pool.map(objective, drawn, repeat(ceiling))
            for mixtures, scores in zip(drawn, scored, strict=False):
                taken = slice(0, num_candidates - seen)
                best, values = _best(
                    np.concatenate([best, mixtures[taken]]), np.concatenate([values, scores[taken]]), top_k
                )
                seen += len(mixtures[taken])
            bar.update(seen)
    return Simulation(best.mean(axis=0), best, values)


def _best(mixtures: Array, values: Array, count: int) -> tuple[Array, Array]:
    order = np.argsort(values, kind="stable")[:count]
    return mixtures[order], values[order]
