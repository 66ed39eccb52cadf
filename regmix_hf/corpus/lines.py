"""The lines of a file from any of them on, wherever it lies and however it is compressed."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from itertools import accumulate

from regmix_hf.corpus.compressed import chunks
from regmix_hf.corpus.patient_file import BRIEF, open_bytes
from regmix_hf.corpus.read_ahead import one_ahead

#: Rows after which reading can go on.
ROWS = 256


def lines(file: str, start: int, attempts: int) -> Generator[tuple[list[bytes], list[int]]]:
    """Some whole lines at a time, without their ends, and the byte after each.

    Args:
        file: Path, `hf://` address or URL.
        start: The byte at which the first begins.
        attempts: How often a read is tried.

    Raises:
        OSError: The file cannot be read.
        FileError: It is cut off or damaged.
    """
    raw = open_bytes(file, attempts)
    with closing(one_ahead(chunks(file, raw, start), stop=raw.close)) as parts:
        unfinished, end = [b""], start
        for part in parts:
            head, newline, tail = part.rpartition(b"\n")
            if not newline:
                unfinished.append(part)
                continue
            found = b"".join([*unfinished, head]).split(b"\n")
            unfinished = [tail]
            if end == 0:
                found[0], end = _without_bom(found[0])
            for first in range(0, len(found), ROWS):
                some = found[first : first + ROWS]
                ends = list(accumulate((len(line) + 1 for line in some), initial=end))[1:]
                end = ends[-1]
                yield some, ends
        if last := b"".join(unfinished):
            yield [_without_bom(last)[0] if end == 0 else last], [end + len(last)]


def whole(file: str, attempts: int) -> bytes:
    """All bytes of a file, decompressed.

    Raises:
        OSError: The file cannot be read.
        FileError: It is cut off or damaged.
    """
    raw = open_bytes(file, attempts)
    with closing(one_ahead(chunks(file, raw, 0), stop=raw.close)) as parts:
        return b"".join(parts)


def look_at(file: str) -> None:
    """Ask for the beginning of a file, not for long: its address may be wrong.

    Raises:
        OSError: The file cannot be read.
    """
    with closing(lines(file, 0, BRIEF)) as batches:
        next(batches, None)


def line_number(file: str, end: int) -> int:
    """The number, from 1, of the line that ends at the byte `end`."""
    number = 0
    with closing(lines(file, 0, BRIEF)) as batches:
        for some, ends in batches:
            if ends[-1] >= end:
                return number + sum(other <= end for other in ends)
            number += len(some)
    return number


def _without_bom(line: bytes) -> tuple[bytes, int]:
    bom = b"\xef\xbb\xbf"
    return (line.removeprefix(bom), len(bom)) if line.startswith(bom) else (line, 0)
