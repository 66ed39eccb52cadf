"""What a law gains that sees epochs: `python -m tests.benchmarks.repetition`.

The 182 runs of `../shared/data/repetition` (one source, 1 to 9,000 epochs, 7M to 8.7B parameters), each
predicted by the trend of `scaled_law` fitted on four fifths of the others, with and without the term of
`regmix_hf.regression.repetition`: mean absolute error in nats, over all and by epochs, the median of all, and
Spearman; means over five deals into folds. Runs of one model and one amount of text lie in one fold. Last,
what the term learned from all runs.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from regmix_hf.regression.folds import assign_folds
from regmix_hf.regression.repetition import Repeats
from regmix_hf.regression.scaled_curve import ScaledCurve, ScaledLayout
from regmix_hf.regression.scaled_law import ScaledLaw
from tests.benchmarks.regression import DATA

Array = np.ndarray
#: Bounds of the groups of epochs that errors are said for.
GROUPS = ((1, 4), (4, 40), (40, np.inf))


def fit(logs: Array, losses: Array, repeats: Repeats | None) -> tuple[ScaledLaw, Array, Array, Array]:
    """Fit the trend on runs of one source."""
    law = ScaledLaw()
    law._sizes = logs
    return law, *law.fit_raw(np.ones((len(logs), 1)), losses[:, None], np.array([-1]), repeats)


def predict(logs: Array, losses: Array, repeats: Repeats | None, fold: Array) -> Array:
    """Predict each run by a fit on the other folds."""
    predicted = np.empty(len(logs))
    for number in range(fold.max() + 1):
        out = fold == number
        law, raw, mean, spread = fit(logs[~out], losses[~out], repeats and repeats.take(~out))
        curve = ScaledCurve(np.ones((out.sum(), 1)), logs[out] - law.centre_)
        if repeats is not None:
            curve, _ = repeats.take(out).added_to(curve, ScaledLayout(1).prior(1))
        predicted[out] = mean[0] + spread[0] * curve(raw)[0][0]
    return predicted


def main() -> None:
    """Print a line without the term and one with it, and the term."""
    runs = pd.read_csv(DATA / "repetition" / "runs.csv")
    logs = np.log(runs[["params_billion", "tokens_billion"]].to_numpy() * 1e9)
    losses, epochs = runs["val_loss"].to_numpy(), runs["epochs"].to_numpy()
    groups = runs[["params_billion", "unique_tokens_billion"]].to_numpy()
    repeats = Repeats(np.log1p(epochs)[:, None], logs[:, 0] - logs[:, 0].mean())
    for name, told in (("without epochs", None), ("with epochs", repeats)):
        scores = []
        for seed in range(5):
            predicted = predict(logs, losses, told, assign_folds(groups, 5, seed, "repetition"))
            missed = np.abs(predicted - losses)
            rank = 100 * pd.Series(predicted).corr(runs["val_loss"], method="spearman")
            within = [missed[(low <= epochs) & (epochs < high)].mean() for low, high in GROUPS]
            scores.append([missed.mean(), np.median(missed), rank, *within])
        whole, middle, rank, *within = np.mean(scores, axis=0)
        parts = [f"{low:g} to {high:g}: {off:.3f}" for (low, high), off in zip(GROUPS, within, strict=True)]
        print(f"{name:<16} error {whole:.3f} nats (median {middle:.3f})  rank {rank:.1f}")
        print(f"{'':<16} by epochs  {'  '.join(parts)}", flush=True)
    _, raw, _, spread = fit(logs, losses, repeats)
    threshold, growth, harm = raw[0, -3:]
    size = spread[0] * np.exp(harm)
    print(f"tau {threshold:.2f} ({np.expm1(threshold):.1f} epochs)  c {growth:.2f}  h {size:.3f} nats")


if __name__ == "__main__":
    main()
