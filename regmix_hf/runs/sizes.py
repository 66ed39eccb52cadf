"""How large the models of runs are, how long they trained, and how often they read each domain."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from regmix_hf.tables import SIZES, by_domain


def sizes_in(results: pd.DataFrame) -> pd.DataFrame | None:
    """Sizes where every run has one: tables of version 0.1 count no parameters."""
    if not set(SIZES) <= set(results.columns):
        return None
    sizes = results[list(SIZES)].astype(np.float64)
    return sizes if (np.isfinite(sizes) & (sizes > 0)).all(axis=None) else None


def epochs_in(results: pd.DataFrame, domains: Collection[str]) -> pd.DataFrame | None:
    """How often every run read each of these domains, where the table says it of all."""
    epochs = by_domain(results, "epochs")
    if not set(domains) <= set(epochs.columns):
        return None
    found = epochs[list(domains)].astype(np.float64)
    return found if (np.isfinite(found) & (found >= 0)).all(axis=None) else None


def scales_in(results: pd.DataFrame) -> pd.Series[str] | None:
    """Say of every run what trained for how long, where the table knows."""
    if not {"scale", "num_train_tokens"} <= set(results.columns):
        return None
    pairs = zip(results["scale"], results["num_train_tokens"], strict=True)
    words = [f"{scale} on {tokens:,} tokens" for scale, tokens in pairs]
    return pd.Series(words, index=results.index, dtype="str")


def words_of_sizes(sizes: pd.DataFrame) -> pd.Series[str]:
    """Say every run's size and length."""
    words = [scale_words(parameters, tokens) for parameters, tokens in sizes[list(SIZES)].to_numpy()]
    return pd.Series(words, index=sizes.index, dtype="str")


def scale_words(num_parameters: float, num_train_tokens: float) -> str:
    """Say a size and a length, e.g. `60,000,000 parameters on 1,000,000,000 tokens`."""
    return f"{num_parameters:,.0f} parameters on {num_train_tokens:,.0f} tokens"
