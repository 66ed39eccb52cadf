"""One table of a file, as people have them: CSV with any separator, TSV, JSON lines or Parquet."""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from regmix_hf.errors import DataError

#: What a cell says that holds no number.
_MISSING = ("", "nan", "n/a", "na", "#n/a", "null", "none", "-")
_PARQUET, _GZIP, _ZIP = b"PAR1", b"\x1f\x8b", b"PK\x03\x04"
#: A number that is written with a decimal comma, or a whole one.
_COMMA = re.compile(r"[+-]?\d+(,\d+)?([eE][+-]?\d+)?\s*%?")
_JSON_LINES = (".jsonl", ".ndjson", ".json")


@dataclass(frozen=True, eq=False)
class TableFile:
    """A table, cell by cell as it is written.

    Attributes:
        path: Where it was read from.
        cells: Texts and numbers, indexed by the line, or the row, that they stand in.
        word: What the index counts: `line` or `row`.
        notes: What is to be said of the file.
    """

    path: Path
    cells: pd.DataFrame
    word: str
    notes: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path) -> TableFile:
        """Read a file by what it holds, whatever it is called.

        Raises:
            DataError: It is missing, empty, not UTF-8 or no table.
        """
        if not path.is_file():
            raise DataError(
                f"{path} is not there." if not path.exists() else f"{path} is a folder, not a CSV file."
            )
        content = path.read_bytes()
        if content.startswith((_GZIP, _ZIP)):
            raise DataError(f"{path} is compressed.", "unpack it first")
        if content.startswith(_PARQUET):
            table = _parquet(content, path)
            said = () if path.suffix == ".parquet" else (f"{path} is Parquet by what it holds, and read so",)
        elif path.suffix == ".parquet":
            raise DataError(f"{path} is no Parquet: it does not begin with PAR1.", "is it a CSV?")
        else:
            text = _text(content, path)
            lines = path.suffix in _JSON_LINES or text.lstrip().startswith("{")
            table, said = (_json_lines(text, path) if lines else _separated(text, path)), ()
        table = _unfolded(table)
        _check_header([str(name) for name in table.columns], path)
        _check_commas(table, path)
        return cls(path, table, "row" if content.startswith(_PARQUET) else "line", said)

    def place(self, label: object) -> str:
        """Name a row for a person."""
        return f"{self.path}, {self.word} {label}"

    def texts(self, column: str) -> pd.Series[str]:
        """A column as text; a whole number is written alike however it came."""
        values = self.cells[column].map(lambda value: "" if value is None else str(value).strip())
        return values.str.replace(r"^(\d+)\.0+$", r"\1", regex=True)

    def numbers(self, columns: Iterable[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The values of columns, NaN where a cell holds none, and where it holds something that is no number.

        `12 %` is 12: a percent sign says nothing that a sum of 100 does not.
        """
        cells = self.cells[list(columns)]
        words = cells.map(lambda value: value.strip() if isinstance(value, str) else value)
        bare = words.map(lambda value: value.removesuffix("%").rstrip() if isinstance(value, str) else value)
        numbers = bare.apply(pd.to_numeric, errors="coerce").astype(np.float64)
        missing = words.map(lambda value: value is None or str(value).lower() in _MISSING)
        return numbers, numbers.isna() & ~missing


def _text(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line} is not UTF-8: byte {content[error.start]:#04x}.") from None


def _parquet(content: bytes, path: Path) -> pd.DataFrame:
    import pyarrow as pa

    try:
        table = pd.read_parquet(io.BytesIO(content))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from None
    if any(name is not None for name in table.index.names):  # runs may be named by the index
        table = table.reset_index()
    if table.empty:
        raise DataError(f"{path} holds the names of columns, but no run.")
    return _plain(table, range(1, len(table) + 1))


def _json_lines(text: str, path: Path) -> pd.DataFrame:
    """One object a line; objects within it become columns `outer.inner`, as W&B's config and summary are."""
    rows: dict[int, Any] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            rows[number] = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number} is no JSON: {error}.", "one object a line") from None
        if not isinstance(rows[number], dict):
            raise DataError(f"{path}, line {number} holds no object.", "one object a line")
    if not rows:
        raise DataError(f"{path} is empty.", "every line is one run")
    return _plain(pd.json_normalize(list(rows.values())), rows)


def _separated(text: str, path: Path) -> pd.DataFrame:
    first = text.split("\n", 1)[0]
    separator = next((mark for mark in (",", "\t", ";") if mark in first), ",")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
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
    return pd.DataFrame(rows.values(), index=pd.Index(rows, name="line"), columns=header, dtype=object)


def _plain(table: pd.DataFrame, labels: Iterable[int]) -> pd.DataFrame:
    """Cells as objects, `None` where there is none."""
    table = table.astype(object)
    table = table.where(table.notna(), None)
    table.index = pd.Index(list(labels), name="line")
    return table.rename(columns=str)


def _unfolded(table: pd.DataFrame) -> pd.DataFrame:
    """Take columns apart whose cells are maps, as W&B's own example exports `config` and `summary`."""
    parts: list[pd.DataFrame] = []
    for name in table.columns:
        maps = [found for value in table[name] if (found := _map_of(value)) is not None]
        if len(maps) < len(table):
            parts.append(table[[name]])
            continue
        inner = pd.json_normalize(maps).add_prefix(f"{name}.")
        parts.append(_plain(inner, table.index))
    return pd.concat(parts, axis=1)


def _map_of(value: object) -> dict[str, Any] | None:
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def _check_commas(table: pd.DataFrame, path: Path) -> None:
    """Refuse a table with a column of numbers that have decimal commas: it would be taken for words."""
    for name in table.columns:
        cells = [str(value) for value in table[name] if str(value).lower() not in (*_MISSING, "none")]
        commas = [cell for cell in cells if "," in cell]
        if commas and all(_COMMA.fullmatch(cell) for cell in cells):
            raise DataError(
                f"{path}, column {name!r}: {commas[0]!r} has a comma, and numbers here have decimal points.",
                f"write {commas[0].replace(',', '.')} in the whole table, and thousands without commas",
            )


def _check_header(header: list[str], path: Path) -> None:
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise DataError(f"{path}, line 1 names the column {repeated[0]!r} more than once.")
