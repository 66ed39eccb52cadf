"""Read Parquet files from any row on: at most one row group is read again."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from regmix_hf.corpus.columns import root_columns
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
    """

    start: list[int]
    table: pa.Table
    position: list[int]

    @property
    def num_rows(self) -> int:
        """How many there are."""
        return int(self.table.num_rows)

    def after(self, position: Any) -> TableRows:
        """Those of the rows that come after a position."""
        if position is None or position <= self.start:
            return self
        if position >= self.position:
            return TableRows(self.position, self.table.slice(0, 0), self.position)
        return TableRows(position, self.table.slice(position[2] - self.start[2]), self.position)


@dataclass(frozen=True)
class RowGroups:
    """Parquet files. A position is `[file, row group, row in it]`.

    Args:
        files: Paths, `hf://` addresses or URLs, in order.
    """

    files: tuple[str, ...]

    @staticmethod
    def can_read(files: Sequence[str]) -> bool:
        """Tell from their names whether files can be read."""
        return bool(files) and not any("::" in file for file in files)

    def batches(self, position: Any, columns: Sequence[str]) -> Generator[TableRows]:
        """The rows after `position`, or all.

        Args:
            position: Of an earlier batch, or `None`.
            columns: The columns that are read, where they are there; a dot reaches into a nested one.

        Raises:
            OSError: A file cannot be read, or not any more.
        """
        first, group, row = (0, 0, 0) if position is None else position
        for number in range(first, len(self.files)):
            yield from self._of_file(number, group, row, columns)
            group = row = 0

    def _of_file(self, number: int, group: int, row: int, columns: Sequence[str]) -> Iterator[TableRows]:
        raw = open_bytes(self.files[number])
        with closing(one_ahead(_groups(raw, group, columns), stop=raw.close)) as groups:
            for group, table in groups:
                for start in range(row, table.num_rows, _ROWS):
                    part = table.slice(start, _ROWS)
                    end = start + part.num_rows
                    place = [number, group, end] if end < table.num_rows else [number, group + 1, 0]
                    yield TableRows([number, group, start], part, place)
                row = 0


def _groups(raw: Any, first: int, columns: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
    # Each column of a group is asked for at once: `pre_buffer` joins the small reads inside it.
    file = pq.ParquetFile(raw, pre_buffer=True)
    needed = root_columns(columns, file.schema_arrow.names)
    for group in range(first, file.num_row_groups):
        yield group, file.read_row_group(group, columns=needed or None, use_threads=False)
