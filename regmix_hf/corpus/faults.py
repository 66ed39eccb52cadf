"""Say what is wrong with a source, where a library says it in its own words: file, line, what to do."""

from __future__ import annotations

import csv
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import pyarrow as pa

from regmix_hf.corpus.file_errors import FileError, not_utf8
from regmix_hf.corpus.local_files import words_for
from regmix_hf.errors import DataError, RegmixError
from regmix_hf.recipe import Domain

_READ_ERRORS = (
    *(OSError, ValueError, EOFError, StopIteration, RecursionError, pa.ArrowException),
    *(zlib.error, lzma.LZMAError, csv.Error, zipfile.BadZipFile),
)
#: Libraries whose errors, where the network fails, share no base class.
_HTTP_LIBRARIES = {"httpx", "httpx2", "aiohttp"}
#: Libraries that read; whatever they raise is about what they were given.
_READERS = ("datasets", "pyarrow", "pandas", "fsspec", "huggingface_hub", "webdataset", "tokenizers")


@contextmanager
def explained(name: str, domain: Domain, files: Sequence[Path] = ()) -> Iterator[None]:
    """Turn what reading a source raises, when the source or the way to it is at fault, into one message.

    Args:
        name: The domain's name.
        domain: Its part of the recipe.
        files: Its local files, where a library reads them; they are read again to find the one at fault.

    Raises:
        DataError: Instead of the error of a library.
    """
    try:
        yield
    except FileError as error:
        raise DataError(f"domain {name!r}: {error.message}", error.hint) from error
    except RegmixError:
        raise
    except Exception as error:
        if not isinstance(error, _READ_ERRORS) and not _is_of_network(error) and not _is_of_reader(error):
            raise
        raise _explain(error, name, domain, files) from error


def _is_of_network(error: BaseException) -> bool:
    libraries = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return isinstance(error, ConnectionError) or not libraries.isdisjoint(_HTTP_LIBRARIES)


def _is_of_reader(error: BaseException) -> bool:
    """Whether the error was raised inside a library that reads."""
    if type(error).__module__.partition(".")[0] in _READERS:
        return True
    frame: TracebackType | None = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    module = "" if frame is None else str(frame.tb_frame.f_globals.get("__name__", ""))
    return module.partition(".")[0] in _READERS


def _explain(error: Exception, name: str, domain: Domain, files: Sequence[Path]) -> DataError:
    place = f"domain {name!r}"
    reasons = _reasons(error)
    if any(type(reason).__name__ == "CastError" for reason in reasons):
        return DataError(
            f"{place}: not all of its rows have the same columns.",
            "give every row the same columns, or write the text as JSON lines or Parquet",
        )
    for file in files:
        if fault := _fault(file):
            return DataError(f"{place}: {fault}", "mend or convert it, or leave it out of data_files")
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
    # The last reason is where it began; the first may say more than a bare `KeyError`.
    said = max((_first_line(reason) for reason in reasons[-1:] + reasons[:1]), key=len)
    of = f" (one of {', '.join(map(str, files[:3]))})" if files else ""
    return DataError(
        f"{place}: {domain.path!r} cannot be read: {said}{of}",
        "check that `path` says what the files are; JSON lines, Parquet and text are read most reliably",
    )


def _reasons(error: BaseException) -> list[BaseException]:
    """The error and what caused it, outermost first."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    return chain


def _first_line(error: BaseException) -> str:
    said = (str(error).strip().splitlines() or [""])[0]
    return said if len(said) > 12 else f"{type(error).__name__} {said}".strip()


def _where_files_go(domain: Domain) -> str:
    if "://" in str(domain.data_files):
        return "check the address and the network"
    if Path(domain.path).is_file():
        return words_for(domain.path)
    return f"relative paths start at the working directory, {Path.cwd()}"


def _fault(file: Path) -> str | None:
    """What is wrong with a file of text that a library read: cut off, or not UTF-8 in a line."""
    if ".csv" not in file.name and ".tsv" not in file.name and ".txt" not in file.name:
        return None
    number = 0
    try:
        with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as lines:
            for line in lines:
                number += 1
                line.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"{file}, line {number} {not_utf8(error.start + 1, error.object[error.start])}"
    except (EOFError, OSError, zlib.error) as error:
        return f"{file} is cut off or damaged after line {number}: {_first_line(error)}"
    return None
