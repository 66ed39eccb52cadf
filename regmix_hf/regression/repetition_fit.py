"""Fit what repetition costs: the law of one size or of several, with the term of `Repetition` added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from regmix_hf.errors import RegressionError
from regmix_hf.regression.base import Array, of_largest
from regmix_hf.regression.folds import assign_folds
from regmix_hf.regression.power_law import PowerLaw
from regmix_hf.regression.repetition import Repeats, Repetition
from regmix_hf.regression.scaled_law import ScaledLaw

_NUM_FOLDS = 10


@dataclass(frozen=True, eq=False)
class FittedRepetition:
    """What repeating cost some runs.

    Attributes:
        term: As it is for the runs of `of_largest`; `None` where no run read a domain more than once.
        seen: What it says each run's repetition cost, runs x targets.
        unseen: What terms say that saw neither the run nor its mixture.
    """

    term: Repetition | None
    seen: Array
    unseen: Array


def fit_repetition(
    mixtures: pd.DataFrame,
    losses: Array,
    own: Sequence[int],
    epochs: pd.DataFrame | None,
    sizes: Array | None,
    random_state: int,
) -> FittedRepetition:
    """Fit the term to runs of which some read a domain more than once.

    Args:
        mixtures: Runs x domains.
        losses: Runs x targets, to be made small; NaN where there is none.
        own: The column of each target's own domain, or -1.
        epochs: How often each run read each domain, runs x domains, in the order of the runs; `None`: once.
        sizes: Parameters and training tokens of each run, runs x 2; `None`: all are of one size and length.
        random_state: Seed of the folds.

    Raises:
        RegressionError: Epochs are missing, negative or not finite.
    """
    weights, nothing = mixtures.to_numpy(), np.zeros_like(losses)
    again = np.ones_like(weights) if epochs is None else _numbers(epochs, mixtures)
    if not (again > 1.0).any():
        return FittedRepetition(None, nothing, nothing)
    logs = np.zeros((len(weights), 2)) if sizes is None else np.log(sizes)
    is_sized = len(np.unique(logs, axis=0)) > 1
    repeated = (again > 1.0).any(axis=0)
    centre = logs[:, 0].mean()
    repeats = Repeats(np.log1p(again[:, repeated]), logs[:, 0] - centre)

    def fit(rows: NDArray[np.bool_], start: Array | None = None) -> tuple[Repetition, Array]:
        law = ScaledLaw() if is_sized else PowerLaw()
        law._sizes, law._start = logs[rows], start
        raw, _, spread = law.fit_raw(weights[rows], losses[rows], np.array(own), repeats.take(rows))
        harm = np.zeros((losses.shape[1], weights.shape[1]))
        first = raw.shape[1] - int(repeated.sum())
        harm[:, repeated] = spread[:, None] * np.exp(raw[:, first:])
        return Repetition(harm, raw[:, first - 2], raw[:, first - 1], at, rates, again.max(axis=0)), raw

    largest = of_largest(logs)
    at = logs[largest][0] - (centre, 0.0)
    rates = _rates(weights[largest], again[largest], np.exp(at[1]))
    whole, raw = fit(np.ones(len(weights), bool))
    unseen = np.empty_like(losses)
    folds = assign_folds(weights, _NUM_FOLDS, random_state, "repetition")
    for fold in range(folds.max() + 1):
        held_out = folds == fold
        part, _ = fit(~held_out, raw)
        unseen[held_out] = part.costs(again[held_out], repeats.larger[held_out])
    return FittedRepetition(whole, whole.costs(again, repeats.larger), unseen)


def _numbers(epochs: pd.DataFrame, mixtures: pd.DataFrame) -> Array:
    numbers = epochs.reindex(columns=mixtures.columns).to_numpy(np.float64)
    if numbers.shape != mixtures.shape or not (np.isfinite(numbers) & (numbers >= 0)).all():
        raise RegressionError("epochs: give a number that is not negative for every run and domain.")
    return numbers


def _rates(weights: Array, epochs: Array, num_tokens: float) -> Array:
    """One over the available tokens of each domain, in the median run that read any; 0 where none did."""
    tokens = weights * num_tokens
    read = (tokens > 0) & (epochs > 0)
    rates = np.where(read, epochs / np.where(read, tokens, 1.0), np.nan)
    known = read.any(axis=0)
    found = np.zeros(weights.shape[1])
    found[known] = np.nanmedian(rates[:, known], axis=0)
    return found
