"""Patterns for the files of a folder that can be read, where some cannot."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from regmix_hf.corpus.local_files import end_of
from regmix_hf.corpus.patterns import matches
from regmix_hf.draft.look import look_at_texts

#: More places, files or ends of names than these in one domain are no recipe that anybody reads.
MOST_NAMES = 40


def text_ends(folder: Path, files: Sequence[Path]) -> tuple[dict[str, list[Path]], dict[str, str]]:
    """Patterns whose files are all text, whatever their names say: `**/*.py` -> files; largest first.

    Where a file is no text, the others have patterns of their own, if these are not too many for a recipe.
    The second part has the ends of names of what is kept out, with why.
    """
    found: dict[str, list[Path]] = {}
    spoilt: dict[str, str] = {}
    for end in dict.fromkeys(map(written_end, files)):
        pattern = _ending(end)
        alike = matches(pattern, folder)
        unreadable = look_at_texts(alike).unreadable
        texts = [file for file in alike if file not in unreadable and written_end(file) == end]
        if not unreadable:
            found[pattern] = alike
        elif len(texts) <= len(unreadable):
            continue  # these are no texts, whatever single ones of them look like
        else:
            spoilt[end] = no_text(unreadable)
            around = dict(patterns_around(folder, folder, end, set(texts)))
            found |= around if len(around) <= MOST_NAMES else {}
    sizes = {pattern: sum(file.stat().st_size for file in alike) for pattern, alike in found.items()}
    return {
        pattern: found[pattern] for pattern in sorted(sizes, key=lambda one: -sizes[one])[:MOST_NAMES]
    }, spoilt


def patterns_around(folder: Path, top: Path, end: str, texts: set[Path]) -> Iterator[tuple[str, list[Path]]]:
    """Patterns below `top` that match all of these files in a folder, and no other.

    A pattern cannot leave a file out: the folders beside it have patterns of their own, and its neighbours
    are named one by one or, where they are many, by how their names begin.
    """
    pattern = str(folder.relative_to(top) / _ending(end))
    alike = matches(pattern, top)
    if texts.issuperset(alike):
        yield pattern, alike
        return
    here = [file for file in alike if file.parent == folder]
    names = {file.name: file for file in here if file in texts}
    told: Iterable[str] = names
    if len(names) > MOST_NAMES:
        told = _apart(names, {file.name for file in here} - names.keys(), end)
    for one in told:
        found = [file for name, file in names.items() if one == name or fnmatchcase(name, one)]
        yield str((folder / one).relative_to(top)), found
    for name in sorted({file.relative_to(folder).parts[0] for file in alike if file not in here}):
        yield from patterns_around(folder / name, top, end, texts)


def _apart(names: Collection[str], others: Collection[str], end: str, start: str = "") -> Iterator[str]:
    """Patterns of names that match all of these and none of the others, by where they begin otherwise.

    >>> list(_apart(["a1.txt", "a2.txt", "b.txt", "c.txt"], ["a3.txt"], ".txt"))
    ['[bc]*.txt', 'a[12]*.txt']

    Args:
        names: Of files in one folder, which all end so and begin with `start`.
        others: Names there that end so, too.
        end: How they end.
        start: How they begin.
    """
    spelt = [name for name in names if len(name) <= len(start + end) or any(c in name for c in "*?[")]
    yield from spelt
    after = {name[len(start)]: None for name in names if name not in spelt}
    taken = {name[len(start)] for name in others if name.startswith(start) and name != start}
    if own := "".join(sorted(c for c in after if c not in taken and c.isalnum())):
        yield f"{start}{f'[{own}]' if len(own) > 1 else own}*{end}"
    yield from (f"{start}{c}*{end}" for c in after if c not in taken and not c.isalnum())
    for c in (c for c in after if c in taken):
        begun = [name for name in names if name not in spelt and name.startswith(start + c)]
        yield from _apart(begun, others, end, start + c)


def _ending(end: str) -> str:
    return f"**/*{end}" if end.startswith(".") else f"**/{end}"


def written_end(file: Path) -> str:
    """The end of a name in the letters it is written in, large or small, as patterns need it."""
    return file.name[-len(end_of(file)) :]


def no_text(files: Sequence[Path]) -> str:
    """Say that files are not UTF-8, or are damaged: the beginning of a sentence."""
    names = ", ".join(str(file) for file in files[:3])
    more = f" and {len(files) - 3} more" if len(files) > 3 else ""
    return f"{names}{more} cannot be read as UTF-8: convert or move what cannot"
