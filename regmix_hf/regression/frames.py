"""Tables of weights and losses as they come from outside, turned into matrices with names."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from regmix_hf.errors import RegressionError, did_you_mean
from regmix_hf.mixtures.mixture import is_no_mixture

Array = NDArray[np.float64]
Table = pd.DataFrame | Array


def weights_table(weights: Table, domains: tuple[str, ...] | None = None) -> pd.DataFrame:
    """Return weights as a table of doubles whose rows sum to 1, columns in the order of `domains`.

    Args:
        weights: Runs x domains. An array's columns are taken in the order of `domains`.
        domains: The domains it must have. `None` takes the table's own, or `domain_0`, ... for an array.

    Raises:
        RegressionError: Domains that are missing, unknown or there twice, a cell that is no number from 0
            up, or a row that is no mixture (`is_no_mixture`).
    """
    if isinstance(weights, pd.DataFrame):
        table = weights.rename(columns=str)
        _check_unique(table.columns, "weights")
        if domains is not None:
            _check_domains(table.columns, domains)
            table = table[list(domains)]
    else:
        array = np.asarray(weights)
        if array.ndim != 2:
            raise RegressionError(f"weights have shape {array.shape}; give a matrix, runs x domains.")
        names = domains or tuple(f"domain_{column}" for column in range(array.shape[1]))
        if len(names) != array.shape[1]:
            raise RegressionError(f"weights have {array.shape[1]} columns; the fit had {len(names)} domains.")
        table = pd.DataFrame(array, columns=list(names))
    table = _numbers(table, "weights")
    values = table.to_numpy()
    _refuse(table, ~np.isfinite(values) | (values < 0), "weights", "a number from 0 to 1")
    sums = values.sum(axis=1)
    wrong = np.flatnonzero(is_no_mixture(table))
    if len(wrong):
        raise RegressionError(
            f"weights: row {table.index[wrong[0]]!r} sums to {sums[wrong[0]]:.4g}, not to 1.",
            "give shares of training tokens",
        )
    return pd.DataFrame(values / sums[:, None], index=table.index, columns=table.columns)


def losses_table(losses: Table | pd.Series, weights: pd.DataFrame) -> pd.DataFrame:
    """Return losses as a table of doubles, in the order of the runs of `weights`.

    Args:
        losses: Runs x targets; a series or a vector is one target. NaN is a missing loss. A table or
            series is matched to `weights` by its index; an array by position.
        weights: The runs.

    Raises:
        RegressionError: Runs that do not match, targets that are there twice, a cell that is no number or
            infinite, or a target whose losses are all equal.
    """
    if isinstance(losses, pd.Series):
        losses = losses.to_frame(losses.name if losses.name is not None else "loss")
    if isinstance(losses, pd.DataFrame):
        table = losses.rename(columns=str)
        _check_unique(table.columns, "losses")
        table = _align(table, weights.index)
    else:
        array = np.asarray(losses)
        if array.ndim not in (1, 2) or len(array) != len(weights):
            raise RegressionError(
                f"losses have shape {array.shape}; there are {len(weights)} runs.", "give one row per run"
            )
        names = ["loss"] if array.ndim == 1 else [f"target_{column}" for column in range(array.shape[1])]
        table = pd.DataFrame(array.reshape(len(array), -1), index=weights.index, columns=names)
    table = _numbers(table, "losses")
    _refuse(table, np.isinf(table.to_numpy()), "losses", "a finite loss, or nothing where a run diverged")
    for target in table:
        known = table[target].dropna()
        if len(known) > 1 and known.nunique() == 1:
            raise RegressionError(
                f"target {target!r}: all {len(known)} losses are {known.iloc[0]:.6g}.",
                "leave the target out: there is nothing to explain",
            )
    return table


def _align(losses: pd.DataFrame, runs: pd.Index) -> pd.DataFrame:
    if losses.index.equals(runs):
        return losses
    if runs.has_duplicates or losses.index.has_duplicates:
        raise RegressionError(
            "weights and losses have different indices, and a run is in one of them twice.",
            "give every run one index, the same in both",
        )
    for here, there, name in ((runs, losses.index, "losses"), (losses.index, runs, "weights")):
        missing = here.difference(there)
        if len(missing):
            raise RegressionError(f"run {missing[0]!r} has no {name} ({len(missing)} such runs).")
    return losses.loc[runs]


def _check_unique(names: pd.Index, what: str) -> None:
    if names.has_duplicates:
        raise RegressionError(f"{what}: column {names[names.duplicated()][0]!r} is there twice.")


def _check_domains(names: pd.Index, domains: tuple[str, ...]) -> None:
    for name in names:
        if name not in domains:
            raise RegressionError(f"weights: {name!r} is no domain of the fit.", did_you_mean(name, domains))
    missing = [domain for domain in domains if domain not in names]
    if missing:
        raise RegressionError(f"weights: no column for {', '.join(map(repr, missing))}.")


def _numbers(table: pd.DataFrame, what: str) -> pd.DataFrame:
    try:
        return table.astype(np.float64)
    except (TypeError, ValueError):
        numbers = table.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
        _refuse(table, np.isnan(numbers) & table.notna().to_numpy(), what, "a number")
        raise


def _refuse(table: pd.DataFrame, wrong: NDArray[np.bool_], what: str, expected: str) -> None:
    cells = np.argwhere(wrong)
    if len(cells):
        row, column = map(int, cells[0])
        raise RegressionError(
            f"{what}: row {table.index[row]!r}, column {table.columns[column]!r} is "
            f"{table.iloc[:, column].tolist()[row]!r}; write {expected}."
        )
