"""Make domains of a folder: one for each folder in it and each large file; the rest is counted."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from regmix_hf.corpus.compressed import is_compressed, plain_name
from regmix_hf.corpus.local_files import SourceFile, end_of, find_files, kind_of
from regmix_hf.corpus.patterns import files_below
from regmix_hf.corpus.read_facts import size_of
from regmix_hf.draft.look import NO_TABLES, Tables, look_at_tables, look_at_texts
from regmix_hf.draft.readable_files import MOST_NAMES, no_text, patterns_around, text_ends, written_end
from regmix_hf.errors import DataError
from regmix_hf.readable import count_of
from regmix_hf.recipe import Domain

#: Domains of less text, in bytes, are put together or left out: hardly a step is trained on them.
LEAST_BYTES = 30_000
#: Text files of this size, in bytes, that lie beside the folders are domains of their own.
_LARGE_FILE = 100_000
#: Fewer documents cannot be told apart into some to train on and a few to validate on.
_LEAST_DOCUMENTS = 20
#: More domains than these need more proxies than a first look is worth.
_MOST_DOMAINS = 16
#: More lines about what was left out, or names in one, nobody reads.
_MOST_LINES = 12
#: Where files of known kinds hold less than this share of the text, the others are meant: code, say.
_LEAST_KNOWN = 0.1


@dataclass(frozen=True)
class FoundDomain:
    """A domain that can be trained on.

    Attributes:
        name: As the recipe calls it.
        keys: Of the recipe, as they stand there.
        files: What it is made of, validation text of its own included.
        num_documents: About.
        num_bytes: Of text, about.
    """

    name: str
    keys: dict[str, Any]
    files: tuple[Path, ...]
    num_documents: int
    num_bytes: int


@dataclass(frozen=True)
class Findings:
    """The domains of a folder, largest first, and what is in none of them, a line each."""

    domains: tuple[FoundDomain, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class _Place:
    """A folder or some files that may be a domain, with what they are called in the recipe."""

    name: str
    files: tuple[Path, ...]
    keys: dict[str, Any]
    folder: Path | None = None
    start: Path | None = None


def find_domains(folder: Path, start: Path) -> Findings:
    """Find domains in a folder.

    Args:
        folder: Where the text lies.
        start: The folder of the recipe, where its relative paths start.

    Raises:
        DataError: `folder` is none.
    """
    if not folder.is_dir():
        raise DataError(f"{str(folder)!r} is no folder.", "give the folder that holds your text")
    domains: list[FoundDomain] = []
    left_out: list[str] = []
    for place in _places(folder, start):
        try:
            found, spoilt = _domains_of(place)
        except DataError as error:
            left_out.append(f"{place.name}: {count_of(len(place.files), 'file')}: {error.message}")
            continue
        domains += found
        left_out += _not_read(place, found, spoilt)
    domains.sort(key=lambda domain: -domain.num_bytes)
    large = [domain for domain in domains if domain.num_bytes >= LEAST_BYTES][:_MOST_DOMAINS]
    small = [domain for domain in domains if domain not in large]
    if rest := _together(small):
        large.append(rest)
    elif small:
        left_out.insert(0, _too_small(small))
    if (more := len(left_out) - _MOST_LINES) > 0:
        left_out[_MOST_LINES:] = [f"and files of {count_of(more, 'more folder')}"]
    return Findings(_named(large), tuple(left_out))


def _too_small(domains: Sequence[FoundDomain]) -> str:
    names = ", ".join(domain.name for domain in domains[:_MOST_LINES])
    more = f" and {len(domains) - _MOST_LINES} more" if len(domains) > _MOST_LINES else ""
    size = size_of(sum(domain.num_bytes for domain in domains))
    files = count_of(sum(len(domain.files) for domain in domains), "file")
    return f"{names}{more}: {size} of text in {files}, each too little beside the others for a domain"


def _places(folder: Path, start: Path) -> Iterator[_Place]:
    """The folders in a folder, and its files; of a folder in which there is but one folder, those in that."""
    inside = [place for place in sorted(folder.iterdir()) if not place.name.startswith(".")]
    folders = [place for place in inside if place.is_dir()]
    files = [place for place in inside if place.is_file()]
    known = [file for file in files if kind_of(file)]
    if len(folders) == 1 and not known:
        yield from _places(folders[0], start)
        folders = []
    for place in folders:
        if found := tuple(files_below(place)):
            yield _Place(place.name, found, {"path": address(place, start)}, place, start)
    alike: dict[tuple[str, str], list[Path]] = {}
    for file in known:
        alike.setdefault((kind_of(file) or "", _stem(file)), []).append(file)
    for (kind, name), some in alike.items():
        files_of = [address(file, start) for file in some]
        yield _Place(name, tuple(some), {"path": kind, "data_files": files_of}, start=start)
    if others := tuple(file for file in files if file not in known):
        yield _Place(folder.resolve().name, others, {})


def _stem(file: Path) -> str:
    """What files that belong together are called: shards by their name, small texts all alike."""
    packed = 3 if is_compressed(file.name) else 1
    if kind_of(file) == "text" and file.stat().st_size * packed < _LARGE_FILE:
        return "texts"
    return re.sub(r"[-_.]?\d+(-of-\d+)?$", "", plain_name(file.name).stem) or file.stem


def _domains_of(place: _Place) -> tuple[list[FoundDomain], dict[str, str]]:
    """The domains of a place: of the files whose names say what they are, or of all that are text.

    And each end of names of which files are kept out that would be read, with why.

    Raises:
        DataError: There are none, or they cannot be read.
    """
    sizes = Counter[bool]()
    for file in place.files:
        sizes[kind_of(file) is not None] += file.stat().st_size
    is_known = sizes[True] >= _LEAST_KNOWN * sizes.total()
    ends, spoilt = text_ends(place.folder, place.files) if place.folder and not is_known else ({}, {})
    if ends:
        files = list(dict.fromkeys(file for some in ends.values() for file in some))
        keys = {"path": "text", "data_files": [f"{place.keys['path']}/{pattern}" for pattern in ends]}
        return [_domain(place.name, keys, [SourceFile(str(file), "text") for file in files], [])], spoilt
    found, kept_out = _readable_of_known_kinds(place) if sizes[True] else ([], {})
    return found, spoilt | kept_out


class _UnreadableError(DataError):
    """Some files of a domain cannot be read.

    Attributes:
        faults: Each of them, with why.
    """

    def __init__(self, faults: Mapping[Path, str]):
        self.faults = faults
        texts = [file for file in faults if kind_of(file) in ("text", None)]
        super().__init__(f"{no_text(texts) if texts else next(iter(faults.values())).rstrip('.')}.")

    @property
    def by_end(self) -> dict[str, str]:
        """Why, by the ends of their names."""
        ends: dict[str, list[Path]] = {}
        for file in self.faults:
            ends.setdefault(written_end(file), []).append(file)
        return {
            end: _UnreadableError({file: self.faults[file] for file in files}).message.rstrip(".")
            for end, files in ends.items()
        }


def _readable_of_known_kinds(place: _Place) -> tuple[list[FoundDomain], dict[str, str]]:
    """The domains of such files; where some cannot be read, and no more than half, of the others.

    Raises:
        DataError: They cannot be read.
    """
    try:
        return list(_of_known_kinds(place)), {}
    except _UnreadableError as error:
        rest, kept_out = _without(place, error.faults), error.by_end
        if rest is None:
            raise
    found, more = _readable_of_known_kinds(rest)
    return found, kept_out | more


def _without(place: _Place, faults: Collection[Path]) -> _Place | None:
    """The place with other files alone; `None`: most would be left out, or too many be named one by one."""
    bad = {os.path.realpath(file) for file in faults}
    files = tuple(file for file in place.files if os.path.realpath(file) not in bad)
    known = [file for file in files if kind_of(file)]
    if len(known) < len(faults) or len(files) == len(place.files):
        return None
    if place.folder is None:
        named = [
            name for name, file in zip(place.keys["data_files"], place.files, strict=True) if file in files
        ]
        return replace(place, files=files, keys=place.keys | {"data_files": named})
    patterns: dict[str, list[Path]] = {}
    for end in dict.fromkeys(map(written_end, known)):
        alike = {file for file in known if written_end(file) == end}
        patterns |= dict(patterns_around(place.folder, place.folder, end, alike))
    if len(patterns) > MOST_NAMES:
        return None
    return replace(place, files=files, keys=place.keys | {"data_files": list(patterns)})


def _of_known_kinds(place: _Place) -> Iterator[FoundDomain]:
    """The domain of files whose names say what they are; two where its tables call text something else.

    Raises:
        DataError: They cannot be read.
    """
    domain = Domain.model_validate(place.keys | ({"path": str(place.folder)} if place.folder else {}))
    found = find_files(domain.from_folder(place.start))
    if found is None:
        raise DataError("a data set that `datasets` reads: name it in the recipe by `path` yourself.")
    keys = place.keys | ({"validation_split": "validation"} if "validation" in found.splits else {})
    texts = [file for file in found.splits["train"] if file.kind == "text"]
    tables = [file for file in found.splits["train"] if file.kind != "text"]
    held_out = [file.path for file in found.splits.get("validation", ()) if file.path]
    rows = look_at_tables(tables)
    if rows.unreadable:
        raise _UnreadableError(rows.unreadable)
    if (
        texts and tables and rows.column != "text"
    ):  # one domain has one text column, and that of texts is `text`
        path = place.keys["path"]
        where = [f"{path}/{name}" for name in place.keys.get("data_files", ())] or path
        name = f"{place.name}_texts" if rows.column else place.name
        yield _domain(name, {"path": "text", "data_files": where}, texts, [])
        if rows.column:
            keys = {"path": tables[0].kind, "data_files": where}
            yield _domain(f"{place.name}_tables", keys, [], tables, rows)
    else:
        yield _domain(place.name, keys, texts, tables, rows, held_out)


def _domain(
    name: str,
    keys: dict[str, Any],
    texts: Sequence[SourceFile],
    tables: Sequence[SourceFile],
    rows: Tables = NO_TABLES,
    held_out: Sequence[Path] = (),
) -> FoundDomain:
    """Describe a domain.

    Raises:
        DataError: It cannot be read, or has too few documents.
    """
    files = [file.path for file in texts if file.path]
    seen = look_at_texts(files)
    if seen.unreadable:
        raise _UnreadableError(dict.fromkeys(seen.unreadable, ""))
    if tables and rows.column is None:
        raise DataError("no column holds text.")
    if rows.column not in (None, "text"):
        keys = keys | {"text_column": rows.column}
    num_documents = rows.num_rows + seen.parts["document"]
    if num_documents < _LEAST_DOCUMENTS and texts:
        for sample_by in ("paragraph", "line"):
            if (count := rows.num_rows + seen.parts[sample_by]) >= _LEAST_DOCUMENTS:
                keys, num_documents = keys | {"sample_by": sample_by}, count
                break
    if num_documents < _LEAST_DOCUMENTS:
        raise DataError(f"too few documents to hold some out ({num_documents}).")
    files += [file.path for file in tables if file.path]
    return FoundDomain(name, keys, (*files, *held_out), num_documents, rows.num_bytes + seen.num_bytes)


def _not_read(place: _Place, found: Sequence[FoundDomain], spoilt: Mapping[str, str]) -> Iterator[str]:
    """Say how many of a place's files are in none of its domains, by the ends of their names, and why."""
    read = {os.path.realpath(file) for domain in found for file in domain.files}
    unread = [file for file in place.files if os.path.realpath(file) not in read]
    for end, why in spoilt.items():
        yield f"{place.name}: {sum(written_end(one) == end for one in unread):,} {end}, for {why}"
    if ends := Counter(end_of(file) for file in unread if written_end(file) not in spoilt):
        most = ", ".join(f"{count:,} {end}" for end, count in ends.most_common(6))
        yield f"{place.name}: {most}{', ...' if len(ends) > 6 else ''}"


def _together(small: Sequence[FoundDomain]) -> FoundDomain | None:
    """One domain of folders that are too small, or too many, for domains of their own; `None`: it is no use.

    Only such as need no key but their path can be read together.
    """
    plain = [one for one in small if one.keys.keys() == {"path"}]
    num_bytes = sum(one.num_bytes for one in plain)
    if len(plain) != len(small) or not 1 < len(plain) <= MOST_NAMES or num_bytes < LEAST_BYTES:
        return None
    names = [Path(one.keys["path"]).name for one in plain]
    parent = Path(plain[0].keys["path"]).parent
    keys = {"path": str(parent), "data_files": sorted(names)}
    files = tuple(file for one in plain for file in one.files)
    return FoundDomain("rest", keys, files, sum(one.num_documents for one in plain), num_bytes)


def _named(domains: Sequence[FoundDomain]) -> tuple[FoundDomain, ...]:
    """Give every domain a name that a recipe takes, and of its own."""
    names: list[str] = []
    for domain in domains:
        plain = re.sub(r"[^a-z0-9_.-]+", "_", domain.name.lower()).lstrip("_.-")[:80] or "domain"
        same = sum(name == plain or name.startswith(f"{plain}_") for name in names)
        names.append(f"{plain}_{same + 1}" if plain in names else plain)
    return tuple(replace(domain, name=name) for domain, name in zip(domains, names, strict=True))


def address(place: Path, start: Path) -> str:
    """How a recipe in the folder `start` calls a file: relative where it lies below and that is clear.

    A relative path starts at the working directory before it starts at the recipe's folder.
    """
    real, below = place.resolve(), start.resolve()
    if not real.is_relative_to(below):
        return str(real)
    relative = real.relative_to(below)
    return str(real) if relative.exists() and relative.resolve() != real else str(relative)
