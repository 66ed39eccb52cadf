"""Take the text out of rows, one by one: the same of a row wherever a reading began."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from regmix_hf.corpus.columns import EMPTY, FILTERED, NO_COLUMN, NULL, known_columns
from regmix_hf.errors import DataError

#: What a row has where it lacks a column. JSON's null means the same.
_MISSING = None
#: Different columns that are named instead of the one that is not there.
_NAMED_COLUMNS = 3


@dataclass(frozen=True)
class Rows:
    """Some rows of one file.

    Attributes:
        file: Its number.
        start: The byte from which they were read.
        rows: What JSON says, or objects made of text.
        ends: The byte after each row.
        position: Where reading goes on after them: `[file, byte]`.
    """

    file: int
    start: int
    rows: list[Any]
    ends: list[int]
    position: list[int]

    @property
    def num_rows(self) -> int:
        """How many there are."""
        return len(self.rows)

    def after(self, position: Any) -> Rows:
        """Those of the rows that come after a position."""
        if position is None or position <= [self.file, self.start]:
            return self
        if position >= self.position:
            return Rows(self.file, self.ends[-1] if self.ends else self.start, [], [], self.position)
        left = [number for number, end in enumerate(self.ends) if end > position[1]]
        rows, ends = ([values[number] for number in left] for values in (self.rows, self.ends))
        return Rows(self.file, position[1], rows, ends, self.position)


class RowTexts:
    """Texts of the rows that pass a filter; null, missing and empty ones are left out.

    Args:
        column: Where the text is; a dot reaches into a nested column.
        filter: Column to the value, or list of values, that a row must have.
        place: What to call the source in a complaint.
    """

    def __init__(self, column: str, filter: Mapping[str, Any], place: str):
        self._column, self._place = column, place
        self._filter = {name: value if isinstance(value, list) else [value] for name, value in filter.items()}
        self._instead: set[str] = set()

    def check_columns(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Check the first rows of a file: each column must be in one of them, if only as null.

        Raises:
            DataError: One is in none; the message names those that are there.
        """
        rows = list(rows)
        for name in (self._column, *self._filter):
            if rows and not any(_has(row, name) for row in rows):
                raise self._no_column(name, rows)

    def of_all(self, rows: Iterable[Any]) -> tuple[list[str], Counter[str]]:
        """The texts of rows, and why how many have none.

        Raises:
            RowError: One is no row, its text is no text, or a filter is for values of another type.
        """
        found, left_out = [], Counter[str]()
        for number, row in enumerate(rows):
            try:
                text, reason = self._judge(row)
            except DataError as error:
                raise RowError(error.message, number, error.hint) from error
            if text is None:
                left_out[reason] += 1
            else:
                found.append(text)
        return found, left_out

    def _judge(self, row: Any) -> tuple[str | None, str]:
        if not isinstance(row, dict):
            raise DataError(f"{self._place}: a row is {type(row).__name__}, not an object with columns.")
        for name, wanted in self._filter.items():
            if not self._passes(name, _reach(row, name), wanted):
                return None, FILTERED
        text = _reach(row, self._column)
        if text is None:
            return None, NULL if _has(row, self._column) else self._what_instead(row)
        if not isinstance(text, str):
            raise DataError(
                f"{self._place}: the text column {self._column!r} holds {type(text).__name__}, not text."
            )
        return _well_formed(text) or None, EMPTY

    def _what_instead(self, row: Mapping[str, Any]) -> str:
        """Say which column a row without the right one keeps its text in, most likely."""
        others = [name for name, value in row.items() if isinstance(value, str)]
        other = max(others, key=lambda name: len(row[name]), default=None)
        if other is None or (other not in self._instead and len(self._instead) >= _NAMED_COLUMNS):
            return NO_COLUMN
        self._instead.add(other)
        return f"{NO_COLUMN} but {other[:60]!r}"

    def _passes(self, name: str, value: Any, wanted: list[Any]) -> bool:
        if value is _MISSING:
            return False
        if not any(_kind(value) == _kind(other) for other in wanted):
            raise DataError(
                f"{self._place}: the filter on {name!r} wants {wanted!r}, "
                f"but the column holds {type(value).__name__}."
            )
        return any(_kind(value) == _kind(other) and value == other for other in wanted)

    def _no_column(self, name: str, rows: list[Mapping[str, Any]]) -> DataError:
        there = list(dict.fromkeys(column for row in rows for column in row))
        root, *path = name.split(".")
        for depth, part in enumerate(path):
            parent = ".".join([root, *path[:depth]])
            inside = [value for row in rows if isinstance(value := _reach(row, parent), dict)]
            if inside and not any(part in value for value in inside):
                fields = list(dict.fromkeys(field for value in inside for field in value))
                return DataError(
                    f"{self._place}: column {parent!r} has no {part!r} (of {name!r}).",
                    known_columns(part, fields),
                )
        return DataError(f"{self._place}: there is no column {name!r}.", known_columns(name, there))


class RowError(DataError):
    """A row that cannot be used.

    Attributes:
        number: Which of those it came with, from 0.
    """

    def __init__(self, message: str, number: int, hint: str | None):
        super().__init__(message, hint)
        self.number = number


def _has(row: Mapping[str, Any], name: str) -> bool:
    if name in row:
        return True
    value: Any = row
    for part in name.split("."):
        if value is _MISSING:
            return True  # the nested column itself is null here
        if not isinstance(value, dict) or part not in value:
            return False
        value = value[part]
    return True


def _reach(row: Mapping[str, Any], name: str) -> Any:
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else _MISSING
    return value


def _kind(value: Any) -> type:
    """Types whose values may be equal; to JSON, unlike to Python, true is no number."""
    return float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)


def _well_formed(text: str) -> str:
    """JSON can escape half a surrogate pair, which no encoding can write: it becomes U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
