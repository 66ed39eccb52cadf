"""Take the text out of Arrow tables: nested columns by dotted names, rows by a filter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from regmix_hf.errors import DataError, did_you_mean

#: Why a row gives no text.
FILTERED, NULL, EMPTY, NO_COLUMN = "filtered", "null", "empty", "no such column"


def root_columns(names: Iterable[str], columns: list[str]) -> list[str]:
    """The top-level columns that hold the columns `names`, as far as they exist."""
    roots = {name if name in columns else name.split(".")[0] for name in names}
    return [column for column in columns if column in roots]


def texts(
    table: pa.Table, column: str, filter: Mapping[str, Any], place: str
) -> tuple[list[str], Counter[str]]:
    """The texts of the rows that pass the filter, and why how many rows give none.

    Args:
        table: Some rows.
        column: Where the text is; a dot reaches into a nested column.
        filter: Column to the value, or list of values, that a row must have.
        place: What to call the source in a complaint.

    Raises:
        DataError: A column is not there, the text is no text, or a filter value does not fit its column.
    """
    text = _plain(_reach(table, column, place))
    passing = pa.array([True] * table.num_rows, pa.bool_())
    for name, values in filter.items():
        column_passes = _passes(_plain(_reach(table, name, place)), name, values, place)
        passing = pc.and_(passing, column_passes)
    if filter:
        text = text.filter(passing)
    left_out = Counter({FILTERED: table.num_rows - len(text)})
    if pa.types.is_null(text.type):
        return [], +(left_out + Counter({NULL: len(text)}))
    if not pa.types.is_large_string(text.type):
        raise DataError(f"{place}: the text column {column!r} holds {text.type}, not text.")
    found = [value for value in text.to_pylist() if value]
    left_out[NULL] = text.null_count
    left_out[EMPTY] = len(text) - text.null_count - len(found)
    return found, +left_out


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as others write it, without dictionaries; text of every kind as one type of text."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kinds = (pa.types.is_string, pa.types.is_string_view, pa.types.is_binary, pa.types.is_binary_view)
    if any(is_kind(column.type) for is_kind in (*kinds, pa.types.is_large_binary)):
        return column.cast(pa.large_string())
    return column


def _reach(table: pa.Table, name: str, place: str) -> pa.ChunkedArray:
    root, *path = [name] if name in table.column_names else name.split(".")
    if table.column_names.count(root) > 1:
        raise DataError(
            f"{place}: there are {table.column_names.count(root)} columns named {root!r}.",
            "write the file again with a name of its own for each column",
        )
    if root not in table.column_names:
        raise DataError(f"{place}: there is no column {name!r}.", known_columns(name, table.column_names))
    column = table[root]
    for depth, part in enumerate(path):
        fields = _fields(column.type)
        if part not in fields:
            where = f"column {'.'.join([root, *path[:depth]])!r}"
            raise DataError(f"{place}: {where} has no {part!r} (of {name!r}).", known_columns(part, fields))
        column = pc.struct_field(column, part)
    return column


def known_columns(name: str, columns: list[str]) -> str:
    """Say which columns there are, and which of them may have been meant by `name`."""
    there = ", ".join(repr(column) for column in columns) or "none"
    closest = did_you_mean(name, columns)
    return f"columns are {there}" + (f"; {closest}" if closest.startswith("did you mean") else "")


def _fields(type: pa.DataType) -> list[str]:
    return [field.name for field in type.fields] if pa.types.is_struct(type) else []


def _passes(column: pa.ChunkedArray, name: str, values: Any, place: str) -> pa.ChunkedArray:
    wanted = values if isinstance(values, list) else [values]
    if pa.types.is_null(column.type):
        return pa.chunked_array([pa.array([False] * len(column), pa.bool_())])
    try:
        return pc.is_in(column, value_set=pa.array(wanted, type=column.type))
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        raise DataError(
            f"{place}: the filter on {name!r} wants {values!r}, but the column holds {column.type}."
        ) from None
