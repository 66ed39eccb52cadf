"""Read JSON lines from any line on: what `datasets` can only by reading the file from its start again."""

from __future__ import annotations

import io
import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from regmix_hf.corpus.encode import Piece, pieces
from regmix_hf.corpus.patient_file import BRIEF, PATIENT, Persistence, open_bytes
from regmix_hf.corpus.read_ahead import one_ahead
from regmix_hf.corpus.rows import RowTexts

#: Bytes asked for at once: few at first, because little may be wanted, then twice as many every time.
FIRST_CHUNK_BYTES, MAX_CHUNK_BYTES = 1 << 18, 1 << 23
#: Rows after which reading can go on.
_ROWS = 256
#: Ends of file names: what lies in them, uncompressed or as Arrow calls the compression.
_LINES = {".jsonl", ".json", ".ndjson"}
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}


class JsonLines:
    """Rows of files that hold one JSON object a line. A position is `[file, byte]`.

    The byte is one of the uncompressed text. A compressed file cannot be entered in its middle: reading goes
    on by reading it from its start, and only the one that was being read.

    Args:
        files: Paths, `hf://` addresses or URLs, in order.
        texts: Takes the text out of a row.
    """

    def __init__(self, files: Sequence[str], texts: RowTexts):
        self._files = files
        self._texts = texts

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

    def pieces(self, position: Any) -> Generator[Piece]:
        """The documents after `position`, or all.

        Raises:
            OSError: A file cannot be read, or not any more.
            ValueError: A line is no JSON.
            DataError: A row does not have the columns that are asked for.
        """
        first, start = (0, 0) if position is None else position
        for number in range(first, len(self._files)):
            yield from self._of_file(number, start if number == first else 0)

    def _of_file(self, number: int, start: int) -> Iterator[Piece]:
        with closing(_lines(self._files[number], start, PATIENT)) as batches:
            for lines, end in batches:
                rows = [row for line in lines if (row := self._row(number, line, end)) is not None]
                if start == 0:
                    self._texts.check_columns([row for row in rows if isinstance(row, dict)])
                    start = end
                texts = [text for row in rows if (text := self._texts.of(row)) is not None]
                yield from pieces(texts, len(rows), [number, end])

    def _row(self, number: int, line: bytes, end: int) -> Any:
        text = line.decode("utf-8").strip()
        if not text:
            return None
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            fault = f"{error.msg} at column {error.colno}"
        raise ValueError(f"{self._files[number]}: a line before byte {end} is no JSON: {fault}")


def _kind(file: str) -> tuple[str, str | None]:
    """The end of a file's name without that of a compression, and the compression."""
    name = PurePosixPath(file.split("?")[0])
    compression = _COMPRESSIONS.get(name.suffix)
    return (name.with_suffix("").suffix if compression else name.suffix), compression


def _lines(file: str, start: int, persistence: Persistence) -> Generator[tuple[list[bytes], int]]:
    """Some whole lines at a time, and the byte after them."""
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
                end += sum(map(len, some)) + len(some)
                yield some, end
        if last := b"".join(unfinished):
            yield [_without_bom(last)[0] if end == 0 else last], end + len(last)


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
