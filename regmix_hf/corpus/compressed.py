"""Bytes of a file, decompressed where they are compressed, with one message where they end too early."""

from __future__ import annotations

import io
import lzma
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from regmix_hf.corpus.file_errors import FileError

#: Bytes asked for at once: few at first, because little may be wanted, then twice as many every time.
FIRST_CHUNK_BYTES, MAX_CHUNK_BYTES = 1 << 18, 1 << 23
#: Ends of names of files that are decompressed here, and how such files begin.
_MAGIC = {".gz": b"\x1f\x8b", ".zst": b"\x28\xb5\x2f\xfd", ".bz2": b"BZh", ".xz": b"\xfd7zXZ\x00"}
_ARROW = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
#: Parts of what Arrow says when the bytes are at fault, not the way to them.
_FAULTS = ("Truncated compressed stream", "decompress failed", "inflate failed", "ecompression failed")


def plain_name(file: str) -> PurePosixPath:
    """The name of a file or address without the end that says how it is compressed."""
    name = PurePosixPath(file.split("?")[0])
    return name.with_suffix("") if name.suffix in _MAGIC else name


def is_compressed(file: str) -> bool:
    """Whether the name of a file says that it is compressed, in a way that is read here."""
    return PurePosixPath(file.split("?")[0]).suffix in _MAGIC


def chunks(file: str, raw: io.RawIOBase, start: int) -> Iterator[bytes]:
    """The bytes of a file from the byte `start` on; `start` is one of the decompressed bytes.

    Args:
        file: Its name; one that does not say so is not compressed.
        raw: It, opened.
        start: A compressed file is read from its beginning up to there.

    Raises:
        FileError: It is cut off or damaged.
    """
    if not is_compressed(file):
        raw.seek(start)
        yield from _chunks(raw)
        return
    try:
        # Little is asked for at a time, and each time would be a request.
        with io.BufferedReader(raw, 4 * FIRST_CHUNK_BYTES) as buffered:
            text = _opened(buffered)
            while start and (skipped := len(text.read(min(start, MAX_CHUNK_BYTES)))):
                start -= skipped
            yield from _chunks(text)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        if isinstance(error, OSError) and not any(fault in str(error) for fault in _FAULTS):
            raise
        raise _explained(file, error) from error


def _chunks(text: Any) -> Iterator[bytes]:
    size = FIRST_CHUNK_BYTES
    while chunk := text.read(size):
        yield chunk
        size = min(2 * size, MAX_CHUNK_BYTES)


def _opened(buffered: io.BufferedReader[Any]) -> Any:
    """Go by how the file begins: a server may have decompressed it on the way (`Content-Encoding`)."""
    begin = buffered.peek(8)
    if not begin:
        raise EOFError
    for end, magic in _MAGIC.items():
        if begin.startswith(magic):
            if end in _ARROW:
                return pa.CompressedInputStream(pa.PythonFile(buffered, "r"), _ARROW[end])
            return lzma.LZMAFile(buffered)
    if any(magic.startswith(begin) for magic in _MAGIC.values()):
        raise EOFError
    return buffered


def _explained(file: str, error: Exception) -> FileError:
    said = (str(error).splitlines() or [""])[0]
    if isinstance(error, EOFError) or "Truncated" in said:
        return FileError(
            f"{file} ends too early: its compressed text is cut off.",
            "fetch or write it again, or leave it out of data_files",
        )
    if "too much memory" in said:
        return FileError(
            f"{file} was compressed over a longer window than is decompressed here (128 MB).",
            f"`zstd -d --long=31 {PurePosixPath(file).name}` decompresses it",
        )
    return FileError(
        f"{file} is damaged: {said or type(error).__name__}.",
        "fetch or write it again; `gzip -t`, `zstd -t`, `bzip2 -t` and `xz -t` test such files",
    )
