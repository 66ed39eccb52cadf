"""What people write to name a repository and one of its revisions: `NAMESPACE/NAME[@REVISION]`."""

from __future__ import annotations

import re

#: As the Hub names repositories, tags and commits; the Hub itself may still refuse a name.
_REFERENCE = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@([A-Za-z0-9][\w.-]*))?")


def split_reference(text: str) -> tuple[str, str | None] | None:
    """Return the name of the repository and the revision, if one is named; `None` for what is no reference.

    >>> split_reference("someone/study-runs@v1"), split_reference("someone/study-runs")
    (('someone/study-runs', 'v1'), ('someone/study-runs', None))
    >>> split_reference("study-runs@v1"), split_reference("someone/study-runs@")
    (None, None)
    """
    match = _REFERENCE.fullmatch(text)
    return (match[1], match[2]) if match else None
