"""Read Parquet files from any row on: at most one row group is read again."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from regmix_hf.corpus.columns import root_columns
from regmix_hf.corpus.file_errors import FileError
from regmix_hf.corpus.patient_file import open_bytes
from regmix_hf.corpus.read_ahead import one_ahead

_ROWS = 256


@dataclass(frozen=True)
class TableRows:
    """Some rows of one row group.

    Attributes:
        start: `[file, row group, row]` of the first.
        table: The rows.
        position: Where reading goes on after them.
        first_row: The number of the first among the rows of the file, from 0.
    """

    start: list[int]
    table: pa.Table
    position: list[int]
    first_row: int

    @property
    def file(self) -> int:
        """The number of their file."""
        return self.start[0]

    @property
    def num_rows(self) -> int:
        """How many there are."""
        return int(self.table.num_rows)

    def after(self, position: Any) -> TableRows:
        """Those of the rows that come after a position."""
        if position is None or position <= self.start:
            return self
        if position >= self.position:
            return TableRows(self.position, self.table.slice(0, 0), self.position, self.first_row)
        past = position[2] - self.start[2]
        return TableRows(position, self.table.slice(past), self.position, self.first_row + past)


def table_rows(file: str, number: int, place: Sequence[int], columns: Sequence[str]) -> Generator[TableRows]:
    """The rows of a Parquet file after a place.

    Args:
        file: Path, `hf://` address or URL.
        number: The file's number.
        place: `[row group, row in it]` of the first.
        columns: The columns that are read, where they are there; a dot reaches into a nested one.

    Raises:
        OSError: The file cannot be read, or not any more.
        pa.ArrowException: It is no Parquet file, or damaged.
    """
    group, row = place
    raw = open_bytes(file)
    with closing(one_ahead(_groups(raw, group, columns), stop=raw.close)) as groups:
        for group, first, table in groups:
            for start in range(row, table.num_rows, _ROWS):
                part = table.slice(start, _ROWS)
                end = start + part.num_rows
                after = [number, group, end] if end < table.num_rows else [number, group + 1, 0]
                yield TableRows([number, group, start], part, after, first + start)
            row = 0


def empty_table(file: str) -> pa.Table:
    """A Parquet file's columns, without rows.

    Raises:
        OSError: The file cannot be read.
        FileError: It is no Parquet file, or damaged.
    """
    with open_bytes(file) as raw:
        try:
            return pq.ParquetFile(raw).schema_arrow.empty_table()
        except pa.ArrowException as error:
            raise FileError(
                f"{file} cannot be read as Parquet: {str(error).splitlines()[0].rstrip('.')}.",
                "fetch or write it again, or say by `path` what it is",
            ) from error


def _groups(raw: Any, first: int, columns: Sequence[str]) -> Iterator[tuple[int, int, pa.Table]]:
    # Each column of a group is asked for at once: `pre_buffer` joins the small reads inside it.
    file = pq.ParquetFile(raw, pre_buffer=True)
    needed = root_columns(columns, file.schema_arrow.names)
    num_rows = sum(file.metadata.row_group(group).num_rows for group in range(first))
    for group in range(first, file.num_row_groups):
        yield group, num_rows, file.read_row_group(group, columns=needed or None, use_threads=False)
        num_rows += file.metadata.row_group(group).num_rows
