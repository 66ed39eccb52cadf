"""The files a domain is made of: which there are here, of what kinds, and what they were before."""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from huggingface_hub.constants import REPOCARD_NAME

from regmix_hf.corpus.compressed import is_compressed, plain_name
from regmix_hf.corpus.patterns import files_below, head, matches
from regmix_hf.errors import DataError
from regmix_hf.files import hash_file, hash_value
from regmix_hf.recipe import Domain, Recipe
from regmix_hf.recipe.schema import PYTHON_ENVIRONMENT

Kind = Literal["json", "parquet", "text"]

#: Ends of names, without that of a compression, and what lies in such files of a folder.
KINDS: dict[str, Kind] = {
    **dict.fromkeys((".jsonl", ".json", ".ndjson"), "json"),
    ".parquet": "parquet",
    **dict.fromkeys((".txt", ".text", ".md", ".markdown", ".rst", ".adoc", ".org", ".tex"), "text"),
}
#: The words that `path` says for the kind of all files of a domain.
WORDS: dict[str, Kind] = {"json": "json", "parquet": "parquet", "text": "text"}
#: Ends of names of files that only `datasets` reads: packed in other ways, tables of other kinds.
PACKED = {".zip", ".lz4", ".tar", ".7z", ".tgz", ".rar"}
_TABLES = {".csv", ".tsv", ".arrow", ".tar"}
#: Words in names that say of which split a file of a folder is, as `datasets` takes them.
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
#: Text of one domain up to which its files are known by their content, in bytes; above by what the file
#: system says of them.
HASHED_BYTES = 1 << 26


@dataclass(frozen=True)
class SourceFile:
    """A file of a domain: its path, or the address of one that is not here, and what lies in it."""

    address: str
    kind: Kind

    @property
    def path(self) -> Path | None:
        """Where it is here; `None` elsewhere."""
        return None if "://" in self.address else Path(self.address)


@dataclass(frozen=True)
class Found:
    """What a domain's patterns match here.

    Attributes:
        splits: Its files, split by split.
        start: The folder of the recipe, where its relative paths start there; `None`: the working directory.
        unmatched: Patterns that match nothing.
        num_twice: Files that two patterns match, or a link, of either kind, and its file; each is read once.
        num_links: Files that a symbolic link leads to.
        left_out: Ends of names that say of no kind what it is, and how many files have them.
    """

    splits: dict[str, tuple[SourceFile, ...]]
    start: Path | None = None
    unmatched: tuple[str, ...] = ()
    num_twice: int = 0
    num_links: int = 0
    left_out: tuple[tuple[str, int], ...] = ()

    @property
    def files(self) -> list[SourceFile]:
        """All files."""
        return [file for files in self.splits.values() for file in files]

    @property
    def paths(self) -> list[Path]:
        """Those that are here."""
        return [file.path for file in self.files if file.path is not None]


def find_files(domain: Domain) -> Found | None:
    """Find the files of a domain that are read without `datasets`; `None`: it must say which they are.

    Raises:
        DataError: There are none where they should be.
    """
    patterns = patterns_of(domain)
    if domain.path in WORDS:
        if not patterns:
            raise DataError(
                f"path {domain.path!r} needs `data_files`.", "give it files, folders or patterns as *.txt"
            )
        named = [name for names in patterns.values() for name in names]
        if any("://" in name and (name.startswith("hf:") or "*" in name or "::" in name) for name in named):
            return None
        start = start_of(domain)
        found = _collected(domain, patterns, WORDS[domain.path], start)
        return None if any(Path(file.address).suffix in PACKED for file in found.files) else found
    start, folder = folder_of(domain)
    if folder is None or domain.name is not None or _is_data_set(folder):
        return None
    base = folder / (domain.data_dir or "")
    found = _collected(domain, patterns or {"": ["**"]}, None, start, base)
    are_tables = any(end in _TABLES for end, _ in found.left_out)
    if are_tables and all(
        re.match(r"(?i)readme|licen[cs]e", Path(file.address).name) for file in found.files
    ):
        return None
    return found


def kind_of(path: Path) -> Kind | None:
    """What lies in a file by its name; `None`: the name says nothing that is read."""
    kind = KINDS.get(plain_name(path.name).suffix.lower())
    return None if kind == "parquet" and is_compressed(path.name) else kind


def end_of(path: Path) -> str:
    """The end of a name, that of a compression included; a name without one is its own."""
    ends = path.suffixes[-2:] if is_compressed(path.name) else path.suffixes[-1:]
    return "".join(ends).lower() or path.name


def patterns_of(domain: Domain) -> dict[str, list[str]]:
    """The patterns of `data_files` by split; `""` where the recipe names no split. `{}`: there are none."""
    files = domain.data_files
    if files is None:
        inside = {} if domain.data_dir is None or domain.path not in WORDS else {"train": ["**"]}
    elif isinstance(files, dict):
        inside = {split: [names] if isinstance(names, str) else names for split, names in files.items()}
    else:
        split = "train" if folder_of(domain)[1] is None else ""
        inside = {split: [files] if isinstance(files, str) else files}
    if domain.data_dir is None or domain.path not in WORDS:
        return inside
    return {split: [f"{domain.data_dir}/{name}" for name in names] for split, names in inside.items()}


def folder_of(domain: Domain) -> tuple[Path | None, Path | None]:
    """The folder that `path` names, and before it the recipe's where the path starts there."""
    if domain.path in WORDS or "://" in domain.path:
        return None, None
    if Path(domain.path).is_dir():
        return None, Path(domain.path)
    if domain.folder is not None and (folder := domain.folder / domain.path).is_dir():
        return domain.folder, folder
    return None, None


def start_of(domain: Domain) -> Path | None:
    """The recipe's folder, where the relative patterns of a domain match there and not here."""
    names = [name for names in patterns_of(domain).values() for name in names if "://" not in name]
    if domain.folder is None or any(matches(name, Path()) for name in names):
        return None
    return domain.folder if any(matches(name, domain.folder) for name in names) else None


def local_files(domain: Domain) -> list[Path]:
    """All local files behind a domain, whoever reads them."""
    try:
        if (found := find_files(domain)) is not None:
            return found.paths
    except DataError:
        return []
    _, folder = folder_of(domain)
    if folder is not None and domain.data_files is None:
        return files_below(folder)
    start = folder or start_of(domain) or Path()
    named = [name for names in patterns_of(domain).values() for name in names if "://" not in name]
    return list(dict.fromkeys(path for name in named for path in matches(name, start)))


def located(domain: Domain) -> Domain:
    """The domain with paths that start at the working directory, for whoever does not know its recipe."""
    start, folder = folder_of(domain)
    if start is not None:
        return domain.model_copy(update={"path": str(folder)})
    if folder is not None or (start := start_of(domain)) is None:
        return domain
    files = {
        split: [name if "://" in name else str(start / name) for name in names]
        for split, names in patterns_of(domain).items()
    }
    return domain.model_copy(update={"data_files": files, "data_dir": None})


def stamp_local_files(recipe: Recipe) -> dict[str, str]:
    """Hash names and contents of the local files behind every domain and the tokenizer.

    What comes from the Hub is pinned by its revision, and the Python environment is taken as it was when it
    was read: neither is looked at.

    Returns:
        `text of <domain>` and `files of the tokenizer` -> hash, for those that have local files.
    """
    return {name: hash_value(stamps(files)) for name, files in _stamped_files(recipe).items()}


def stamp_local_files_as_0_1(recipe: Recipe) -> dict[str, str]:
    """Hash what version 0.1 noted of these files: their paths, sizes and times."""
    return {
        name: hash_value(
            [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in sorted(files)]
        )
        for name, files in _stamped_files(recipe).items()
    }


def _stamped_files(recipe: Recipe) -> dict[str, list[Path]]:
    found = {f"text of {name}": local_files(domain) for name, domain in recipe.domains.items()}
    if isinstance(recipe.tokenizer, str) and Path(recipe.tokenizer).is_dir():
        found["files of the tokenizer"] = sorted(Path(recipe.tokenizer).iterdir())
    return {name: files for name, files in found.items() if files}


def local_domains(recipe: Recipe) -> set[str]:
    """Name the domains whose text is on this machine: local files, a folder, or the Python environment."""
    return {
        name
        for name, domain in recipe.domains.items()
        if domain.path == PYTHON_ENVIRONMENT or local_files(domain)
    }


def stamps(files: Iterable[Path]) -> list[list[str | int]]:
    """Tell files apart from what they were: little text by its content, much by what the file system says.

    Size and time of writing do not tell: copying and unpacking set the time. That of the change of the
    inode cannot be set.
    """
    known = [(file, file.stat()) for file in files if file.is_file()]
    states = [(file, (of.st_size, of.st_mtime_ns, of.st_ctime_ns, of.st_ino)) for file, of in known]
    if sum(size for _, (size, *_) in states) <= HASHED_BYTES:
        return [[file.name, _content(file, *state)] for file, state in states]
    return [[file.name, *state] for file, state in states]


@lru_cache(maxsize=1 << 14)
def _content(file: Path, *_: int) -> str:
    return hash_file(file)


def _is_data_set(folder: Path) -> bool:
    """Whether a folder says itself what its files are: written by `datasets`, or a copy from the Hub."""
    if any((folder / name).is_file() for name in ("dataset_dict.json", "state.json", "dataset_infos.json")):
        return True
    card = folder / REPOCARD_NAME
    if not card.is_file():
        return False
    with card.open(encoding="utf-8", errors="replace") as file:
        front = file.read(1 << 16)
    return front.startswith("---") and re.search(r"(?m)^(configs|dataset_info):", front) is not None


def _collected(
    domain: Domain,
    by_split: dict[str, list[str]],
    kind: Kind | None,
    start: Path | None,
    folder: Path | None = None,
) -> Found:
    """Expand patterns, each file once.

    Raises:
        DataError: None matches.
    """
    place = folder or start or Path()
    files: dict[str, dict[str | tuple[int, int], SourceFile]] = {}
    unmatched, left_out = [], Counter[str]()
    num_twice = num_links = 0
    for split, name in ((split, name) for split, names in by_split.items() for name in names):
        known = files.setdefault(split, {})
        if "://" in name:
            known[name] = SourceFile(name, kind or KINDS.get(plain_name(name).suffix, "json"))
            continue
        paths, base = matches(name, place), head(name, place)
        unmatched += [] if paths else [name]
        for path in paths:
            own = kind_of(path)
            by_name = kind is None or (place / name).is_dir()
            if by_name and (own is None or kind not in (None, own)):
                left_out[end_of(path)] += 1
            elif (itself := ((status := path.stat()).st_dev, status.st_ino)) in known:
                num_twice += 1
            else:
                known[itself] = SourceFile(str(path), kind or own or "text")
                num_links += path.resolve() != base.resolve() / path.relative_to(base)
    splits = {split: tuple(known.values()) for split, known in files.items() if split and known}
    for file in files.get("", {}).values():
        split = _split_of(file, list(files[""].values()), domain, place)
        splits[split] = (*splits.get(split, ()), file)
    found = Found(splits, start, tuple(unmatched), num_twice, num_links, tuple(left_out.most_common()))
    if not splits and not any(end in _TABLES for end in left_out):
        raise _nothing_found(domain, by_split, found)
    return found


def _split_of(file: SourceFile, files: Sequence[SourceFile], domain: Domain, place: Path) -> str:
    """The split that the name of a file of a folder says, where that is meant; else it is trained on.

    A table's name says it where another's says `train`; a text's only where the recipe asks for the split:
    "testing.md" is a page of a manual.
    """
    wanted = [name for name in (domain.split, domain.validation_split) if name and name != "train"]
    names = {**{name: (name,) for name in wanted}, **_SPLITS}
    split = _named(file, names, place)
    if split in wanted:
        return split
    if file.kind != "text" and any(_named(other, _SPLITS, place) == "train" for other in files):
        return split or "train"
    return "train"


def _named(file: SourceFile, splits: dict[str, tuple[str, ...]], place: Path) -> str:
    name = os.path.relpath(file.address, place)
    for split, words in splits.items():
        if re.search(rf"(?i)(^|[-._ 0-9/])({'|'.join(map(re.escape, words))})([-._ 0-9/]|$)", name):
            return split
    return ""


def _nothing_found(domain: Domain, by_split: dict[str, list[str]], found: Found) -> DataError:
    named = ", ".join(repr(name) for names in by_split.values() for name in names)
    if domain.path not in WORDS and domain.data_files is None:
        named = repr(domain.path)
    if found.left_out:
        ends = ", ".join(f"{count} {end}" for end, count in found.left_out[:5])
        return DataError(
            f"{named} holds no file of a kind that is read ({ends}).",
            f"these are: {' '.join(KINDS)}, as they are or compressed; "
            "`path: text` and `data_files: FOLDER/**/*` read any file as text",
        )
    hint = _where_paths_start(domain)
    if meant := [close for names in by_split.values() for name in names if (close := _closest(name, found))]:
        hint = f"did you mean {meant[0]!r}? {hint[0].upper()}{hint[1:]}"
    return DataError(f"no file matches {named}.", hint)


def words_for(file: str) -> str:
    """What to write for a file that stands where a folder or a builder belongs."""
    kinds = {".parquet": "parquet", ".csv": "csv", ".json": "json", ".jsonl": "json"}
    return f"write `path: {kinds.get(Path(file).suffix, 'text')}` and `data_files: {file}`"


def _closest(pattern: str, found: Found) -> str | None:
    """What a pattern may have meant, by the names in the folder where it ceases to match."""
    if "://" in pattern:
        return None
    folder = head(pattern, found.start or Path())
    if not folder.is_dir():
        return None
    name = Path(pattern).parts[len(folder.parts)] if len(Path(pattern).parts) > len(folder.parts) else ""
    close = difflib.get_close_matches(name, [place.name for place in folder.iterdir()], n=1)
    return str(folder / close[0]) if close else None


def _where_paths_start(domain: Domain) -> str:
    there = f"relative paths start at the working directory, {Path.cwd()}"
    if domain.folder is None or domain.folder.resolve() == Path.cwd():
        return there
    return f"{there}, or else at the recipe's folder, {domain.folder.resolve()}"
