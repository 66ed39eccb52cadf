"""Read text files: one document each, or one a paragraph or a line."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Literal

from regmix_hf.corpus.file_errors import LineError, decoded, not_utf8
from regmix_hf.corpus.lines import lines, whole
from regmix_hf.corpus.patient_file import PATIENT
from regmix_hf.corpus.rows import Rows

SampleBy = Literal["document", "paragraph", "line"]
#: The one column of their rows, by the name that `datasets` gives it.
COLUMN = "text"


def text_rows(file: str, number: int, start: int, sample_by: SampleBy) -> Generator[Rows]:
    r"""The documents of a text file after a byte, each as a row with the column `text`.

    A document keeps its lines; `\r\n` becomes `\n`. Paragraphs are what stands between blank lines.

    Args:
        file: Path, `hf://` address or URL.
        number: The file's number.
        start: The byte after the last document that was read.
        sample_by: What a document is.

    Raises:
        OSError: The file cannot be read, or not any more.
        LineError: A line is not UTF-8.
        FileError: The file is cut off or damaged.
    """
    if sample_by == "document":
        if start == 0:
            yield from _whole(file, number)
        return
    with closing(lines(file, start, PATIENT)) as batches:
        paragraph: list[str] = []
        for some, ends in batches:
            rows, row_ends = [], []
            texts = [decoded(line, end).removesuffix("\r") for line, end in zip(some, ends, strict=True)]
            for text, end in zip(texts, ends, strict=True):
                if sample_by == "line":
                    rows.append({COLUMN: text})
                    row_ends.append(end)
                elif text.strip():
                    paragraph.append(text)
                elif paragraph:
                    rows.append({COLUMN: "\n".join(paragraph)})
                    row_ends.append(end)
                    paragraph = []
            if rows:
                yield Rows(number, start, rows, row_ends, [number, row_ends[-1]])
                start = row_ends[-1]
        if paragraph:
            yield Rows(number, start, [{COLUMN: "\n".join(paragraph)}], [ends[-1]], [number, ends[-1]])


def _whole(file: str, number: int) -> Iterator[Rows]:
    content = whole(file, PATIENT)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, byte = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise LineError(None, not_utf8(byte, content[error.start]), line=line) from None
    if content:
        yield Rows(number, 0, [{COLUMN: text.replace("\r\n", "\n")}], [len(content)], [number, len(content)])
