"""Tables and JSON that strangers wrote: counted before they are read, checked before they are believed."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pandas as pd

from regmix_hf.errors import HubError

_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class TableLimits:
    """What a table may hold at most before it is not even read.

    Attributes:
        max_bytes: Size of the file.
        max_rows: Rows.
        max_columns: Columns; a study has about six per domain.
        max_values: Rows times columns.
        max_text: Characters of one text.
        max_characters: Characters of all texts of a column, each as often as it stands there.
    """

    max_bytes: int = 200 * _MEGABYTE
    max_rows: int = 5_000_000
    max_columns: int = 10_000
    max_values: int = 50_000_000
    max_text: int = 10_000
    max_characters: int = 200 * _MEGABYTE


def read_table(
    source: Path | IO[bytes], *, name: str | None = None, limits: TableLimits | None = None
) -> pd.DataFrame:
    """Read a Parquet table of plain columns: numbers, texts, truth values, times.

    The footer's counts are checked before any column is read, and texts stay in their dictionary until their
    length is known, so that a small file cannot fill the memory. Metadata that would tell pandas or Arrow to
    build other objects is ignored.

    Args:
        source: The file.
        name: What messages call it; default: its path.
        limits: How much it may hold.

    Raises:
        HubError: It is no Parquet file, holds too much, or has a column of another type.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    name, limits = name or str(source), limits or TableLimits()
    if isinstance(source, Path) and source.stat().st_size > limits.max_bytes:
        raise HubError(f"{name} has {source.stat().st_size:,} bytes; at most {limits.max_bytes:,} are read.")
    try:
        # A footer lists every column once for the whole and once for each part, and holds their statistics.
        file = pq.ParquetFile(source, thrift_container_size_limit=2 * limits.max_columns + 1000)
        _check_shape(file.metadata, name, limits)
        schema = file.schema_arrow
        is_text = (pa.types.is_string, pa.types.is_large_string)
        texts = [field.name for field in schema if any(test(field.type) for test in is_text)]
        for field in schema:
            if not (_is_plain(field.type) or field.name in texts):
                raise HubError(
                    f"{name}: column {field.name!r} has the type {field.type}, which no table has."
                )
        if len(set(schema.names)) != len(schema.names):
            raise HubError(f"{name}: two columns have the same name.")
        table = pq.ParquetFile(source, read_dictionary=texts).read(use_threads=False)
        for text in texts:
            _check_texts(table[text], text, name, limits)
        plain = table.cast(pa.schema([(field.name, field.type) for field in schema]))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise HubError(f"{name} cannot be read as Parquet: {str(error)[:200]}") from error
    return plain.to_pandas(ignore_metadata=True, use_threads=False)


def _is_plain(type_: Any) -> bool:
    import pyarrow as pa

    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_timestamp)
    return any(test(type_) for test in tests)


def _check_shape(metadata: Any, name: str, limits: TableLimits) -> None:
    if metadata.num_columns > limits.max_columns:  # before anything that goes through all of them
        widest = f"at most {limits.max_columns:,} are read"
        raise HubError(f"{name} has {metadata.num_columns:,} columns; {widest}.")
    # A footer counts three times, and what is read follows the parts, not the sum.
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    rows = max(metadata.num_rows, sum(group.num_rows for group in groups))
    values = sum(group.column(k).num_values for group in groups for k in range(group.num_columns))
    counts = {
        "rows": (rows, limits.max_rows),
        "values": (max(values, rows * metadata.num_columns), limits.max_values),
        "bytes when unpacked": (sum(group.total_byte_size for group in groups), 8 * limits.max_values),
    }
    for unit, (count, most) in counts.items():
        if count > most:
            raise HubError(f"{name} has {count:,} {unit}; at most {most:,} are read.")


def _check_texts(column: Any, title: str, name: str, limits: TableLimits) -> None:
    import pyarrow.compute as pc

    longest = total = 0
    for chunk in column.chunks:
        packed = hasattr(chunk, "dictionary")
        lengths = pc.utf8_length(chunk.dictionary if packed else chunk)
        longest = max(longest, pc.max(lengths).as_py() or 0)
        total += pc.sum(pc.take(lengths, chunk.indices) if packed else lengths).as_py() or 0
    if longest > limits.max_text:
        most = f"at most {limits.max_text:,} are read"
        raise HubError(f"{name}: a text in column {title!r} has {longest:,} characters; {most}.")
    if total > limits.max_characters:
        most = f"at most {limits.max_characters:,} are read"
        raise HubError(f"{name}: the column {title!r} has {total:,} characters; {most}.")


def parse_json(text: bytes, name: str) -> Any:
    """Read JSON in which every number is finite.

    Raises:
        HubError: It is none, not UTF-8, nested too deeply, or holds NaN or an infinite number.
    """

    def refuse(constant: str) -> None:
        raise HubError(f"{name} holds {constant}, which is no number.")

    def finite(number: str) -> float:
        value = float(number)
        if not math.isfinite(value):
            raise HubError(f"{name} holds {number}, which is too large for a number.")
        return value

    try:
        return json.loads(text.decode("utf-8"), parse_constant=refuse, parse_float=finite)
    except (ValueError, RecursionError) as error:
        raise HubError(f"{name} cannot be read as JSON: {str(error)[:200]}") from error
