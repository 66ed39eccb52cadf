"""What some files hold: how much text, how many documents, in which column of a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from regmix_hf.corpus.compressed import is_compressed
from regmix_hf.corpus.file_errors import FileError
from regmix_hf.corpus.files import Files
from regmix_hf.corpus.lines import whole
from regmix_hf.corpus.local_files import SourceFile
from regmix_hf.corpus.patient_file import BRIEF
from regmix_hf.corpus.row_groups import TableRows
from regmix_hf.corpus.text_files import SampleBy

#: Bytes of one domain's files that are read; of what lies beyond, the same is taken to hold.
LOOKED_AT_BYTES = 1 << 26
#: Text in a byte of a compressed file, where it was not read to its end.
_TIMES_PACKED = 4
#: Columns that hold the text wherever there are such, in this order; else it is the longest text.
_USUAL_COLUMNS = ("text", "content")


@dataclass(frozen=True)
class Texts:
    """What text files hold; the counts are of all, judged by those that were read.

    Attributes:
        num_bytes: Of text, decompressed.
        parts: How many documents there are, were each file, paragraph or line one.
        unreadable: Files that are not UTF-8 or are damaged; nothing else counts them.
    """

    num_bytes: int
    parts: dict[SampleBy, int]
    unreadable: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Tables:
    """What tables hold in the column that holds text.

    Attributes:
        num_bytes: Of text.
        num_rows: How many rows there are.
        column: Which; `None` where no column does.
        unreadable: Files that cannot be read, with why; nothing else counts them.
    """

    num_bytes: int
    num_rows: int
    column: str | None
    unreadable: Mapping[Path, str] = field(default_factory=dict)


NO_TABLES = Tables(0, 0, None)


def look_at_texts(files: Sequence[Path]) -> Texts:
    """Read text files, up to `LOOKED_AT_BYTES` of them."""
    counts: Counter[str] = Counter()
    unreadable = []
    read = 0
    for file in files:
        if read > LOOKED_AT_BYTES:
            break
        read += (size := file.stat().st_size)
        if size > LOOKED_AT_BYTES:  # a file of its own: too much to look at all of it
            times = _TIMES_PACKED if is_compressed(file.name) else 1
            counts.update(bytes=size * times, document=1, paragraph=size // 1000, line=size // 100)
            continue
        try:
            text = whole(str(file), BRIEF).decode("utf-8-sig")
        except (UnicodeDecodeError, FileError):
            unreadable.append(file)
            continue
        if "\0" in text:
            unreadable.append(file)
            continue
        lines = text.splitlines()
        paragraphs = sum(
            bool(line.strip())
            for line, before in zip(lines, ["", *lines], strict=False)
            if not before.strip()
        )
        counts.update(bytes=len(text.encode()), document=1, paragraph=paragraphs, line=len(lines))
    scale = sum(file.stat().st_size for file in files) / max(read, 1)
    parts: dict[SampleBy, int] = {
        kind: round(counts[kind] * scale) for kind in ("document", "paragraph", "line")
    }
    return Texts(round(counts["bytes"] * scale), parts, tuple(unreadable))


def look_at_tables(files: Sequence[SourceFile]) -> Tables:
    """Read rows of JSON and Parquet files, up to `LOOKED_AT_BYTES` of text."""
    lengths: Counter[str] = Counter()
    num_rows, seen, unreadable = 0, 0.0, {}
    for file in files:
        if lengths.total() > LOOKED_AT_BYTES:
            break
        try:
            of_one = _look_at_table(file, LOOKED_AT_BYTES - lengths.total())
        except FileError as error:
            unreadable[Path(file.address)] = error.message
            continue
        lengths.update(of_one.lengths)
        num_rows += of_one.num_rows
        seen += of_one.share * _size(file)
    usual = next((name for name in _USUAL_COLUMNS if lengths[name]), None)
    column = usual or max(lengths, key=lambda name: lengths[name], default=None)
    scale = sum(map(_size, files)) / max(seen, 1.0)
    num_bytes = round(lengths[column] * scale) if column else 0
    return Tables(num_bytes, round(num_rows * scale), column, unreadable)


@dataclass
class _Rows:
    """What was seen of one table: bytes of text by column, rows, and how much of the file that is."""

    lengths: Counter[str]
    num_rows: int = 0
    share: float = 1.0


def _look_at_table(file: SourceFile, most: int) -> _Rows:
    """Read rows of a file, up to so many bytes of text.

    Raises:
        FileError: It cannot be read.
    """
    seen = _Rows(Counter())
    for batch in Files((file,)).batches(None, []):
        rows = batch.table.to_pylist() if isinstance(batch, TableRows) else batch.rows
        for row in rows:
            seen.lengths.update(_texts_of(row))
        seen.num_rows += len(rows)
        if seen.lengths.total() > most:
            if isinstance(batch, TableRows):
                share = (batch.first_row + batch.num_rows) / pq.read_metadata(file.address).num_rows
            else:
                share = batch.ends[-1] / _size(file) / (_TIMES_PACKED if is_compressed(file.address) else 1)
            seen.share = min(share, 1.0)
            break
    return seen


def _texts_of(row: object) -> dict[str, int]:
    """Bytes of the columns of a row that hold text."""
    columns: Iterable[tuple[str, object]] = row.items() if isinstance(row, dict) else ()
    return {name: len(value.encode(errors="replace")) for name, value in columns if isinstance(value, str)}


def _size(file: SourceFile) -> int:
    return 0 if file.path is None else file.path.stat().st_size
