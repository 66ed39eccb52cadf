"""Files that are either whole or absent, and names for their contents."""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from regmix_hf.errors import StudyError
from regmix_hf.tables import Columns

T = TypeVar("T")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well it takes `path`'s place in one step.

    A process that dies inside the block leaves `path` as it was. What it leaves beside it starts with
    a dot and ends in `.tmp`, and nothing ever reads it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, keys in their order, infinities and NaN refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        StudyError: It is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, f"cannot be read as JSON: {_first_line(error)}") from error


def read_record(path: Path, **kinds: type) -> dict[str, Any]:
    """Read a JSON file that holds an object with these keys, and values of these types.

    Raises:
        StudyError: It is damaged, or something else.
    """
    tree = read_json(path)
    if not isinstance(tree, dict):
        raise damaged(path, f"holds a {type(tree).__name__} in the place of an object")
    for key, kind in kinds.items():
        if not isinstance(tree.get(key), kind):
            raise damaged(path, f"holds {str(tree.get(key))[:50]!r} in the place of {key!r}")
    return tree


def read_as(path: Path, type_: type[T]) -> T:
    """Read a JSON file that holds what can be made into a type that pydantic knows, a dataclass, say.

    Raises:
        StudyError: It is damaged, or something else.
    """
    try:
        return TypeAdapter(type_).validate_python(read_json(path))
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        where = ".".join(map(str, detail["loc"])) or "all of it"
        raise damaged(path, f"holds nothing that makes sense: {where}: {detail['msg']}") from None


def parse_yaml(text: str) -> Any:
    """Read YAML 1.2, in which `4e-4` is a number and `no` is a word.

    A parser in Python takes some 30 ms for a recipe, which is read again and again: what was parsed a moment
    ago is copied.

    Raises:
        YAMLError: It is none.
        RecursionError: It is nested too deeply.
    """
    return copy.deepcopy(_parsed(text))


@functools.lru_cache(maxsize=64)
def _parsed(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def read_yaml(path: Path) -> Any:
    """Read a YAML file that was written here.

    Raises:
        StudyError: It is damaged.
    """
    try:
        return parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, YAMLError, RecursionError) as error:
        raise damaged(path, f"cannot be read as YAML: {_first_line(error)}") from error


def damaged(path: Path, what: str) -> StudyError:
    """The error that says so, and what to do: whatever wrote a file writes it again when it is gone."""
    return StudyError(
        f"{path} {what}.",
        "remove it and run the stage that wrote it again, or put back the file that was there",
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def write_parquet(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as Parquet atomically, without its index."""
    with atomic_path(path) as temporary:
        frame.to_parquet(temporary, index=False)


def read_parquet(path: Path, columns: Columns | None = None) -> pd.DataFrame:
    """Read a Parquet table that has to have these columns.

    Raises:
        StudyError: It is damaged, or another table.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Tables are small: threads, and a data set of one file as pandas makes it, take longer than reading.
        with pq.ParquetFile(path) as file:
            table = file.read(use_threads=False).to_pandas(use_threads=False)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise damaged(path, f"cannot be read as Parquet: {_first_line(error)}") from error
    if columns is not None and (fault := columns.fault(table)):
        raise damaged(path, fault)
    return table


def hash_value(value: Any) -> str:
    """SHA-256 of a JSON-like value, the same for equal values whatever the order of their keys.

    Raises:
        TypeError: A part of it is no text, number, list or map, so nothing says when two of it are equal.
        ValueError: A number is infinite or NaN.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
