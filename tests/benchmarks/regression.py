"""How well and how fast regressors fit few runs: `python -m tests.benchmarks.regression [ESTIMATOR ...]`.

On the runs that RegMix published (`../shared/data/regmix-published-runs` beside the repository): fit random
subsets of the 1M fitted runs, then predict the 256 unseen mixtures at 1M and 60M parameters. Spearman is the
mean over the 13 targets, in percent; coverage the share of unseen 1M losses inside 90 % intervals, in
percent, and beside it the same for the tenth of the mixtures with the lowest predictions. Seconds are those
of one `fit`, cross-validation for the intervals included. `--speed` measures size and speed instead;
`--foreign` predicts, fold by fold, 512 runs on six languages with losses of eight others, which lie in
`../shared/data/foreign-targets`.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np
import pandas as pd

from regmix_hf.regression import ESTIMATORS, MixtureRegressor
from regmix_hf.regression.folds import assign_folds
from regmix_hf.runs.runs import load_runs

DATA = Path(__file__).parents[2].parent / "shared" / "data"
PUBLISHED = DATA / "regmix-published-runs"
COLUMNS = ("1M", "60M", "coverage", "of lowest", "fit s", "cpu s")


def published(split: str, scale: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Weights and losses of one of the published sets, under the domains' names."""
    weights = pd.read_csv(PUBLISHED / f"{split}_mixture_{scale}.csv", index_col="index")
    losses = pd.read_csv(PUBLISHED / f"{split}_pile_loss_{scale}.csv", index_col="index")
    losses.columns = losses.columns.str.removeprefix("metric/the_pile_").str.removesuffix("_val_loss")
    return weights.rename(columns=lambda name: name.removeprefix("train_the_pile_")), losses


def mean_spearman(predicted: pd.DataFrame, true: pd.DataFrame) -> float:
    """Mean over the targets, in percent."""
    return 100 * float(predicted.corrwith(true.loc[predicted.index], method="spearman").mean())


def measure(estimator: str, size: int, subset: int) -> dict[str, float]:
    """Fit one random subset of the published runs and predict the unseen mixtures."""
    weights, losses = published("train", "1m")
    chosen = np.random.default_rng([size, subset]).permutation(len(weights))[:size]
    start, busy = time.perf_counter(), time.process_time()
    model = MixtureRegressor(estimator).fit(weights.iloc[chosen], losses.iloc[chosen])
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    unseen, small = published("test", "1m")
    predicted = model.predict(unseen)
    lower, upper = model.predict_interval(unseen)
    inside = (lower <= small) & (small <= upper)
    lowest = predicted.rank(pct=True) <= 0.1
    values = (
        mean_spearman(predicted, small),
        mean_spearman(predicted, published("test", "60m")[1]),
        100 * inside.mean(axis=None),
        100 * inside[lowest].stack().mean(),
        seconds,
        busy,
    )
    return dict(zip(COLUMNS, values, strict=True))


def foreign(estimator: str, size: int, folds: int) -> tuple[float, float, float]:
    """Spearman of unseen runs, average over targets and of their mean, and coverage; means over folds."""
    runs = load_runs(
        mixtures=DATA / "foreign-targets" / "mixtures.csv", losses=DATA / "foreign-targets" / "losses.csv"
    )
    fold_of = assign_folds(runs.weights.to_numpy(), 5, 0, "bench")
    scores = []
    for fold in range(folds):
        pool = np.flatnonzero(fold_of != fold)
        fitted = runs.take(np.random.default_rng([size, fold]).permutation(pool)[:size])
        unseen = runs.take(np.flatnonzero(fold_of == fold))
        model = MixtureRegressor(estimator).fit(fitted.weights, fitted.losses)
        predicted = model.predict(unseen.weights)
        lower, upper = model.predict_interval(unseen.weights)
        inside = (lower <= unseen.losses) & (unseen.losses <= upper)
        means = predicted.mean(axis=1).corr(unseen.losses.mean(axis=1), method="spearman")
        scores.append((mean_spearman(predicted, unseen.losses), 100 * means, 100 * inside.to_numpy().mean()))
    average, mean, held = np.mean(scores, axis=0)
    return float(average), float(mean), float(held)


def speed() -> None:
    """Print how long a million candidates and a study of 100 domains take the power law, and their memory."""
    rng = np.random.default_rng(0)
    model = MixtureRegressor("power_law").fit(*published("train", "1m"))
    candidates = pd.DataFrame(rng.dirichlet(np.full(17, 0.3), 1_000_000), columns=list(model.domains_))
    start = time.perf_counter()
    model.predict(candidates)
    print(
        f"power_law, a million candidates, 13 targets: {time.perf_counter() - start:.1f} s, {peak_memory()}"
    )
    del candidates
    weights = rng.dirichlet(np.full(100, 0.3), 600)
    helps = np.exp(rng.standard_normal((50, 100)))
    losses = 3 + 2 * (0.1 + np.sqrt(weights) @ helps.T) ** -0.4 + rng.normal(scale=0.01, size=(600, 50))
    for estimator in ("power_law", "auto"):
        start = time.perf_counter()
        MixtureRegressor(estimator).fit(weights, losses)
        seconds = time.perf_counter() - start
        print(f"{estimator}, fit of 600 runs x 100 domains x 50 targets: {seconds:.1f} s, {peak_memory()}")


def peak_memory() -> str:
    """The most memory this process ever held."""
    return f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB"


def main() -> None:
    """Print one line per estimator and number of runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("estimators", nargs="*", default=list(ESTIMATORS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[32, 64, 128, 512])
    parser.add_argument("--subsets", type=int, default=10, help="random subsets of each size below 512")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--foreign", action="store_true", help="runs whose targets are no training domain")
    parser.add_argument("--folds", type=int, default=5, help="folds of --foreign, of five")
    arguments = parser.parse_args()
    if arguments.speed:
        speed()
        return
    if arguments.foreign:
        for estimator in arguments.estimators:
            for size in arguments.sizes:
                average, mean, held = foreign(estimator, size, arguments.folds)
                words = f"average {average:.1f}  mean {mean:.1f}  coverage {held:.1f}"
                print(f"{estimator:<18}{size:>5}  {words}", flush=True)
        return
    columns = "".join(f"    {name}" for name in COLUMNS)
    print(f"{'estimator':<18}{'runs':>5}{'subsets':>9}{columns}")
    for estimator in arguments.estimators:
        for size in arguments.sizes:
            count = 1 if size >= 512 else arguments.subsets
            row = pd.DataFrame([measure(estimator, size, subset) for subset in range(count)]).mean()
            numbers = "".join(f"{value:>{len(name) + 4}.1f}" for name, value in row.items())
            print(f"{estimator:<18}{size:>5}{count:>9}{numbers}", flush=True)


if __name__ == "__main__":
    main()
