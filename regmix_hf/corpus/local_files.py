"""The local files a corpus is made of, told apart from what they were before without reading them."""

from __future__ import annotations

from collections.abc import Iterator
from glob import glob
from pathlib import Path

from regmix_hf.corpus.source import PYTHON_ENVIRONMENT
from regmix_hf.files import hash_value
from regmix_hf.recipe import Domain, Recipe


def stamp_local_files(recipe: Recipe) -> dict[str, str]:
    """Hash names, sizes and times of the local files behind every domain and the tokenizer.

    What comes from the Hub is pinned by its revision, and the Python environment is taken as it was when it
    was read: neither is looked at.

    Returns:
        `text of <domain>` and `files of the tokenizer` -> hash, for those that have local files.
    """
    found = {f"text of {name}": sorted(set(_files(domain))) for name, domain in recipe.domains.items()}
    if isinstance(recipe.tokenizer, str) and Path(recipe.tokenizer).is_dir():
        found["files of the tokenizer"] = sorted(Path(recipe.tokenizer).iterdir())
    return {name: hash_value([_stamp(file) for file in files]) for name, files in found.items() if files}


def local_domains(recipe: Recipe) -> set[str]:
    """Name the domains whose text is on this machine: local files, a folder, or the Python environment."""
    return {
        name
        for name, domain in recipe.domains.items()
        if domain.path == PYTHON_ENVIRONMENT or any(True for _ in _files(domain))
    }


def _files(domain: Domain) -> Iterator[Path]:
    folder = Path(domain.path)
    if domain.data_files is None:
        patterns = [str(folder / "**")] if folder.is_dir() else []
    else:
        patterns = list(_patterns(domain.data_files))
    for pattern in patterns:
        for start in {"", str(folder)} if folder.is_dir() else {""}:
            places = glob(str(Path(start) / pattern), recursive=True)  # noqa: PTH207 - absolute ones too
            yield from (Path(place) for place in places if Path(place).is_file())


def _patterns(data_files: str | list[str] | dict[str, str | list[str]]) -> Iterator[str]:
    if isinstance(data_files, str):
        yield data_files
    else:
        for part in data_files.values() if isinstance(data_files, dict) else data_files:
            yield from _patterns(part)


def _stamp(file: Path) -> list[str | int]:
    status = file.stat()
    return [str(file), status.st_size, status.st_mtime_ns]
