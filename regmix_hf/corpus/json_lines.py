"""Read JSON lines from any line on: what `datasets` can only by reading the file from its start again."""

from __future__ import annotations

import io
import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import accumulate
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from regmix_hf.corpus.patient_file import BRIEF, PATIENT, Persistence, open_bytes
from regmix_hf.corpus.read_ahead import one_ahead

#: Bytes asked for at once: few at first, because little may be wanted, then twice as many every time.
FIRST_CHUNK_BYTES, MAX_CHUNK_BYTES = 1 << 18, 1 << 23
#: Rows after which reading can go on.
_ROWS = 256
#: Ends of file names: what lies in them, uncompressed or as Arrow calls the compression.
_LINES = {".jsonl", ".json", ".ndjson"}
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}


@dataclass(frozen=True)
class JsonRows:
    """Some rows of one file.

    Attributes:
        file: Its number.
        start: The byte from which they were read.
        rows: What JSON says.
        ends: The byte after each row.
        end: The byte after all that was read; empty lines may lie before it.
    """

    file: int
    start: int
    rows: list[Any]
    ends: list[int]
    end: int

    @property
    def position(self) -> list[int]:
        """Where reading goes on after them."""
        return [self.file, self.end]

    @property
    def num_rows(self) -> int:
        """How many there are."""
        return len(self.rows)

    def after(self, position: Any) -> JsonRows:
        """Those of the rows that come after a position."""
        if position is None or position <= [self.file, self.start]:
            return self
        past = self.end if position[0] > self.file else position[1]
        left = [number for number, end in enumerate(self.ends) if end > past]
        rows, ends = ([values[number] for number in left] for values in (self.rows, self.ends))
        return JsonRows(self.file, past, rows, ends, self.end)


@dataclass(frozen=True)
class JsonLines:
    """Files that hold one JSON object a line. A position is `[file, byte]`.

    The byte is one of the uncompressed text. A compressed file cannot be entered in its middle: reading goes
    on by reading it from its start, and only the one that was being read.

    Args:
        files: Paths, `hf://` addresses or URLs, in order.
    """

    files: tuple[str, ...]

    @staticmethod
    def can_read(files: Sequence[str]) -> bool:
        """Tell from their names, and from the beginning of the first, whether files hold JSON lines.

        Raises:
            OSError: The first file cannot be read.
        """
        if not files or not all(_kind(file)[0] in _LINES and "::" not in file for file in files):
            return False
        with closing(_lines(files[0], 0, BRIEF)) as batches:
            for lines, _ in batches:
                if first := next((line.strip() for line in lines if line.strip()), b""):
                    return first.startswith(b"{") and first != b"{"
        return True

    def batches(self, position: Any) -> Generator[JsonRows]:
        """The rows after `position`, or all.

        Raises:
            OSError: A file cannot be read, or not any more.
            ValueError: A line is no JSON.
        """
        first, start = (0, 0) if position is None else position
        for number in range(first, len(self.files)):
            yield from self._of_file(number, start if number == first else 0)

    def _of_file(self, number: int, start: int) -> Iterator[JsonRows]:
        with closing(_lines(self.files[number], start, PATIENT)) as batches:
            for lines, line_ends in batches:
                end = line_ends[-1]
                rows, ends = [], []
                for line, line_end in zip(lines, line_ends, strict=True):
                    if (row := self._row(number, line, end)) is not None:
                        rows.append(row)
                        ends.append(line_end)
                yield JsonRows(number, start, rows, ends, end)
                start = end

    def _row(self, number: int, line: bytes, end: int) -> Any:
        text = line.decode("utf-8").strip()
        if not text:
            return None
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            fault = f"{error.msg} at column {error.colno}"
        raise ValueError(f"{self.files[number]}: a line before byte {end} is no JSON: {fault}")


def _kind(file: str) -> tuple[str, str | None]:
    """The end of a file's name without that of a compression, and the compression."""
    name = PurePosixPath(file.split("?")[0])
    compression = _COMPRESSIONS.get(name.suffix)
    return (name.with_suffix("").suffix if compression else name.suffix), compression


def _lines(file: str, start: int, persistence: Persistence) -> Generator[tuple[list[bytes], list[int]]]:
    """Some whole lines at a time, and the byte after each."""
    raw = open_bytes(file, persistence)
    with closing(one_ahead(_chunks(raw, _kind(file)[1], start), stop=raw.close)) as chunks:
        unfinished, end = [b""], start
        for chunk in chunks:
            head, newline, tail = chunk.rpartition(b"\n")
            if not newline:
                unfinished.append(chunk)
                continue
            lines = b"".join([*unfinished, head]).split(b"\n")
            unfinished = [tail]
            if end == 0:
                lines[0], end = _without_bom(lines[0])
            for first in range(0, len(lines), _ROWS):
                some = lines[first : first + _ROWS]
                ends = list(accumulate((len(line) + 1 for line in some), initial=end))[1:]
                end = ends[-1]
                yield some, ends
        if last := b"".join(unfinished):
            yield [_without_bom(last)[0] if end == 0 else last], [end + len(last)]


def _without_bom(line: bytes) -> tuple[bytes, int]:
    bom = b"\xef\xbb\xbf"
    return (line.removeprefix(bom), len(bom)) if line.startswith(bom) else (line, 0)


def _chunks(raw: io.RawIOBase, compression: str | None, start: int) -> Iterator[bytes]:
    if compression is None:
        raw.seek(start)
        text: Any = raw
    else:
        # Arrow asks for little at a time, and each time would be a request.
        buffered = io.BufferedReader(raw, 4 * FIRST_CHUNK_BYTES)
        text = pa.CompressedInputStream(pa.PythonFile(buffered, "r"), compression)
        while start and (skipped := len(text.read(min(start, MAX_CHUNK_BYTES)))):
            start -= skipped
    size = FIRST_CHUNK_BYTES
    while chunk := text.read(size):
        yield chunk
        size = min(2 * size, MAX_CHUNK_BYTES)
