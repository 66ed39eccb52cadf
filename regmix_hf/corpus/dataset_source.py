"""Sources that `datasets` reads, or whose files it must find: the Hub, what it saved, CSV."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Generator, Iterator
from functools import cached_property
from glob import escape
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets.packaged_modules.json.json import Json
from datasets.packaged_modules.parquet.parquet import Parquet

from regmix_hf.corpus.columns import root_columns, texts
from regmix_hf.corpus.encode import Piece, pieces
from regmix_hf.corpus.faults import explained
from regmix_hf.corpus.file_source import FileSource
from regmix_hf.corpus.local_files import (
    Found,
    Kind,
    SourceFile,
    end_of,
    folder_of,
    local_files,
    patterns_of,
    stamps,
    start_of,
)
from regmix_hf.corpus.patient_file import OPENING, tried
from regmix_hf.corpus.patterns import files_below, matches
from regmix_hf.corpus.source import Source, identity_of
from regmix_hf.corpus.tables import TABLE_ENDS, header
from regmix_hf.errors import DataError
from regmix_hf.recipe import Domain

#: Rows taken from a data set at once.
_ROWS = 256


def open_data_set(name: str, domain: Domain, split: str) -> Source:
    """Open a split of which `datasets` says where it is.

    Code that comes with a data set is never run. JSON and Parquet files are read here, row by row; what is
    not streamed is downloaded first. Of what lies on this machine nothing is taken from a cache.

    Raises:
        DataError: There is no such source.
    """
    with explained(name, domain):
        _, folder = folder_of(domain)
        if folder is not None and _is_saved(folder):
            return _DataSetSource(name, domain, split, _saved(name, folder, split), local_files(domain))
        builder = tried(lambda: _builder(domain), OPENING)
        files = {
            str(split): [str(file) for file in names]
            for split, names in (builder.config.data_files or {}).items()
        }
        if (kind := _kind(builder, files.get(split, []))) is not None:
            return _file_source(name, domain, split, files, kind)
        addresses = [file for names in files.values() for file in names]
        paths = [Path(file) for file in addresses if "://" not in file]
        if domain.streaming or paths:
            data: Any = builder.as_streaming_dataset(split=split)
        else:
            builder.download_and_prepare()
            data = builder.as_dataset(split=split)
        known = None if paths else addresses
        splits = builder.info.splits or {}
        num_rows = splits[split].num_examples if split in splits else None
        source = _DataSetSource(name, domain, split, data, paths, known, num_rows)
        if paths:
            source.read_files = _read_files(folder, paths), len(files.get(split, paths))
        return source


def _file_source(name: str, domain: Domain, split: str, files: dict[str, list[str]], kind: Kind) -> Source:
    known = [file for names in files.values() for file in names]
    if not domain.streaming and any("://" in file for file in files[split]):
        download = datasets.DownloadManager(download_config=datasets.DownloadConfig())
        files = {**files, split: download.download(files[split])}
    splits = {other: tuple(SourceFile(file, kind) for file in names) for other, names in files.items()}
    return FileSource(name, domain, split, Found(splits), known if any("://" in f for f in known) else None)


def _read_files(folder: Path | None, paths: list[Path]) -> Found:
    """Count what lies beside local files and is not read, by the ends of names."""
    beside = files_below(folder) if folder is not None else []
    read = {path.resolve() for path in paths}
    others = Counter(end_of(path) for path in beside if path.resolve() not in read)
    return Found({}, left_out=tuple(others.most_common()))


class _DataSetSource:
    """A split that `datasets` reads."""

    def __init__(
        self,
        name: str,
        domain: Domain,
        split: str,
        data: datasets.Dataset | datasets.IterableDataset,
        paths: list[Path],
        addresses: list[str] | None = None,
        num_rows: int | None = None,
    ):
        self._name, self._domain, self._split, self._data = name, domain, split, data
        self._paths, self._addresses, self._num_rows = paths, addresses, num_rows
        self._place = f"domain {name!r}, split {split!r}"
        self.read_files: tuple[Found, int] | None = None

    @cached_property
    def identity(self) -> Any:
        """The recipe's words, the revision of files on the Hub, the content of local ones."""
        files: list[Any] = stamps(self._paths)
        return {
            **identity_of(self._domain, self._split),
            "files": [[file] for file in self._addresses] if self._addresses is not None else files,
        }

    @property
    def num_rows(self) -> int | None:
        """Rows, where the data set says."""
        return self._data.num_rows if isinstance(self._data, datasets.Dataset) else self._num_rows

    def pieces(self, position: Any) -> Generator[Piece]:
        """The documents after `position`: a row number, or the state of an iterable."""
        with explained(self._name, self._domain, self._paths):
            if isinstance(self._data, datasets.Dataset):
                yield from self._rows(self._data, position or 0)
            else:
                yield from self._stream(self._data, position)

    def _rows(self, data: datasets.Dataset, start: int) -> Iterator[Piece]:
        if start >= data.num_rows:
            return
        for table in self._arrow(data).select(range(start, data.num_rows)).iter(batch_size=_ROWS):
            start += table.num_rows
            yield from self._pieces(table, start, start - table.num_rows)

    def _stream(self, data: datasets.IterableDataset, position: Any) -> Iterator[Piece]:
        data = self._arrow(data)
        if position is not None:
            data.load_state_dict(position)
        tables = data.iter(batch_size=_ROWS)
        try:
            for table in tables:
                yield from self._pieces(table, data.state_dict())
        finally:
            tables.close()
            # Reads under way when a process ends abort it (apache/arrow issue 45214): drop them now, which
            # makes that rare. A process that goes on for a while, as `prepare` does, is never met by it.
            gc.collect()

    def _pieces(self, table: pa.Table, position: Any, first: int | None = None) -> Iterator[Piece]:
        place = self._place if first is None else f"{self._place}, rows from {first + 1:,} on"
        found, left_out = texts(table, self._domain.text_column, self._domain.filter, place)
        yield from pieces(found, table.num_rows, position, 0, left_out)

    def _arrow(self, data: Any) -> Any:
        """Read only the columns that are needed, as Arrow tables."""
        if data.features is not None:
            needed = root_columns([self._domain.text_column, *self._domain.filter], list(data.features))
            data = data.select_columns(needed) if needed else data
        return data.with_format("arrow")


def _builder(domain: Domain) -> datasets.DatasetBuilder:
    _, folder = folder_of(domain)
    words: dict[str, Any] = {"data_files": domain.data_files, "data_dir": domain.data_dir}
    if domain.data_files is not None:
        start = folder or start_of(domain) or Path()
        words["data_files"] = {
            split or "train": [found for name in names for found in _escaped(name, start)]
            for split, names in patterns_of(domain).items()
        }
    if domain.path == "csv" or any(path.suffix in TABLE_ENDS for path in local_files(domain)[:1]):
        words |= _table_words(domain)
    path = domain.path if folder is None else str(folder)
    return datasets.load_dataset_builder(path, name=domain.name, revision=domain.revision, **words)


def _escaped(pattern: str, start: Path) -> list[str]:
    """The files of a local pattern, by names that `datasets` takes for nothing else."""
    if "://" in pattern:
        return [pattern]
    return [escape(str(path)) for path in matches(pattern, start)] or [pattern]


def _table_words(domain: Domain) -> dict[str, Any]:
    """How a table of text is read: what stands between its columns, and that "NA" and "null" are text."""
    words: dict[str, Any] = {"keep_default_na": False, "na_values": [""]}
    files = [path for path in local_files(domain) if path.suffix in (*TABLE_ENDS, ".txt")]
    if files:
        words["sep"], _ = header(files[0], domain.text_column)
        words["converters"] = {domain.text_column: str}
    return words


def _kind(builder: datasets.DatasetBuilder, files: list[str]) -> Kind | None:
    """What files hold, where `datasets` adds nothing to what lies in their rows."""
    if not files or any("::" in file for file in files):
        return None
    if isinstance(builder, Json) and builder.config.field is None:
        return "json"
    return "parquet" if isinstance(builder, Parquet) else None


def _is_saved(path: Path) -> bool:
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def _saved(name: str, folder: Path, split: str) -> datasets.Dataset:
    data = datasets.load_from_disk(str(folder))
    if isinstance(data, datasets.Dataset):
        return data
    if split not in data:
        raise DataError(
            f"domain {name!r}, split {split!r}: {str(folder)!r} has no such split; it has {', '.join(data)}."
        )
    return data[split]
