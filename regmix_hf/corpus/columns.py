"""Take the text out of Arrow tables: nested columns by dotted names, rows by a filter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from regmix_hf.errors import DataError, did_you_mean


def root_columns(names: Iterable[str], columns: list[str]) -> list[str]:
    """The top-level columns that hold the columns `names`, as far as they exist."""
    roots = {name if name in columns else name.split(".")[0] for name in names}
    return [column for column in columns if column in roots]


def texts(table: pa.Table, column: str, filter: Mapping[str, Any], place: str) -> list[str]:
    """The texts of the rows that pass the filter; null and empty ones are left out.

    Args:
        table: Some rows.
        column: Where the text is; a dot reaches into a nested column.
        filter: Column to the value, or list of values, that a row must have.
        place: What to call the source in a complaint.

    Raises:
        DataError: A column is not there, the text is no text, or a filter value does not fit its column.
    """
    for name, values in filter.items():
        table = table.filter(_passes(_reach(table, name, place), name, values, place))
    text = _reach(table, column, place)
    if pa.types.is_null(text.type):
        return []
    if not (pa.types.is_string(text.type) or pa.types.is_large_string(text.type)):
        raise DataError(f"{place}: the text column {column!r} holds {text.type}, not text.")
    return [value for value in text.to_pylist() if value]


def _reach(table: pa.Table, name: str, place: str) -> pa.ChunkedArray:
    if name in table.column_names:
        return table[name]
    root, *path = name.split(".")
    if root in table.column_names and path:
        column = table[root]
        for depth, part in enumerate(path):
            fields = _fields(column.type)
            if part not in fields:
                where = f"column {'.'.join([root, *path[:depth]])!r}"
                raise DataError(
                    f"{place}: {where} has no {part!r} (of {name!r}).", known_columns(part, fields)
                )
            column = pc.struct_field(column, part)
        return column
    raise DataError(f"{place}: there is no column {name!r}.", known_columns(name, table.column_names))


def known_columns(name: str, columns: list[str]) -> str:
    """Say which columns there are, and which of them may have been meant by `name`."""
    there = ", ".join(repr(column) for column in columns) or "none"
    closest = did_you_mean(name, columns)
    return f"columns are {there}" + (f"; {closest}" if closest.startswith("did you mean") else "")


def _fields(type: pa.DataType) -> list[str]:
    return [field.name for field in type.fields] if pa.types.is_struct(type) else []


def _passes(column: pa.ChunkedArray, name: str, values: Any, place: str) -> pa.ChunkedArray:
    wanted = values if isinstance(values, list) else [values]
    try:
        return pc.is_in(column, value_set=pa.array(wanted, type=column.type))
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        raise DataError(
            f"{place}: the filter on {name!r} wants {values!r}, but the column holds {column.type}."
        ) from None
