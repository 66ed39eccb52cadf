"""Mixtures and losses as others publish them: two CSV files that share the column that names the run.

RegMix: `index`, `train_<dataset>_<domain>` in one file, `index`, `metric/<dataset>_<domain>_val_loss` in the
other, or `valid_<dataset>_<domain>`, as its configurations say. Olmix: `run,name,index,<domain>...` and
`run,name,index,<metric>...`, with or without the unnamed first column that pandas writes.
"""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import numpy as np
import pandas as pd

from regmix_hf.errors import DataError
from regmix_hf.mixtures.mixture import SUM_TOLERANCE, is_no_mixture
from regmix_hf.tables import SIZES

#: Columns that name a run, the most trusted first; `""` is the column without a header that pandas writes.
_KEYS = ("run", "index", "name", "")
#: Columns that say how large a run is and how long, by what they may be called.
_SIZES = dict(zip((*SIZES, "model_size", "n_tokens"), (*SIZES, *SIZES), strict=True))
_TRAIN, _VALID, _METRIC, _VAL_LOSS = "train_", "valid_", "metric/", "_val_loss"


def read_csv_pair(mixtures: Path, losses: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame | None]:
    """Read weights (runs x domains) and losses (runs x targets), with one index: the runs' ids as text.

    The third table has the runs' sizes, columns `SIZES`, where the file of mixtures has such columns.

    Losses that are empty or `nan` are NaN, infinite ones stay infinite. Weights are as they are written.

    Raises:
        DataError: A file is missing, empty, not UTF-8 or no table; a cell is no number; weights are no
            mixture; a run is named twice; the files do not hold the same runs.
    """
    tables = {path: _read_table(path) for path in (mixtures, losses)}
    if mixtures == losses:
        raise DataError(f"{mixtures} is named for the mixtures and for the losses.", "name two files")
    shared = [key for key in _KEYS if all(key in table.columns for table in tables.values())]
    if not shared:
        raise DataError(
            f"{mixtures} and {losses} share no column that names the runs.",
            "both need a column `index`, or `run`, with the same values",
        )
    for path, table in tables.items():
        # One program's run 12 is another's 12.0.
        table[shared[0]] = table[shared[0]].str.replace(r"^(\d+)\.0+$", r"\1", regex=True)
        _check_unique(table[shared[0]], path)
    weights_table, losses_table = (table.set_index(shared[0], append=True) for table in tables.values())
    _check_same_runs(weights_table, mixtures, losses_table, losses)
    weights, sizes = _part_sizes(_numbers(weights_table, mixtures), mixtures)
    _check_weights(weights, mixtures)
    values = _numbers(losses_table, losses, may_be_missing=True)
    weights, values = (frame.droplevel("line").rename_axis("run_id") for frame in (weights, values))
    return *_bare_names(weights, values.reindex(weights.index)), sizes


def _part_sizes(table: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Part the columns of sizes, both or neither, from those of weights."""
    found = {column: _SIZES[column] for column in table.columns if column in _SIZES}
    if not found:
        return table, None
    if sorted(found.values()) != sorted(SIZES):
        raise DataError(
            f"{path} has the columns {', '.join(found)}: of sizes there are two, or none.",
            f"give {' and '.join(SIZES)} of every run",
        )
    sizes = table[list(found)].rename(columns=found)[list(SIZES)].droplevel("line").rename_axis("run_id")
    if not (np.isfinite(sizes) & (sizes > 0)).all(axis=None):
        raise DataError(f"{path}: a number of parameters or of tokens is not above 0.")
    return table.drop(columns=list(found)), sizes


def _read_table(path: Path) -> pd.DataFrame:
    """All cells as stripped text, indexed by the number of the line they stand in."""
    if not path.is_file():
        raise DataError(
            f"{path} is not there." if not path.exists() else f"{path} is a folder, not a CSV file."
        )
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line} is not UTF-8: byte {content[error.start]:#04x}.") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: dict[int, list[str]] = {}
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows[reader.line_num] = [cell.strip() for cell in cells]
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num} is no CSV: {error}.") from None
    if not rows:
        raise DataError(f"{path} is empty.", "the first line names the columns, every other line is one run")
    header = rows.pop(next(iter(rows)))
    _check_header(header, path)
    for line, cells in rows.items():
        if len(cells) != len(header):
            raise DataError(
                f"{path}, line {line} has {len(cells)} cells, but there are {len(header)} columns."
            )
    if not rows:
        raise DataError(f"{path} holds the names of columns, but no run.")
    return pd.DataFrame(rows.values(), index=pd.Index(rows, name="line"), columns=header)


def _check_header(header: list[str], path: Path) -> None:
    separators = [f"{mark!r}" for mark in (";", "\t") if len(header) == 1 and mark in header[0]]
    if separators:
        raise DataError(
            f"{path}, line 1 holds no comma; its cells seem to be separated by {separators[0]}.",
            "write the table with commas",
        )
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise DataError(f"{path}, line 1 names the column {repeated[0]!r} more than once.")
    if not set(header) - set(_KEYS):
        raise DataError(
            f"{path}, line 1 names no column of values, only {header}.", "cells are separated by commas"
        )


def _check_unique(keys: pd.Series[str], path: Path) -> None:
    repeated = keys[keys.duplicated(keep=False)]
    if len(repeated):
        first, second = (repeated.index[repeated == repeated.iloc[0]][k] for k in (0, 1))
        raise DataError(
            f"{path}, line {second}: the run {repeated.iloc[0]!r} (column {keys.name!r}) "
            f"is in line {first} already.",
            "remove one of the lines, or give the runs different names",
        )


def _check_same_runs(weights: pd.DataFrame, mixtures: Path, values: pd.DataFrame, losses: Path) -> None:
    for table, path, other, other_path in (
        (weights, mixtures, values, losses),
        (values, losses, weights, mixtures),
    ):
        missing = table.index[~table.index.get_level_values(1).isin(other.index.get_level_values(1))]
        if len(missing):
            line, run = missing[0]
            raise DataError(
                f"{path}, line {line}: the run {run!r} is not in {other_path} "
                f"({len(missing)} of {len(table)} runs are not).",
                f"both files need the same values in the column {table.index.names[1]!r}",
            )


def _numbers(table: pd.DataFrame, path: Path, *, may_be_missing: bool = False) -> pd.DataFrame:
    cells = table.drop(columns=[key for key in _KEYS if key in table.columns])
    numbers = cells.apply(pd.to_numeric, errors="coerce").astype(np.float64)
    wrong = numbers.isna()
    if may_be_missing:
        wrong &= ~cells.apply(lambda column: column.str.lower().isin(["", "nan"]))
    if wrong.to_numpy().any():
        row, column = map(int, np.argwhere(wrong.to_numpy())[0])
        raise DataError(
            f"{path}, line {cells.index[row][0]}, column {cells.columns[column]!r}: "
            f"{cells.iloc[row, column]!r} is no number.",
            "write the loss, or leave the cell empty where it was not measured"
            if may_be_missing
            else "write a share of the training tokens, 0 where the domain was not used",
        )
    return numbers


def _check_weights(weights: pd.DataFrame, path: Path) -> None:
    negative = np.argwhere(weights.to_numpy() < 0)
    if len(negative):
        row, column = map(int, negative[0])
        raise DataError(
            f"{path}, line {weights.index[row][0]}, column {weights.columns[column]!r}: "
            f"the weight {weights.to_numpy()[row, column]:g} is below 0.",
            "write a share of the training tokens, 0 where the domain was not used",
        )
    wrong = np.flatnonzero(is_no_mixture(weights))
    if len(wrong):
        label, total = weights.index[wrong[0]], weights.iloc[wrong[0]].sum()
        raise DataError(
            f"{path}, line {label[0]}: the weights of the run {label[1]!r} sum to {total:.4g}, "
            f"not to 1 ({len(wrong)} of {len(weights)} runs).",
            f"weights are shares of training tokens and may miss a sum of 1 by {SUM_TOLERANCE:.0%}; "
            "is a column missing, or one too many?",
        )


def _bare_names(weights: pd.DataFrame, losses: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Take RegMix's `train_`, `valid_`, `metric/`, `_val_loss` and the data set's name off the columns."""
    losses = losses.rename(columns=lambda name: name.removeprefix(_METRIC).removesuffix(_VAL_LOSS))
    if not all(column.startswith(_TRAIN) for column in weights.columns):
        return weights, losses
    weights = weights.rename(columns=lambda name: name.removeprefix(_TRAIN))
    if all(column.startswith(_VALID) for column in losses.columns):
        losses = losses.rename(columns=lambda name: name.removeprefix(_VALID))
    names = [*weights.columns, *losses.columns]
    shared = os.path.commonprefix(names)  # noqa: RUF071 (names, of which it compares letters)
    dataset = shared[: shared.rfind("_") + 1]
    if dataset in names:  # nothing would be left of this one
        return weights, losses
    return (
        weights.rename(columns=lambda name: name.removeprefix(dataset)),
        losses.rename(columns=lambda name: name.removeprefix(dataset)),
    )
