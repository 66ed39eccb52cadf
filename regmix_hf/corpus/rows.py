"""Take the text out of rows of JSON, one by one: the same of a row wherever a reading began."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from regmix_hf.corpus.columns import known_columns
from regmix_hf.errors import DataError

#: What a row has where it lacks a column. JSON's null means the same.
_MISSING = None


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

    def check_columns(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Check the first rows of a file: each column must be in one of them, if only as null.

        Raises:
            DataError: One is in none; the message names those that are there.
        """
        rows = list(rows)
        for name in (self._column, *self._filter):
            if rows and not any(_has(row, name) for row in rows):
                raise self._no_column(name, rows)

    def of(self, row: Any) -> str | None:
        """The text of a row, or `None`.

        Raises:
            DataError: It is no row, its text is no text, or a filter is for values of another type.
        """
        if not isinstance(row, dict):
            raise DataError(f"{self._place}: a row is {type(row).__name__}, not an object with columns.")
        for name, wanted in self._filter.items():
            if not self._passes(name, _reach(row, name), wanted):
                return None
        text = _reach(row, self._column)
        if text is None:
            return None
        if not isinstance(text, str):
            raise DataError(
                f"{self._place}: the text column {self._column!r} holds {type(text).__name__}, not text."
            )
        return _well_formed(text) or None

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
