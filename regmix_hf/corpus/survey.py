"""A look at the text of a recipe before anything is read: what is there, what is not, what looks wrong."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from regmix_hf.corpus.columns import known_columns
from regmix_hf.corpus.compressed import is_compressed
from regmix_hf.corpus.local_files import (
    WORDS,
    Found,
    SourceFile,
    find_files,
    folder_of,
    local_files,
    patterns_of,
    words_for,
)
from regmix_hf.corpus.read_facts import size_of
from regmix_hf.corpus.tables import TABLE_ENDS, header
from regmix_hf.errors import DataError, did_you_mean
from regmix_hf.readable import count_of
from regmix_hf.recipe import Domain, Recipe
from regmix_hf.recipe.schema import PYTHON_ENVIRONMENT

#: A text file up to which it is read to see whether it is text, in bytes.
_LOOKED_AT_BYTES = 1 << 26
#: How long the Hub is waited for, seconds.
_HUB_S = 5.0


def survey(recipe: Recipe) -> Iterator[str]:
    """Look at the text of every domain without reading it all; yield what is there, a line each.

    Local files are counted and sized, and the first rows of one of each split are read. The Hub is asked
    whether it has what is named, unless `HF_HUB_OFFLINE` is set.

    Raises:
        DataError: Of a domain there is nothing, or its first rows cannot be used.
    """
    known = dict(_found(recipe))
    for name, domain in recipe.domains.items():
        if (found := known.get(name)) is None:
            yield f"{name}: {_elsewhere(name, domain)}"
        else:
            yield f"{name}: {_what_is_there(domain, found)}"
            _look_at_rows(name, domain, found)
    yield from _used_twice(recipe, known)


def local_text(recipe: Recipe) -> Iterator[str]:
    """What is there of the text of every domain whose files are found here; yield a line each.

    Raises:
        DataError: Of a domain there is nothing.
    """
    known = dict(_found(recipe))
    for name, found in known.items():
        yield f"{name}: {_what_is_there(recipe.domains[name], found)}"
    yield from _used_twice(recipe, known)


def _found(recipe: Recipe) -> Iterator[tuple[str, Found]]:
    for name, domain in recipe.domains.items():
        try:
            found = None if domain.path == PYTHON_ENVIRONMENT else find_files(domain)
        except DataError as error:
            raise DataError(f"domain {name!r}: {error.message}", error.hint) from None
        if found is not None:
            yield name, found


def _what_is_there(domain: Domain, found: Found) -> str:
    """Files and bytes of a domain in one line, with what is odd about them."""
    addresses = [file for file in found.files if file.path is None]
    parts = [_sized(found.paths)] if found.paths else []
    if addresses:
        parts.append(f"{count_of(len(addresses), 'remote file')}, not looked at")
    read = {domain.split, domain.validation_split}
    for split, files in found.splits.items():
        if split not in read:
            parts.append(f"{count_of(len(files), 'file')} of the split {split!r}, which is not read")
    if found.start is not None:
        parts.append(f"paths start at the recipe's folder {str(found.start)!r}")
    if found.num_links:
        parts.append(f"{found.num_links:,} through links")
    if found.num_twice:
        parts.append(f"{count_of(found.num_twice, 'name')} more of the same files, each read once")
    if found.unmatched:
        parts.append(f"nothing matches {', '.join(map(repr, found.unmatched))}")
    if found.left_out:
        ends = ", ".join(f"{count:,} {end}" for end, count in found.left_out[:4])
        more = ", ..." if len(found.left_out) > 4 else ""
        parts.append(f"left out, of kinds that are not read here: {ends}{more}")
    return "; ".join(parts)


def _sized(files: Iterable[Path]) -> str:
    """How many files there are, and how large: where they are compressed they hold more text than that."""
    sizes = {file: file.stat().st_size for file in files}
    total = sum(sizes.values())
    packed = sum(
        size for file, size in sizes.items() if is_compressed(file.name) or file.suffix == ".parquet"
    )
    said = f"{count_of(len(sizes), 'file')}, {size_of(total)}"
    if packed < total:
        return f"{said}, {size_of(packed)} of it compressed" if packed else said
    return f"{said} compressed" if packed else said


def _used_twice(recipe: Recipe, known: dict[str, Found]) -> Iterator[str]:
    uses: dict[str, list[str]] = {}
    for name, found in known.items():
        domain = recipe.domains[name]
        for path in found.paths:
            status = path.stat()  # links of both kinds lead to one file
            words = [status.st_dev, status.st_ino, domain.text_column, domain.filter]
            uses.setdefault(json.dumps(words, sort_keys=True), []).append(name)
    together: dict[tuple[str, ...], int] = {}
    for those in uses.values():
        if len(those) > 1:
            together[tuple(those)] = together.get(tuple(those), 0) + 1
    for names, number in together.items():
        yield f"the domains {', '.join(names)} are made of the same rows of {count_of(number, 'file')}"


def _look_at_rows(name: str, domain: Domain, found: Found) -> None:
    """Read the first rows of one file of each split that is used.

    Raises:
        DataError: There is no such split, it has no such columns, or the rows cannot be read.
    """
    from regmix_hf.corpus.file_source import FileSource

    for split in dict.fromkeys((domain.split, domain.validation_split or domain.split)):
        if split not in found.splits:
            there = f"there is {sorted(found.splits)}"
            raise DataError(f"domain {name!r}: there is no split {split!r}; {there}.")
        first = next((file for file in found.splits[split] if file.path is not None), None)
        if first is None or (first.kind == "text" and _size(first) > _LOOKED_AT_BYTES):
            continue
        alone = Found({split: (first,)})
        if _is_one_document(domain, found):
            raise DataError(
                f"domain {name!r} is one document, {first.address}: held out, it leaves nothing to train on.",
                "write `sample_by: paragraph`, give it more files, or make it `validation_only`",
            )
        FileSource(name, domain, split, alone).check_first_rows()


def _is_one_document(domain: Domain, found: Found) -> bool:
    """Whether a domain that is trained on and gives its own validation text has one document."""
    files = found.splits[domain.split]
    is_carved = not domain.validation_only and domain.validation_split is None
    return is_carved and len(files) == 1 and files[0].kind == "text" and domain.sample_by == "document"


def _size(file: SourceFile) -> int:
    return 0 if file.path is None else file.path.stat().st_size


def _elsewhere(name: str, domain: Domain) -> str:
    """What can be said of text that others read.

    Raises:
        DataError: There is no such kind of text, builder, folder, file or repository.
    """
    if domain.path == PYTHON_ENVIRONMENT:
        from regmix_hf.corpus.environment.kinds import kind_of

        return f"{kind_of(name, domain)} of this Python environment"
    builders = _builders()
    files = local_files(domain)
    if folder_of(domain)[1] is not None or (domain.path in builders and files):
        _check_table(name, domain, files)
        return f"{_sized(files)}, read by `datasets`"
    names = [file for patterns in patterns_of(domain).values() for file in patterns]
    if domain.path in builders:
        if not names and domain.data_dir is None:
            raise DataError(f"domain {name!r}: path {domain.path!r} needs `data_files`.")
        if names and not any("://" in file for file in names):
            raise DataError(
                f"domain {name!r}: no file matches {', '.join(map(repr, names))}.",
                f"relative paths start at the working directory, {Path.cwd()}",
            )
        return "addresses, not looked at"
    return _on_the_hub(name, domain, builders)


def _builders() -> list[str]:
    """The builders of `datasets`, by the names of their folders: importing it takes seconds."""
    spec = importlib.util.find_spec("datasets")
    places = (spec.submodule_search_locations if spec else None) or []
    found: list[str] = []
    for place in places:
        found += [path.name for path in Path(place, "packaged_modules").iterdir() if path.is_dir()]
    return sorted(name for name in found if not name.startswith("_"))


def _check_table(name: str, domain: Domain, files: Iterable[Path]) -> None:
    """Check the columns of a table of text, or of what `datasets` saved, by what it says of itself."""
    columns: list[str] | None = None
    for file in files:
        if file.suffix in TABLE_ENDS:
            columns = header(file, domain.text_column)[1]
        elif file.name == "dataset_info.json":
            features: Any = json.loads(file.read_text(encoding="utf-8")).get("features") or {}
            columns = list(features) or None
        if columns is not None:
            break
    for column in (domain.text_column, *domain.filter):
        if columns is not None and column not in columns and column.split(".")[0] not in columns:
            raise DataError(
                f"domain {name!r}: there is no column {column!r}.", known_columns(column, columns)
            )


def _on_the_hub(name: str, domain: Domain, builders: list[str]) -> str:
    known = [*builders, *WORDS, PYTHON_ENVIRONMENT]
    beside = _beside(domain)
    closest = did_you_mean(domain.path, dict.fromkeys([*known, *beside]))
    hint = closest if closest.startswith("did you mean") else "a path is a folder, a builder or a Hub id"
    path = Path(domain.path)
    if path.is_file():
        raise DataError(f"domain {name!r}: {domain.path!r} is a file.", words_for(domain.path))
    is_id = domain.path.count("/") <= 1 and not domain.path.startswith((".", "/", "~"))
    if not is_id or "://" in domain.path or (path.suffix and "/" not in domain.path):
        raise DataError(f"domain {name!r}: there is no folder {domain.path!r}.", hint)
    if any(letter in domain.path for letter in "*?["):
        raise DataError(
            f"domain {name!r}: there is no folder {domain.path!r}.",
            f"patterns stand in `data_files`: `path: text` and `data_files: {domain.path}`",
        )
    if "/" not in domain.path and closest.startswith("did you mean"):
        raise DataError(f"domain {name!r}: {domain.path!r} is no builder or folder.", hint)
    return _ask_hub(name, domain, hint)


def _ask_hub(name: str, domain: Domain, hint: str) -> str:
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    where = f"{domain.path} on the Hub"
    or_folder = f"; {hint}" if hint.startswith("did you mean") else ""
    if constants.is_offline_mode():
        return f"{where}, unchecked: HF_HUB_OFFLINE is set{or_folder}"
    try:
        HfApi().dataset_info(domain.path, revision=domain.revision, timeout=_HUB_S)
    except GatedRepoError:
        raise DataError(
            f"domain {name!r}: {where} is open only to those it lets in.",
            f"accept its terms at {constants.ENDPOINT}/datasets/{domain.path}, then `hf auth login`",
        ) from None
    except RevisionNotFoundError:
        raise DataError(f"domain {name!r}: {where} has no revision {domain.revision!r}.") from None
    except RepositoryNotFoundError:
        raise DataError(
            f"domain {name!r}: there is no folder and no data set {domain.path!r}, or it is private.", hint
        ) from None
    except Exception as error:  # whatever the way to the Hub raises: the check is left out, and that is said
        return f"{where}, unchecked: the Hub does not answer ({type(error).__name__}){or_folder}"
    return where


def _beside(domain: Domain) -> list[str]:
    """Folders that a path may have meant: those where it should be."""
    starts = [Path(), *([domain.folder] if domain.folder is not None else [])]
    parent = Path(domain.path).parent
    return [
        str(parent / place.name)
        for start in starts
        if (start / parent).is_dir()
        for place in sorted((start / parent).iterdir())
        if place.is_dir()
    ]
