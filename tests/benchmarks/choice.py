"""How fast a million candidates are simulated: `python -m tests.benchmarks.choice`.

Regressors are fitted on 512 runs of 17 domains with 13 targets, made by a law of the kind real losses follow;
the law over sizes on 16 of them at a larger size, too, and asked for a third.
Boosted trees are compared with LightGBM's own prediction of as many mixtures, in CPU seconds of all threads,
which other load on the machine changes less than the time that passes.
"""

from __future__ import annotations

import resource
import time

import numpy as np
import pandas as pd

from regmix_hf.choice import choose_mixture
from regmix_hf.mixtures import around_prior, sample_mixtures, sampling_constraints
from regmix_hf.recipe import Choice, Sampling
from regmix_hf.regression import MixtureRegressor
from regmix_hf.tables import SIZES, by_domain

NUM_RUNS, NUM_DOMAINS, NUM_TARGETS, NUM_CANDIDATES = 512, 17, 13, 1_000_000
SHARES = "237 185 113 102 80 67 51 46 39 27 16 12 8 8 3.9 3.7 1.8"
TOTAL = sum(map(float, SHARES.split()))
PRIOR = {f"d{i}": float(share) / TOTAL for i, share in enumerate(SHARES.split())}


def make_runs() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mixtures of RegMix's kind, and losses that fall with the domains that help, with noise."""
    rng = np.random.default_rng(0)
    table = sample_mixtures(PRIOR, Sampling(num_mixtures=NUM_RUNS, num_holdout=0))
    weights = by_domain(table, "weight")
    help_of = np.eye(NUM_DOMAINS)[:, :NUM_TARGETS] + 0.1 * rng.random((NUM_DOMAINS, NUM_TARGETS))
    losses = 3.0 + (0.01 + weights.to_numpy() @ help_of) ** -0.3
    losses += rng.normal(scale=0.01, size=losses.shape)
    return weights, pd.DataFrame(losses, columns=[f"d{i}" for i in range(NUM_TARGETS)])


def peak_gigabytes() -> float:
    """Largest memory the process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def time_choice(model: MixtureRegressor, target: str, weights: pd.DataFrame) -> float:
    """Choose and print; return the CPU seconds."""
    start, used = time.perf_counter(), time.process_time()
    choice = Choice(num_candidates=NUM_CANDIDATES)
    chosen = choose_mixture(model, target, prior=PRIOR, swarm=weights, choice=choice)
    took, used = time.perf_counter() - start, time.process_time() - used
    print(
        f"{model.estimator}, {chosen.target}: a million candidates in {took:.1f} s ({used:.1f} s of CPU), "
        f"{chosen.method}; peak memory of the process {peak_gigabytes():.2f} GB",
        flush=True,
    )
    return used


def own_prediction(model: MixtureRegressor, targets: list[str]) -> float:
    """CPU seconds of LightGBM's predict for a million mixtures and some targets; measured on a fortieth."""
    settings = Sampling()
    distribution = around_prior(PRIOR, settings, sampling_constraints(settings, PRIOR))
    rows = NUM_CANDIDATES // 40
    weights = next(distribution.chunks(np.random.default_rng(0), 2 * rows))[:rows]
    used = time.process_time()
    for target in targets:
        model.model.boosters_[model.targets_.index(target)].predict(weights)
    return (time.process_time() - used) * NUM_CANDIDATES / rows


def main() -> None:
    """Print the times."""
    weights, losses = make_runs()
    smooth = MixtureRegressor("power_law").fit(weights, losses)
    time_choice(smooth, "mean", weights)
    time_choice(smooth, "d0", weights)
    sizes = pd.DataFrame([(1e6, 1e9)] * NUM_RUNS + [(6e7, 1e9)] * 16, columns=list(SIZES))
    both = [
        pd.concat([part, more], ignore_index=True)
        for part, more in zip((weights, losses), (weights[:16], 0.8 * losses[:16]), strict=True)
    ]
    ladder = MixtureRegressor("scaled_law").fit(*both, sizes=sizes)
    time_choice(ladder.at(1e9, 2.5e10), "mean", weights)
    trees = MixtureRegressor("lightgbm").fit(weights, losses)
    for target, targets in (("d0", ["d0"]), ("mean", list(losses))):
        own = own_prediction(trees, targets)
        used = time_choice(trees, target, weights)
        print(f"lightgbm's own predict: {own:.1f} s of CPU, {own / used:.1f} times as much")


if __name__ == "__main__":
    main()
