"""Tables of text as people write them: what stands between their columns."""

from __future__ import annotations

import csv
from pathlib import Path

#: Ends of names of such tables.
TABLE_ENDS = (".csv", ".tsv")
_SEPARATORS = ",;\t|"


def header(file: Path, column: str) -> tuple[str, list[str]]:
    """The separator of a table, and the names of its columns by its first line.

    Of all separators the one that gives `column`; if none does, the one that gives most columns.
    """
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as text:
        first = text.readline()
    names = {mark: next(csv.reader([first], delimiter=mark), []) for mark in _SEPARATORS}
    separator = max(_SEPARATORS, key=lambda mark: (column in names[mark], len(names[mark])))
    return separator, names[separator]
