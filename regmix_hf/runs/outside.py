"""Runs as others hand them over: one wide table, a pair of tables, or Olmix's folder of two."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pandas as pd

from regmix_hf.errors import DataError
from regmix_hf.quantities import is_said_to_be_small
from regmix_hf.runs.conditions import epochs_in, epochs_of, sizes_of
from regmix_hf.runs.layout import (
    KEYS,
    NOTED,
    SIZE_COLUMNS,
    SUM_TOLERANCE,
    TINY,
    Columns,
    find_targets,
    find_weights,
    settings_in,
    sizes_in,
    training_losses_in,
)
from regmix_hf.runs.table_file import TableFile
from regmix_hf.tables import SIZES

#: The two tables of one of Olmix's swarms, in a folder.
RATIOS, METRICS = "ratios.csv", "metrics.csv"
_TRAIN, _VALID, _METRIC, _VAL_LOSS = "train_", "valid_", "metric/", "_val_loss"
#: W&B's word for a run that ended well.
_FINISHED = "finished"


@dataclass(frozen=True, eq=False)
class OutsideTables:
    """Runs as they were read.

    Attributes:
        weights: Runs x domains, shares of training tokens whose rows sum to 1.
        values: Runs x targets; NaN where nothing was measured.
        weights_from: The file that the weights came from.
        values_from: The file that the values came from.
        notes: What was left out or changed, with counts.
        sizes: `num_parameters` and `num_train_tokens` of every run; `None` where they are not told.
        epochs: How often every run read each domain, runs x domains; `None` where that is not told.
        said_small: The columns of `values` whose own names said that less of them is better.
    """

    weights: pd.DataFrame
    values: pd.DataFrame
    weights_from: str
    values_from: str
    notes: tuple[str, ...]
    sizes: pd.DataFrame | None = None
    epochs: pd.DataFrame | None = None
    said_small: frozenset[str] = frozenset()


def read_wide(path: Path, said: Columns | None = None, asked: Collection[str] = ()) -> OutsideTables:
    """Read one table that holds weights and measurements, or a folder of Olmix's two.

    Args:
        path: The table, or the folder.
        said: What is said of its columns.
        asked: Names and patterns of targets that somebody speaks of: they are some, whatever they are called.

    Raises:
        DataError: A file is missing or no table; nothing says which columns are weights; a cell is no number;
            weights are no mixture.
    """
    said = said or Columns()
    if path.is_dir():
        pair = path / RATIOS, path / METRICS
        if not all(file.is_file() for file in pair):
            raise DataError(f"{path} is a folder without {RATIOS} and {METRICS}.", "name a file")
        return read_pair(*pair, said)
    table = said.rows_of(_finished(TableFile.read(path)))
    ignored = said.matching("--ignore", said.ignore, table)
    key = said.key(table)
    weights = said.matching("--weights", said.weights, table)
    targets = said.matching("--targets", said.targets, table)
    names = [str(name) for name in table.cells.columns if name not in (*ignored, *KEYS, key)]
    settings = [name for name in settings_in(names) if name not in (*weights, *targets)]
    sized = [name for name in settings if name in SIZE_COLUMNS] if sizes_of(table) is not None else []
    if not sized:
        _check_one_size(table, settings)
    left = [name for name in names if name not in (*settings, *epochs_in(names))]
    trained = [name for name in training_losses_in(left) if name not in targets]
    if not weights:
        weights = find_weights(table, [name for name in left if name not in (*targets, *trained)])
    left = [name for name in left if name not in (*weights, *trained)]
    targets = targets or find_targets(_numeric(table, left), asked)
    if not targets:
        raise DataError(f"{path}: no column is left that was measured.", "name some: --targets 'loss_*'")
    unused = [name for name in (*settings, *left) if name not in (*sized, *targets)]
    read = _joined(_Part(table, key, weights), _Part(table, key, targets), [])
    called = [str(name) for name in read.values.columns]
    columns = "" if called == targets else f" (columns {_few(targets)})"
    notes = [*table.notes, *_nameless(table, key), f"weights: {_few(weights)}"]
    notes += [f"targets: {_few(called)}{columns}"]
    notes += [f"size and length of each run: {_few(sized)}"] if sized else []
    if others := _numeric(table, [name for name in left if name not in targets]):
        named = ",".join([*said.targets, others[0]])
        by = f"--targets {shlex.quote(named)}" if said.targets else f"--maximize or --minimize {named}"
        notes += [f"no targets, as nothing says they are: {_few(others)} ({by} would)"]
    if rest := [name for name in unused if name not in others]:
        notes += [f"neither: {_few(rest)}"]
    return replace(read, notes=(*notes, *_without(trained), *read.notes))


def read_pair(mixtures: Path, losses: Path, said: Columns | None = None) -> OutsideTables:
    """Read weights and measurements from two tables that share the column which names the runs.

    Raises:
        DataError: As `read_wide`; or a run is named twice, or the tables have no run in common.
    """
    said = said or Columns()
    tables = TableFile.read(mixtures), TableFile.read(losses)
    if mixtures == losses:
        raise DataError(f"{mixtures} is named for the mixtures and for the losses.", "name two files")
    keys = [said.id] if said.id is not None else KEYS
    shared = [key for key in keys if all(key in table.cells.columns for table in tables)]
    if not shared:
        raise DataError(
            f"{mixtures} and {losses} share no column that names the runs.",
            "both need a column `index`, or `run`, with the same values; or name it: --id COLUMN",
        )
    columns = []
    for table, patterns, option in zip(
        tables, (said.weights, said.targets), ("--weights", "--targets"), strict=True
    ):
        dropped = {*KEYS, shared[0], *Columns().matching("--ignore", _of(table, said.ignore), table)}
        named = said.matching(option, patterns, table)
        dropped |= {*SIZE_COLUMNS, *epochs_in(map(str, table.cells.columns))}
        columns.append(named or [str(name) for name in table.cells.columns if name not in dropped])
        if not columns[-1]:
            raise DataError(
                f"{table.path}, line 1 names no column of values, only {list(table.cells.columns)}.",
                "cells are separated by commas",
            )
    alone = [name for name in tables[0].cells.columns if name in SIZE_COLUMNS]
    if alone and sizes_of(tables[0]) is None:
        raise DataError(
            f"{mixtures} has the columns {', '.join(alone)}: of sizes there are two, or none.",
            f"give {' and '.join(SIZES)} of every run",
        )
    trained = [] if said.targets else training_losses_in(columns[1])
    columns[1] = [name for name in columns[1] if name not in trained]
    notes = [*tables[0].notes, *tables[1].notes, *_without(trained)]
    parts = [_Part(table, shared[0], names) for table, names in zip(tables, columns, strict=True)]
    return _joined(parts[0], parts[1], notes)


@dataclass(frozen=True, eq=False)
class _Part:
    """Columns of a table."""

    table: TableFile
    key: str | None
    columns: list[str]

    @property
    def runs(self) -> pd.Series[str]:
        """The name of every row's run, by its line."""
        if self.key is None:
            return pd.Series([str(line) for line in self.table.cells.index], index=self.table.cells.index)
        runs = self.table.texts(self.key)
        repeated = runs[runs.duplicated(keep=False)]
        if len(repeated):
            first, second = (repeated.index[repeated == repeated.iloc[0]][k] for k in (0, 1))
            raise DataError(
                f"{self.table.place(second)}: the run {repeated.iloc[0]!r} (column {self.key!r}) "
                f"is in line {first} already.",
                "remove one of the lines, give the runs different names, or name another column: --id COLUMN",
            )
        return runs


def _joined(weights: _Part, values: _Part, notes: list[str]) -> OutsideTables:
    """Join what is there of both, and count what is not."""
    runs, measured = weights.runs, values.runs
    common = [run for run in runs if run in set(measured)]
    if not common:
        raise DataError(
            f"{weights.table.path} and {values.table.path} have no run in common.",
            f"both files need the same values in the column {weights.key!r}",
        )
    for here, there, what in ((runs, values, "losses"), (measured, weights, "weights")):
        if lost := len(here) - len(common):
            notes.append(f"{lost} of {len(here)} runs have no {what} in {there.table.path.name}: left out")
    shares, said = _shares(weights, runs)
    numbers = _values(values).set_axis(measured)
    frame = shares.set_axis(runs).loc[common]
    numbers = numbers.loc[common]
    unfinished = numbers.isna().all(axis=1)
    if unfinished.any() and not unfinished.all():
        notes.append(f"{int(unfinished.sum())} of {len(common)} runs have no value yet: left out")
        frame, numbers = frame[~unfinished], numbers[~unfinished]
    if missing := int(numbers.isna().to_numpy().sum()):
        notes.append(f"{missing} of {numbers.size} values are missing: the others of their runs count")
    small = [is_said_to_be_small(str(name)) for name in numbers.columns]
    columns = [str(name) for name in frame.columns]
    frame, numbers = _bare_names(frame.rename_axis("run_id"), numbers.rename_axis("run_id"))
    epochs = epochs_of(weights.table, dict(zip(columns, frame.columns, strict=True)))
    sizes, epochs = (
        None if told is None else told.set_axis(runs).loc[frame.index].rename_axis("run_id")
        for told in (sizes_of(weights.table), epochs)
    )
    files = str(weights.table.path), str(values.table.path)
    said_small = frozenset(map(str, numbers.columns[small]))
    return OutsideTables(frame, numbers, *files, (*notes, *said), sizes, epochs, said_small)


def _finished(table: TableFile) -> TableFile:
    """Leave out the runs of which W&B says that they have not finished."""
    state = next((name for name in ("State", "state") if name in table.cells.columns), None)
    if state is None or not (table.texts(state) == _FINISHED).any():
        return table
    others = table.texts(state)[lambda states: states != _FINISHED].value_counts()
    if not len(others):
        return table
    counts = ", ".join(f"{count} {word or 'without a state'}" for word, count in others.items())
    cells = table.cells[table.texts(state) == _FINISHED]
    return TableFile(table.path, cells, table.word, (*table.notes, f"runs left out: {counts}"))


def _check_one_size(table: TableFile, settings: list[str]) -> None:
    """Refuse runs of several sizes or lengths in one fit: their losses lie apart whatever they trained on."""
    sizes = [name for name in sizes_in(settings) if table.texts(name).nunique() > 1]
    if sizes:
        counts = " and ".join(f"{table.texts(name).nunique()} values of {name}" for name in sizes)
        last = ",".join(f"{name}={table.texts(name).iloc[-1]}" for name in sizes)
        raise DataError(
            f"{table.path} holds runs of {counts}, whose losses cannot be compared.",
            f"say which to fit on: --where {last}; to take all for alike: --ignore {','.join(sizes)}",
        )


def _values(part: _Part) -> pd.DataFrame:
    numbers, wrong = part.table.numbers(part.columns)
    _refuse(part.table, wrong, "write the loss, or leave the cell empty where it was not measured")
    return numbers


def _shares(part: _Part, runs: pd.Series[str]) -> tuple[pd.DataFrame, list[str]]:
    """Weights that sum to 1, and what was done to have them."""
    share = "write a share of the training tokens, 0 where the domain was not used"
    numbers, wrong = part.table.numbers(part.columns)
    empty, notes = numbers.isna() & ~wrong, []
    filled = numbers.fillna(0.0)
    sums = filled.sum(axis=1)
    whole = 100.0 if (np.abs(sums / 100.0 - 1.0) <= SUM_TOLERANCE + 1e-9).all() else 1.0
    misses = np.abs(sums / whole - 1.0)
    # A domain that a run does not name has no part in it; where its share is missing, the sum says so.
    _refuse(part.table, wrong | empty.mul(misses > SUM_TOLERANCE, axis=0), share)
    negative = np.argwhere(filled.to_numpy() < -TINY * whole)
    if len(negative):
        row, column = map(int, negative[0])
        raise DataError(
            f"{part.table.place(filled.index[row])}, column {filled.columns[column]!r}: "
            f"the weight {filled.to_numpy()[row, column]:g} is below 0.",
            share,
        )
    off = ~(misses <= SUM_TOLERANCE + 1e-9)
    if off.any():
        line, total = filled.index[off][0], sums[off].iloc[0]
        raise DataError(
            f"{part.table.place(line)}: the weights of the run {runs[line]!r} sum to {total:.4g}, "
            f"not to 1 ({int(off.sum())} of {len(filled)} runs).",
            f"weights are shares of training tokens, or percent in all rows, and may miss a sum of 1 by "
            f"{SUM_TOLERANCE:.0%}; is a column missing, or one too many?",
        )
    if whole != 1.0:
        notes.append(f"weights are percent in all {len(filled)} rows: divided by 100")
    if empty.to_numpy().any():
        notes.append(f"{int(empty.to_numpy().sum())} empty weights are 0: the others of their rows sum to 1")
    if (scaled := int((misses > NOTED).sum())) > 0:
        notes.append(
            f"{scaled} of {len(filled)} rows of weights missed a sum of 1, by {100 * misses.max():.2g} % at "
            "most: scaled"
        )
    positive = filled.clip(lower=0.0)
    return positive.div(positive.sum(axis=1), axis=0), notes


def _refuse(table: TableFile, wrong: pd.DataFrame, hint: str) -> None:
    """Name the first cell that is wrong."""
    found = np.argwhere(wrong.to_numpy())
    if len(found):
        row, column = map(int, found[0])
        name = wrong.columns[column]
        cell = table.cells[name].iloc[row]
        shown = "" if cell is None else cell
        raise DataError(f"{table.place(wrong.index[row])}, column {name!r}: {shown!r} is no number.", hint)


def _numeric(table: TableFile, names: list[str]) -> list[str]:
    """Those of these columns that hold numbers, and nothing else than numbers or nothing."""
    numbers, wrong = table.numbers(names)
    return [name for name in names if numbers[name].notna().any() and not wrong[name].any()]


def _of(table: TableFile, patterns: tuple[str, ...]) -> list[str]:
    """The patterns that this one of two tables has a column for."""
    return [one for one in patterns if any(fnmatchcase(str(name), one) for name in table.cells.columns)]


def _without(trained: list[str]) -> list[str]:
    if not trained:
        return []
    return [f"{_few(trained)}: the loss on what was trained on is no target (--targets would make it one)"]


def _nameless(table: TableFile, key: str | None) -> list[str]:
    """Say why no column names the runs, where one is called so."""
    present = [] if key is not None else [name for name in KEYS if name in table.cells.columns]
    for name in present:
        texts = table.texts(name)
        for run in map(str, texts[texts.duplicated()]):
            return [
                f"the column {name!r} has {run!r} more than once: runs are called by their lines "
                "(--id names another)"
            ]
    return []


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:6])
    return shown if len(names) <= 6 else f"{shown} and {len(names) - 6} more"


#: What the columns of weights of other layouts begin with.
_BEGINNINGS = (
    *("config.", "weights/", "weight/", "weights.", "weight.", "weights_", "weight_", "w_", "w/", "w."),
)
#: What columns of losses may begin or end with, where all of them do; the first may be mixed.
_AROUND_LOSSES = (
    r"(?:eval|val|valid|validation)/(.+)",
    r"loss/(.+)",
    r"loss_(.+)",
    r"([^/]+)_loss",
    r"(.+)/loss",
)


def _bare_names(weights: pd.DataFrame, values: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Take the words of a layout off the columns: RegMix's also the data set's name, which all share."""
    values = values.rename(columns=lambda name: name.removeprefix("summary."))
    values = values.rename(columns=lambda name: name.removeprefix(_METRIC).removesuffix(_VAL_LOSS))
    if not all(column.startswith(_TRAIN) for column in weights.columns):
        return _without_beginning(weights), _without_around(values)
    weights = weights.rename(columns=lambda name: name.removeprefix(_TRAIN))
    if all(column.startswith(_VALID) for column in values.columns):
        values = values.rename(columns=lambda name: name.removeprefix(_VALID))
    names = [*weights.columns, *values.columns]
    shared = os.path.commonprefix(names)  # noqa: RUF071 (names, of which it compares letters)
    dataset = shared[: shared.rfind("_") + 1]
    if dataset in names:  # nothing would be left of this one
        return weights, values
    return (
        weights.rename(columns=lambda name: name.removeprefix(dataset)),
        values.rename(columns=lambda name: name.removeprefix(dataset)),
    )


def _without_beginning(weights: pd.DataFrame) -> pd.DataFrame:
    """Take off `config.`, and then `weight_` or the like, where every column begins so."""
    for beginning in _BEGINNINGS:
        if all(name.startswith(beginning) and name != beginning for name in weights.columns):
            weights = weights.rename(columns={name: name.removeprefix(beginning) for name in weights.columns})
    return weights


def _without_around(values: pd.DataFrame) -> pd.DataFrame:
    """Take off `loss_` or `_loss`, where every column has it, so that a loss is called as its domain is.

    Not where two would be called alike; nor `_loss` where a `/` stays, behind which it says what it is.
    """
    for around in _AROUND_LOSSES:
        found = [re.fullmatch(around, name) for name in values.columns]
        bare = [match[1] for match in found if match]
        if len(set(bare)) == len(found):
            values = values.set_axis(bare, axis=1)
    return values
