"""How well the scaled law predicts larger models: `python -m tests.benchmarks.scales [ladder|regmix ...]`.

`ladder` fits all trajectories of `../shared/data/scale-ladder` at 122M and 310M parameters, alone or with
those of 8 mixtures at 680M, and predicts all others at 680M: mean relative error in percent over all lengths
and at the last, mean Spearman of the 8 targets at the last in percent, and the share of last losses inside
90 % intervals. `regmix` fits RegMix's 512 runs of 1M with n of 60M and predicts the others of 60M: mean
absolute error in nats, Spearman over the 13 targets, coverage. Seconds are processor time of a fit,
cross-validation included.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd

from regmix_hf.regression import MixtureRegressor
from regmix_hf.tables import SIZES
from tests.benchmarks.regression import DATA, mean_spearman, published


def ladder() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Weights, losses and sizes of every checkpoint."""
    runs = pd.read_csv(DATA / "scale-ladder" / "runs.csv")
    weights = runs.filter(regex="^weight_").rename(columns=lambda name: name.removeprefix("weight_"))
    losses = runs.filter(regex="_loss$").rename(columns=lambda name: name.removesuffix("_loss"))
    return weights, losses, runs[["model_size", "n_tokens"]].set_axis(list(SIZES), axis=1)


def extrapolate(num_larger: int, seed: int) -> str:
    """Fit the two smaller sizes with some mixtures of the largest, and predict its others."""
    weights, losses, sizes = ladder()
    large = sizes["num_parameters"] == sizes["num_parameters"].max()
    mixture = weights.groupby(list(weights)).ngroup()
    known = np.random.default_rng([num_larger, seed]).permutation(mixture[large].unique())[:num_larger]
    fitted = ~large | mixture.isin(known)
    start = time.process_time()
    model = MixtureRegressor("scaled_law").fit(weights[fitted], losses[fitted], sizes=sizes[fitted])
    seconds = time.process_time() - start
    unseen = large & ~fitted
    errors = []
    for size, rows in sizes[unseen].groupby(list(SIZES)):
        at = model.at(*size)
        predicted, true = at.predict(weights.loc[rows.index]), losses.loc[rows.index]
        errors.append(100 * (predicted / true - 1).abs().mean(axis=None))
    lower, upper = at.predict_interval(weights.loc[rows.index])
    inside = 100 * ((lower <= true) & (true <= upper)).mean(axis=None)
    return (
        f"680M + {num_larger:<3} error {np.mean(errors):.2f} %  last {errors[-1]:.2f} %  "
        f"rank {mean_spearman(predicted, true):.2f}  coverage {inside:.0f}  fit {seconds:.0f} s"
    )


def transfer(num_larger: int, seed: int) -> str:
    """Fit 512 runs of 1M with some of 60M, and predict the others of 60M."""
    weights, losses = published("train", "1m")
    larger, their_losses = published("test", "60m")
    order = np.random.default_rng([num_larger, seed]).permutation(len(larger))
    known, unseen = order[:num_larger], order[num_larger:]
    sizes = pd.DataFrame([(1e6, 1e9)] * len(weights) + [(6e7, 1e9)] * num_larger, columns=list(SIZES))
    start = time.process_time()
    model = MixtureRegressor("scaled_law").fit(
        pd.concat([weights, larger.iloc[known]], ignore_index=True),
        pd.concat([losses, their_losses.iloc[known]], ignore_index=True),
        sizes=sizes,
    )
    seconds = time.process_time() - start
    predicted, true = model.predict(larger.iloc[unseen]), their_losses.iloc[unseen]
    lower, upper = model.predict_interval(larger.iloc[unseen])
    inside = 100 * ((lower <= true) & (true <= upper)).mean(axis=None)
    return (
        f"60M + {num_larger:<3} error {(predicted - true).abs().mean(axis=None):.4f} nats  "
        f"rank {mean_spearman(predicted, true):.2f}  coverage {inside:.0f}  fit {seconds:.0f} s"
    )


def main() -> None:
    """Print one line per table, number of runs at the larger size, and seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", default=["ladder", "regmix"])
    parser.add_argument("--seeds", type=int, default=3, help="random choices of runs at the larger size")
    parser.add_argument("--larger", nargs="+", type=int, help="runs or mixtures at the larger size")
    arguments = parser.parse_args()
    measures = {"ladder": (extrapolate, [0, 8]), "regmix": (transfer, [16, 32, 64])}
    for table in arguments.tables:
        measure, usual = measures[table]
        for num_larger in arguments.larger or usual:
            for seed in range(arguments.seeds if num_larger else 1):
                print(measure(num_larger, seed), flush=True)


if __name__ == "__main__":
    main()
