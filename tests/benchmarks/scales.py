"""How well the scaled law predicts larger models: `python -m tests.benchmarks.scales [ladder|noise|regmix]`.

`ladder` fits all trajectories of `../shared/data/scale-ladder` at 122M and 310M parameters, alone or with
those of 8 mixtures at 680M, and predicts all others at 680M: mean relative error in percent over all lengths
and at the last, mean Spearman of the 8 targets at the last in percent, and the share of last losses inside
90 % intervals; `--larger` says how many mixtures instead. `noise` prints by how much single checkpoints miss
the line between their neighbours, in percent of the loss, once what all mixtures have in common at a length
is taken off, over the root of what the squares of three independent errors sum to: no law foresees it.
`regmix` fits RegMix's 512 runs of 1M with n of 60M and predicts the others of 60M: mean absolute error in
nats, Spearman over the 13 targets, coverage. Seconds are processor time of a fit, cross-validation included.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence

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
    missed = []
    for size, rows in sizes[unseen].groupby(list(SIZES)):
        at = model.at(*size)
        predicted, true = at.predict(weights.loc[rows.index]), losses.loc[rows.index]
        missed.append(100 * np.abs(predicted / true - 1).to_numpy().mean())
    lower, upper = at.predict_interval(weights.loc[rows.index])
    inside = 100 * ((lower <= true) & (true <= upper)).mean(axis=None)
    return (
        f"680M + {num_larger:<3} error {np.mean(missed):.3f} %  last {missed[-1]:.3f} %  "
        f"rank {mean_spearman(predicted, true):.2f}  coverage {inside:.0f}  fit {seconds:.0f} s"
    )


def noise(num_parameters: float) -> str:
    """Compare each checkpoint of one size with those before and after it."""
    weights, losses, sizes = ladder()
    rows = sizes["num_parameters"] == num_parameters
    mixture = weights.groupby(list(weights)).ngroup()
    cells = np.log(losses[rows]).groupby([mixture[rows], sizes.loc[rows, "num_train_tokens"]]).mean()
    # The last two lengths are a step apart, and one checkpoint.
    table = np.stack([cells[name].unstack().to_numpy()[:, :-1] for name in losses])
    table -= np.nanmedian(table, axis=1, keepdims=True)
    tokens = np.log(np.unique(sizes.loc[rows, "num_train_tokens"]))[:-1]
    before = (tokens[2:] - tokens[1:-1]) / (tokens[2:] - tokens[:-2])
    off = table[:, :, 1:-1] - before * table[:, :, :-2] - (1 - before) * table[:, :, 2:]
    off = (off - np.nanmedian(off, axis=1, keepdims=True)) / np.sqrt(1 + before**2 + (1 - before) ** 2)
    lengths = " ".join(f"{value:.2f}" for value in 100 * np.nanmean(np.abs(off), axis=(0, 1)))
    mean = 100 * np.nanmean(np.abs(off))
    return f"{num_parameters:.3g} parameters: a checkpoint is off by {mean:.2f} % ({lengths})"


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
    parser.add_argument("tables", nargs="*", default=["ladder", "noise", "regmix"])
    parser.add_argument("--seeds", type=int, default=3, help="random choices of runs at the larger size")
    parser.add_argument("--larger", nargs="+", type=int, help="runs or mixtures at the larger size")
    arguments = parser.parse_args()
    for table in arguments.tables:
        for line in _lines(table, arguments.larger, arguments.seeds):
            print(line, flush=True)


def _lines(table: str, larger: Sequence[int] | None, seeds: int) -> Iterator[str]:
    if table == "noise":
        yield from map(noise, sorted(ladder()[2]["num_parameters"].unique()))
        return
    measure, usual = {"ladder": (extrapolate, [0, 8]), "regmix": (transfer, [16, 32, 64])}[table]
    for num_larger in larger or usual:
        for seed in range(seeds if num_larger else 1):
            yield measure(num_larger, seed)


if __name__ == "__main__":
    main()
