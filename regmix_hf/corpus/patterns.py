"""The local files that a pattern matches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

_MAGIC = "*?["


def matches(pattern: str, start: Path) -> list[Path]:
    """The files a pattern matches, in order; a folder stands for all files in it.

    `**` is any folders. Links to folders are followed, each folder once. A name that is there is taken as it
    is, brackets and all. Names that begin with a dot must be spelt out.

    Args:
        pattern: With `/` between names.
        start: Where it starts, unless it is absolute.
    """
    found: list[Path] = []
    for place in _expand(*_split(pattern, start)):
        found += files_below(place) if place.is_dir() else [place] if place.is_file() else []
    return list(dict.fromkeys(found))


def head(pattern: str, start: Path) -> Path:
    """The folder in which a pattern begins to be more than a name."""
    folder, parts = _split(pattern, start)
    for part in parts:
        if not (folder / part).is_dir():
            break
        folder /= part
    return folder


def files_below(folder: Path) -> list[Path]:
    """All files in a folder and those in it, but for what begins with a dot."""
    places = (file for place in _walk(folder) for file in sorted(place.iterdir()))
    return [file for file in places if not file.name.startswith(".") and file.is_file()]


def _split(pattern: str, start: Path) -> tuple[Path, tuple[str, ...]]:
    path = Path(pattern)
    return (Path(path.anchor), path.parts[1:]) if path.is_absolute() else (start, path.parts)


def _expand(folder: Path, parts: tuple[str, ...]) -> Iterator[Path]:
    if not parts:
        yield folder
        return
    part, rest = parts[0], parts[1:]
    if part == "**":
        if not rest:
            yield from files_below(folder)
        for below in _walk(folder) if rest else ():
            yield from _expand(below, rest)
    elif os.path.lexists(folder / part):
        yield from _expand(folder / part, rest)
    elif folder.is_dir() and any(letter in part for letter in _MAGIC):
        for place in sorted(folder.iterdir()):
            is_hidden = place.name.startswith(".") and not part.startswith(".")
            if not is_hidden and fnmatchcase(place.name, part) and (not rest or place.is_dir()):
                yield from _expand(place, rest)


def _walk(folder: Path) -> Iterator[Path]:
    """A folder and those in it, links followed, each once."""
    seen: set[str] = set()
    for place, folders, _ in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(place)
