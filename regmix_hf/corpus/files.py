"""Files of text in a row, of whatever kinds, read from any place in them on."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from regmix_hf.corpus.compressed import is_compressed
from regmix_hf.corpus.file_errors import FileError, LineError
from regmix_hf.corpus.json_lines import json_rows
from regmix_hf.corpus.lines import line_number
from regmix_hf.corpus.local_files import PACKED, SourceFile
from regmix_hf.corpus.row_groups import TableRows, table_rows
from regmix_hf.corpus.rows import Rows
from regmix_hf.corpus.text_files import SampleBy, text_rows

#: Of a file that is no UTF-8, to tell text in another encoding from what is no text.
_HEAD_BYTES = 4096


@dataclass(frozen=True)
class Files:
    """Files in order. A position is `[file, byte]`, in a Parquet file `[file, row group, row in it]`.

    A byte is one of the uncompressed text. A compressed file cannot be entered in its middle: reading goes on
    by reading it from its start, and only the one that was being read.
    """

    files: tuple[SourceFile, ...]
    sample_by: SampleBy = "document"  # what a document of a text file is

    def batches(self, position: Any, columns: Sequence[str]) -> Generator[Rows | TableRows]:
        """The rows after `position`, or all.

        Args:
            position: Of an earlier batch, or `None`.
            columns: The columns that are read of tables, where they are there.

        Raises:
            OSError: A file cannot be read, or not any more.
            FileError: A file is cut off or damaged, or one of its lines cannot be read.
        """
        first, *place = [0] if position is None else position
        for number in range(first, len(self.files)):
            file = self.files[number]
            try:
                yield from self._of_file(file, number, place if number == first else [], columns)
            except LineError as error:
                raise FileError(
                    f"{file.address}, {_line(file, error)}", _advice(error.fault, file)
                ) from error
            except (pa.ArrowException, OSError) as error:
                if isinstance(error, OSError) and (file.path is None or error.errno is not None):
                    raise
                said = (str(error).splitlines() or [type(error).__name__])[0]
                raise FileError(f"{file.address}: {said}", _advice(said, file)) from error

    def _of_file(
        self, file: SourceFile, number: int, place: Sequence[int], columns: Sequence[str]
    ) -> Generator[Rows | TableRows]:
        start = place[0] if place else 0
        if file.kind == "parquet":
            group, row = place if len(place) == 2 else (0, 0)
            yield from table_rows(file.address, number, (group, row), columns)
        elif file.kind == "json":
            yield from json_rows(file.address, number, start)
        else:
            yield from text_rows(file.address, number, start, self.sample_by)


def _line(file: SourceFile, error: LineError) -> str:
    if error.line is not None or error.end is None:
        return f"line {error.line} {error.fault}"
    if file.path is None:
        return str(error)
    return f"line {line_number(file.address, error.end)} {error.fault}"


def _holds_zeros(file: SourceFile) -> bool:
    """Whether zero bytes stand at the beginning of a local file that is not compressed."""
    if file.path is None or is_compressed(file.path.name):
        return False
    with file.path.open("rb") as opened:
        return b"\0" in opened.read(_HEAD_BYTES)


def _advice(fault: str, file: SourceFile) -> str:
    name = PurePosixPath(file.address).name
    if PurePosixPath(name).suffix.lower() in PACKED:
        return "it is packed, by its name: unpack it and name what is in it, or leave it out of data_files"
    if "UTF-8" in fault:
        is_wide = fault.endswith(("byte 1 is 0xff.", "byte 1 is 0xfe."))
        if not is_wide and _holds_zeros(file):
            return "it holds zero bytes, as no text does: leave it out of data_files, or unpack what is in it"
        encoding = "utf-16" if is_wide else "latin1"
        return f"convert it, `iconv -f {encoding} -t utf-8 {name}` say, or leave it out of data_files"
    if file.kind == "parquet":
        return "fetch or write it again, or say by `path` what it is"
    return "mend the line or leave the file out of data_files; a file that is no JSON may be `path: text`"
