"""A table of results, taken apart: which columns were measured, with what errors, at which scale."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from regmix_hf.errors import DataError
from regmix_hf.mixtures.mixture import is_no_mixture, what_is_wrong
from regmix_hf.mixtures.table import EXPERT
from regmix_hf.quantities import BPB, LOSS, Quantity, bare, error_column, is_measured
from regmix_hf.runs.experts import Experts
from regmix_hf.tables import by_domain

Split = Literal["fit", "holdout"]


def errors_of(results: pd.DataFrame, quantities: Mapping[str, Quantity]) -> pd.DataFrame | None:
    """Standard errors of what was measured, of the targets that have them; `None` where none has."""
    found = {name: error_column(quantity.column) for name, quantity in quantities.items()}
    known = {column: name for name, column in found.items() if column in results}
    return results[list(known)].rename(columns=known).astype(np.float64) if known else None


def measured_columns(results: pd.DataFrame, asked: Collection[str]) -> Iterable[str]:
    """The columns of what was measured, a loss in bits per byte only where that is asked for."""
    for column in map(str, results.columns):
        is_loss_again = column.startswith(BPB) and f"{LOSS}{column.removeprefix(BPB)}" in results
        is_asked = any(fnmatch.fnmatchcase(column, name) for name in asked)
        if is_measured(column) and (is_asked or not is_loss_again):
            yield column


def with_values(
    runs: pd.DataFrame, columns: Sequence[str], asked: Collection[str], experts: Experts | None
) -> tuple[pd.DataFrame, list[str], tuple[str, ...]]:
    """Leave out what experts alone were asked about, or the runs where just that is to be made good.

    Where there are experts alone, what these were not asked about is left out.

    Args:
        runs: That are no experts.
        columns: Of what was measured.
        asked: Names or patterns of targets.
        experts: What is known of experts; `None`: there are none.

    Returns:
        The runs, the columns, and what was left out, in words.

    Raises:
        DataError: There are experts alone, and not all were asked about what is to be made good.
    """
    known = experts.texts if experts is not None else {}
    if known and not len(runs):
        return runs, *_asked_of(known, columns, asked)
    # A mixture of one domain alone is its expert: of itself that tells all, of other mixtures nothing.
    others = runs if experts is None else runs[~runs.index.isin(experts.weights.index)]
    told = others if len(others) else runs
    lacking = {
        column: name
        for column in columns
        if {name := bare(column), name.removeprefix(BPB)} & known.keys() and told[column].isna().all()
    }
    if not lacking:
        return runs, list(columns), ()
    said = ", ".join(lacking.values())
    if set(lacking.values()) & set(asked):
        note = f"of {said} experts alone know, so no run on a mixture, of {len(runs)}, is fitted on"
        return runs.iloc[:0], list(columns), (note,)
    left = [column for column in columns if column not in lacking]
    return runs, left, (f"left out: {said}, which experts alone were asked about",)


def _asked_of(
    known: Collection[str], columns: Sequence[str], asked: Collection[str]
) -> tuple[list[str], tuple[str, ...]]:
    """The columns that experts were asked about, and what was left out, in words."""
    kept = [column for column in columns if {bare(column), bare(column).removeprefix(BPB)} & set(known)]
    lacking = [bare(column) for column in columns if column not in kept]
    if wanted := [name for name in lacking if name in asked]:
        raise DataError(
            f"nobody can say how mixtures differ on {wanted[0]!r}: not all experts were asked about it, and "
            "no run on a mixture was.",
            "remove the folders of those that were not (`regmix status` counts them) and run "
            "`regmix proxies`, or choose for another target",
        )
    return kept, (f"left out: {', '.join(lacking)}, which not all experts were asked about",) * bool(lacking)


def check_results(results: pd.DataFrame, origin: str) -> None:
    """Check what `Runs.from_results` reads.

    Raises:
        DataError: A column is missing, or a value is none that the column may have.
    """
    for column in ("run_id", "split"):
        if column not in results:
            raise DataError(f"{origin} has no column {column!r}.")
    weights = by_domain(results, "weight")
    losses = results[list(measured_columns(results, ()))]
    for prefix, part in (("weight", weights), ("loss", losses)):
        if part.shape[1] == 0:
            raise DataError(f"{origin} has no column {prefix}/<domain>.")
    allowed = {"split": (*get_args(Split), EXPERT), "status": ("ok", "diverged", "failed")}
    for column in [name for name in allowed if name in results]:
        wrong = ~results[column].isin(allowed[column])
        if wrong.any():
            raise DataError(
                f"{origin}: {column} is {results.loc[wrong, column].iloc[0]!r} "
                f"for the run {_first(results, wrong)}.",
                f"it may be {', '.join(allowed[column])}",
            )
    off = is_no_mixture(weights)
    if off.any():
        raise DataError(f"{origin}: of the run {_first(results, off)} {what_is_wrong(weights[off].iloc[0])}.")


def _first(results: pd.DataFrame, where: pd.Series[bool] | NDArray[np.bool_]) -> str:
    return repr(results.loc[where, "run_id"].iloc[0])
