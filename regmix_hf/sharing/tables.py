"""Tables in a model repository, where Parquet does not belong: one JSON object of columns and rows."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from regmix_hf.errors import HubError
from regmix_hf.hub import TableLimits, parse_json


def published_name(table: str) -> str:
    """What a table of a study, as `quality.parquet`, is called in a model repository: `quality.json`."""
    return str(Path(table).with_suffix(".json"))


def json_file(value: Any) -> bytes:
    """A file of JSON, as people read it."""
    return json.dumps(value, indent=2).encode() + b"\n"


def table_json(frame: pd.DataFrame) -> bytes:
    """Write a table; numbers come back to the last bit, NaN and missing values as missing values."""
    rows = [[_plain(value) for value in row] for row in frame.astype(object).to_numpy().tolist()]
    tree = {"columns": list(frame.columns), "rows": rows}
    return (json.dumps(tree, allow_nan=False, separators=(",", ":")) + "\n").encode()


def read_table_json(content: bytes, name: str) -> pd.DataFrame:
    """Read what `table_json` wrote.

    Raises:
        HubError: It is no such table.
    """
    tree = parse_json(content, name)
    if not isinstance(tree, dict) or set(tree) != {"columns", "rows"}:
        raise HubError(f"{name} is no table: it needs `columns` and `rows`.")
    columns, rows = tree["columns"], tree["rows"]
    texts = isinstance(columns, list) and all(isinstance(column, str) for column in columns)
    if texts and len(columns) > TableLimits().max_columns:
        raise HubError(
            f"{name} has {len(columns):,} columns; at most {TableLimits().max_columns:,} are read."
        )
    if not texts or len(set(columns)) != len(columns) or not isinstance(rows, list):
        raise HubError(f"{name} is no table: its columns need different names.")
    for number, row in enumerate(rows):
        plain = isinstance(row, list) and all(isinstance(value, str | int | float | None) for value in row)
        if not plain or len(row) != len(columns):
            raise HubError(f"{name}, row {number}: it needs {len(columns)} plain values.")
    return pd.DataFrame(rows, columns=columns)


def _plain(value: Any) -> Any:
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    return value
