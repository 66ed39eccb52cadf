"""Say what is wrong with a source, where `datasets` says it in its own words: file, line, what to do."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets.exceptions import DatasetsError
from datasets.table import CastError

from regmix_hf.errors import DataError
from regmix_hf.recipe import Domain

_READ_ERRORS = (OSError, ValueError, pa.ArrowException, DatasetsError, StopIteration)
#: Libraries below `datasets` whose errors, where the network fails, share no base class.
_HTTP_LIBRARIES = {"httpx", "httpx2", "aiohttp"}
#: Compressed files in which no line is looked for.
_UNREAD_COMPRESSIONS = {".zst", ".bz2", ".xz", ".lz4", ".zip"}


@contextmanager
def explained(name: str, domain: Domain, files: Callable[[], list[Path]]) -> Iterator[None]:
    """Turn what reading a source raises, when the source or the way to it is at fault, into one message.

    Args:
        name: The domain's name.
        domain: Its part of the recipe.
        files: Returns its local files; they are read again to find the line at fault.

    Raises:
        DataError: Instead of the error of a library.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, _READ_ERRORS) and not _is_of_network(error):
            raise
        raise _explain(error, name, domain, files()) from error


def _is_of_network(error: BaseException) -> bool:
    libraries = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return isinstance(error, ConnectionError) or not libraries.isdisjoint(_HTTP_LIBRARIES)


def _explain(error: Exception, name: str, domain: Domain, files: list[Path]) -> DataError:
    place = f"domain {name!r}"
    reasons = _reasons(error)
    if any(isinstance(reason, CastError) for reason in reasons):
        return DataError(
            f"{place}: not all of its rows have the same columns.",
            "give every row the same columns, or convert the files to Parquet",
        )
    if any(isinstance(reason, ValueError) for reason in reasons):  # no UTF-8, no JSON, no Parquet
        for file in files:
            if fault := _fault(file):
                return DataError(f"{place}: {fault}")
    if any(isinstance(reason, StopIteration) for reason in reasons):
        if not files:
            return DataError(f"{place}: no file is where it should be.", _where_files_go(domain))
        return DataError(f"{place}: {', '.join(map(str, files[:3]))} holds no row.")
    for reason in reasons:
        if isinstance(reason, FileNotFoundError):
            return DataError(f"{place}: {_first_line(reason)}", _where_files_go(domain))
        if _is_of_network(reason):
            return DataError(
                f"{place}: {_first_line(reason)}",
                "check the name and the network (and HF_HUB_OFFLINE), or give local files",
            )
    return DataError(f"{place}: {domain.path!r} cannot be read: {_first_line(reasons[-1])}")


def _reasons(error: BaseException) -> list[BaseException]:
    """The error and what caused it, outermost first."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    return chain


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _where_files_go(domain: Domain) -> str:
    if "://" in str(domain.data_files):
        return "check the address and the network"
    if Path(domain.path).is_file():
        kind = {".parquet": "parquet", ".txt": "text", ".csv": "csv"}.get(Path(domain.path).suffix, "json")
        return f"write `path: {kind}` and `data_files: {domain.path}`"
    return f"relative paths start at the working directory, {Path.cwd()}"


def _fault(file: Path) -> str | None:
    """What is wrong with a file: its first line that is not UTF-8 or, in a JSON file, no JSON."""
    if file.suffix == ".parquet":
        return _parquet_fault(file)
    is_json = ".json" in file.name
    if not is_json and ".txt" not in file.name and ".csv" not in file.name:
        return None
    if file.suffix in _UNREAD_COMPRESSIONS:
        return None
    with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as lines:
        is_array = is_json and lines.read(1) == b"["
        lines.seek(0)
        for number, line in enumerate(lines, start=1):
            try:
                text = line.decode("utf-8").rstrip()
            except UnicodeDecodeError as error:
                byte = line[error.start]
                return f"{file}, line {number} is not UTF-8: byte {error.start + 1} is {byte:#04x}."
            if is_json and not is_array and text and (fault := _json_fault(file, text, number)):
                return fault
        if is_array:
            lines.seek(0)
            return _json_fault(file, lines.read().decode(), 1)
    return None


def _parquet_fault(file: Path) -> str | None:
    try:
        for batch in pq.ParquetFile(file).iter_batches():
            batch.validate(full=True)
    except pa.ArrowInvalid as error:
        return f"{file}: {_first_line(error)}"
    return None


def _json_fault(file: Path, text: str, first_line: int) -> str | None:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        return f"{file}, line {line} is no JSON: {error.msg} at column {error.colno}."
    return None
