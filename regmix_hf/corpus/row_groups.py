"""Read Parquet files from any row on: at most one row group is read again."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from regmix_hf.corpus.columns import root_columns
from regmix_hf.corpus.encode import Piece, pieces
from regmix_hf.corpus.patient_file import open_bytes
from regmix_hf.corpus.read_ahead import one_ahead

_ROWS = 256


class RowGroups:
    """Rows of Parquet files. A position is `[file, row group, row in it]`.

    Args:
        files: Paths, `hf://` addresses or URLs, in order.
        columns: The columns that are read; a dot reaches into a nested one.
        texts: Takes the text out of a table.
    """

    def __init__(self, files: Sequence[str], columns: Sequence[str], texts: Callable[[pa.Table], list[str]]):
        self._files, self._columns, self._texts = files, columns, texts

    @staticmethod
    def can_read(files: Sequence[str]) -> bool:
        """Tell from their names whether files can be read."""
        return bool(files) and not any("::" in file for file in files)

    def pieces(self, position: Any) -> Generator[Piece]:
        """The documents after `position`, or all.

        Raises:
            OSError: A file cannot be read, or not any more.
            DataError: The files do not have the columns that are asked for.
        """
        first, group, row = (0, 0, 0) if position is None else position
        for number in range(first, len(self._files)):
            yield from self._of_file(number, group, row)
            group = row = 0

    def _of_file(self, number: int, group: int, row: int) -> Iterator[Piece]:
        raw = open_bytes(self._files[number])
        with closing(one_ahead(self._groups(raw, group), stop=raw.close)) as groups:
            for group, table in groups:
                for start in range(row, table.num_rows, _ROWS):
                    part = table.slice(start, _ROWS)
                    end = start + part.num_rows
                    place = [number, group, end] if end < table.num_rows else [number, group + 1, 0]
                    yield from pieces(self._texts(part), part.num_rows, place)
                row = 0

    def _groups(self, raw: Any, first: int) -> Iterator[tuple[int, pa.Table]]:
        # Each column of a group is asked for at once: `pre_buffer` joins the small reads inside it.
        file = pq.ParquetFile(raw, pre_buffer=True)
        needed = root_columns(self._columns, file.schema_arrow.names)
        for group in range(first, file.num_row_groups):
            yield group, file.read_row_group(group, columns=needed or None, use_threads=False)
