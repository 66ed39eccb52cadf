"""Read JSON lines from any line on, and other JSON, which has no places to go on from, as a whole."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any

from regmix_hf.corpus.file_errors import LineError, decoded
from regmix_hf.corpus.lines import lines
from regmix_hf.corpus.patient_file import PATIENT
from regmix_hf.corpus.rows import Rows


def json_rows(file: str, number: int, start: int) -> Generator[Rows]:
    """The rows of a file of JSON: an object a line, or an array of objects, or objects over several lines.

    Args:
        file: Path, `hf://` address or URL.
        number: The file's number.
        start: The byte after the last row that was read.

    Raises:
        OSError: The file cannot be read, or not any more.
        LineError: A line is no JSON.
        FileError: The file is cut off or damaged.
    """
    with closing(lines(file, start, PATIENT)) as batches:
        for some, ends in batches:
            if start == 0 and not any(line.strip() for line in some):
                continue
            if start == 0 and not _are_objects(some):
                rest = [line for more, _ in batches for line in more]
                yield _whole(number, b"\n".join([*some, *rest]))
                return
            rows, row_ends = [], []
            for line, end in zip(some, ends, strict=True):
                if (row := _row(line, end)) is not None:
                    rows.append(row)
                    row_ends.append(end)
            yield Rows(number, start, rows, row_ends, [number, ends[-1]])
            start = ends[-1]


def _are_objects(some: list[bytes]) -> bool:
    """Whether lines hold an object each, by the first that is not empty; if not, one goes on over lines."""
    first = next((line.strip() for line in some if line.strip()), b"{}").decode("utf-8", "replace")
    if first.startswith("["):
        return False
    try:
        json.loads(first)
    except json.JSONDecodeError as error:
        return not (first.startswith("{") and error.pos >= len(first))
    except (RecursionError, ValueError):
        return True
    return True


def _row(line: bytes, end: int) -> Any:
    text = decoded(line, end).strip()
    if not text:
        return None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        fault = f"{error.msg} at column {error.colno}"
    except RecursionError:
        fault = "it is nested too deep"
    except ValueError as error:  # a number of thousands of digits
        fault = str(error).partition(";")[0]
    raise LineError(end, f"is no JSON: {fault}.")


def _whole(number: int, content: bytes) -> Rows:
    """All rows of a file that is no JSON lines; there is no place between them to go on from."""
    text = content.decode("utf-8")
    rows = list(_values(text))
    return Rows(number, 0, rows, [len(content)] * len(rows), [number + 1, 0])


def _values(text: str) -> Iterator[Any]:
    decoder, place = json.JSONDecoder(), 0
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        try:
            value, place = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            fault = f"is no JSON: {error.msg} at column {error.colno}."
            raise LineError(None, fault, line=error.lineno) from None
        except RecursionError:
            raise LineError(None, "is no JSON: it is nested too deep.", line=1) from None
        except ValueError as error:
            raise LineError(None, f"is no JSON: {str(error).partition(';')[0]}.", line=1) from None
        yield from value if isinstance(value, list) else [value]
