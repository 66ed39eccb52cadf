"""Text files of this Python environment, in an order that is the same every time and favours no package."""

from __future__ import annotations

import hashlib
import os
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path

#: Folders that are never entered: caches, tests (data more than text), packages inside the standard library,
#: and the text of `language_reference`, which would else be trained on where it is validated on.
_SKIPPED_FOLDERS = {
    *("__pycache__", "test", "tests", "site-packages", "dist-packages", "node_modules", ".git"),
    "pydoc_data",
}
#: This package itself, and its metadata: a corpus must not change with the code that reads it.
_OWN = "regmix_hf"


def standard_library() -> tuple[Path, ...]:
    """The folder of the standard library."""
    return _folders("stdlib")


def installed_packages() -> tuple[Path, ...]:
    """The folders that hold installed packages."""
    return _folders("purelib", "platlib")


def everything() -> tuple[Path, ...]:
    """All folders of the environment: packages, standard library, C headers of Python."""
    return _folders("purelib", "platlib", "stdlib", "include", "platinclude")


def texts(folders: tuple[Path, ...], *suffixes: str) -> Iterator[str]:
    """Contents of the files with one of `suffixes`; files that are not UTF-8, or binary, are left out.

    The order is that of a hash of each file's path below its folder: any beginning of it is spread evenly
    over all packages, and a package more or less moves no other file.
    """
    yield from contents(path for path in paths(folders) if path.name.endswith(suffixes))


@cache
def paths(folders: tuple[Path, ...]) -> tuple[Path, ...]:
    """All regular files below `folders`, in the order of `texts`; looked for once a process."""
    found: dict[str, bytes] = {}
    for folder in folders:
        for path in _walk(folder):
            relative = path.removeprefix(f"{folder}{os.sep}")
            found.setdefault(path, hashlib.blake2b(relative.encode("utf-8", "surrogateescape")).digest())
    return tuple(path for _, path in sorted((digest, Path(path)) for path, digest in found.items()))


def contents(files: Iterator[Path]) -> Iterator[str]:
    """Contents of `files`; those that are not UTF-8, or binary, are left out."""
    for file in files:
        data = file.read_bytes()
        if b"\0" in data:
            continue
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            continue
        yield text.replace("\r\n", "\n")


def _folders(*names: str) -> tuple[Path, ...]:
    folders = (Path(os.path.realpath(path)) for name in names if (path := sysconfig.get_path(name)))
    return tuple(dict.fromkeys(folder for folder in folders if folder.is_dir()))


@cache
def _walk(folder: Path) -> tuple[str, ...]:
    """Files below `folder`. A link to a folder is not followed, one to a file only within the environment."""
    roots = everything()
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED_FOLDERS and not _is_own(name))
        for name in sorted(files):
            path = f"{parent}{os.sep}{name}"  # a path object for each file takes several times as long
            if os.path.islink(path) and not _inside(path, roots):  # noqa: PTH114
                continue
            if not _is_own(name):
                found.append(path)
    return tuple(found)


def _is_own(name: str) -> bool:
    return name == _OWN or name.startswith((f"{_OWN}-", f"_editable_impl_{_OWN}", f"__editable__.{_OWN}"))


def _inside(path: str, roots: tuple[Path, ...]) -> bool:
    real = Path(os.path.realpath(path))
    return real.is_file() and any(real.is_relative_to(root) for root in roots)
