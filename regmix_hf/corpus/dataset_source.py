"""Sources that `datasets` reads: Hub, local files, folders it saved."""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets.packaged_modules.json.json import Json
from datasets.packaged_modules.parquet.parquet import Parquet

from regmix_hf.corpus.columns import root_columns, texts
from regmix_hf.corpus.encode import Piece, pieces
from regmix_hf.corpus.faults import explained
from regmix_hf.corpus.json_lines import JsonLines, JsonRows
from regmix_hf.corpus.patient_file import OPENING, tried
from regmix_hf.corpus.row_groups import RowGroups, TableRows
from regmix_hf.corpus.rows import RowTexts
from regmix_hf.errors import DataError
from regmix_hf.recipe import Domain

#: Rows taken from a data set at once.
_ROWS = 256


class DatasetSource:
    """A split that `datasets` reads.

    Relative local paths start at the working directory. Code that comes with a data set is never run.

    Args:
        name: The domain's name.
        domain: Its part of the recipe.
        split: The split's name.

    Raises:
        DataError: There is no such source.
    """

    def __init__(self, name: str, domain: Domain, split: str):
        self._name, self._domain, self._split = name, domain, split
        self._place = f"domain {name!r}, split {split!r}"
        self._files: dict[str, list[str]] = {}
        self._num_rows: int | None = None
        self._row_texts = RowTexts(domain.text_column, domain.filter, self._place)
        with explained(name, domain, self._local_files):
            self._data = self._open()

    @cached_property
    def identity(self) -> Any:
        """The recipe's words, the revision of files on the Hub, the size and time of local ones."""
        keys = ("path", "name", "data_dir", "revision", "streaming", "text_column", "filter")
        words = self._domain.model_dump(mode="json", include=set(keys))
        return {**words, "split": self._split, "files": [_stamp(file) for file in self._all_files]}

    @property
    def num_rows(self) -> int | None:
        """Rows, where the data set says."""
        return self._num_rows

    @property
    def shared_files(self) -> Hashable:
        """The files that are read row by row; `None` where `datasets` reads them."""
        return self._data if isinstance(self._data, JsonLines | RowGroups) else None

    def pieces(self, position: Any) -> Generator[Piece]:
        """The documents after `position`: a row number, a place in files, or the state of an iterable."""
        with explained(self._name, self._domain, self._local_files):
            match self._data:
                case datasets.Dataset():
                    yield from self._rows(self._data, position)
                case JsonLines() | RowGroups():
                    yield from self._picked([self], [position], lambda number: True)
                case _:
                    yield from self._stream(position)

    def pieces_of_all(
        self, sources: Sequence[DatasetSource], positions: Sequence[Any], is_open: Callable[[int], bool]
    ) -> Generator[Piece]:
        """The documents of several sources that share these files, every row read once."""
        with explained(self._name, self._domain, self._local_files):
            yield from self._picked(sources, positions, is_open)

    def _picked(
        self, sources: Sequence[DatasetSource], positions: Sequence[Any], is_open: Callable[[int], bool]
    ) -> Iterator[Piece]:
        columns = {
            name for source in sources for name in (source._domain.text_column, *source._domain.filter)
        }
        with closing(self._batches(_earliest(positions), sorted(columns))) as batches:
            for batch in batches:
                for number, source in enumerate(sources):
                    if is_open(number) and (part := batch.after(positions[number])).num_rows:
                        yield from pieces(source._picked_texts(part), part.num_rows, batch.position, number)

    def _batches(self, position: Any, columns: Sequence[str]) -> Generator[JsonRows] | Generator[TableRows]:
        if isinstance(self._data, JsonLines):
            return self._data.batches(position)
        return self._data.batches(position, columns)

    def _picked_texts(self, part: JsonRows | TableRows) -> list[str]:
        if isinstance(part, TableRows):
            return self._texts(part.table)
        if part.start == 0:
            self._row_texts.check_columns([row for row in part.rows if isinstance(row, dict)])
        return [text for row in part.rows if (text := self._row_texts.of(row)) is not None]

    def _rows(self, data: datasets.Dataset, position: int | None) -> Iterator[Piece]:
        start = position or 0
        if start >= data.num_rows:
            return
        data = self._arrow(data).select(range(start, data.num_rows))
        for table in data.iter(batch_size=_ROWS):
            start += table.num_rows
            yield from pieces(self._texts(table), table.num_rows, start)

    def _stream(self, position: Any) -> Iterator[Piece]:
        data = self._arrow(self._data)
        if position is not None:
            data.load_state_dict(position)
        tables = data.iter(batch_size=_ROWS)
        try:
            for table in tables:
                yield from pieces(self._texts(table), table.num_rows, data.state_dict())
        finally:
            tables.close()
            # Reads under way when a process ends abort it (apache/arrow issue 45214): drop them now, which
            # makes that rare. A process that goes on for a while, as `prepare` does, is never met by it.
            gc.collect()

    def _texts(self, table: pa.Table) -> list[str]:
        return texts(table, self._domain.text_column, self._domain.filter, self._place)

    def _arrow(self, data: Any) -> Any:
        """Read only the columns that are needed, as Arrow tables."""
        if data.features is not None:
            needed = root_columns([self._domain.text_column, *self._domain.filter], list(data.features))
            data = data.select_columns(needed) if needed else data
        return data.with_format("arrow")

    def _open(self) -> datasets.Dataset | datasets.IterableDataset | JsonLines | RowGroups:
        domain = self._domain
        if _is_saved(Path(domain.path)):
            return self._with_rows(self._open_saved(Path(domain.path)))
        self._files = _addresses(domain)
        if self._split in self._files and (reader := self._open_files(domain.path)):
            return reader
        builder = tried(self._builder, OPENING)
        files = builder.config.data_files or {}
        self._files = {str(split): [str(file) for file in names] for split, names in files.items()}
        if domain.streaming:
            if self._split in (splits := builder.info.splits or {}):
                self._num_rows = splits[self._split].num_examples
            return self._open_files(_kind(builder)) or builder.as_streaming_dataset(split=self._split)
        builder.download_and_prepare()
        return self._with_rows(builder.as_dataset(split=self._split))

    def _builder(self) -> datasets.DatasetBuilder:
        domain = self._domain
        return datasets.load_dataset_builder(
            domain.path,
            name=domain.name,
            data_dir=domain.data_dir,
            data_files=domain.data_files,
            revision=domain.revision,
        )

    def _open_files(self, kind: str) -> JsonLines | RowGroups | None:
        """Read the files without `datasets`, where that goes on from any row: it reads up to it."""
        files = self._files.get(self._split, [])
        if kind == "json" and JsonLines.can_read(files):
            return JsonLines(tuple(files))
        if kind == "parquet" and RowGroups.can_read(files):
            return RowGroups(tuple(files))
        return None

    def _with_rows(self, data: datasets.Dataset) -> datasets.Dataset:
        self._num_rows = data.num_rows
        return data

    def _open_saved(self, folder: Path) -> datasets.Dataset:
        data = datasets.load_from_disk(str(folder))
        self._files = {self._split: sorted(str(file) for file in folder.rglob("*") if file.is_file())}
        if isinstance(data, datasets.Dataset):
            return data
        if self._split not in data:
            raise DataError(f"{self._place}: {str(folder)!r} has no such split; it has {', '.join(data)}.")
        return data[self._split]

    @property
    def _all_files(self) -> list[str]:
        return [file for files in self._files.values() for file in files]

    def _local_files(self) -> list[Path]:
        return [path for file in self._all_files if (path := Path(file)).is_file()]


def _earliest(positions: Sequence[Any]) -> Any:
    """The first of some places in files; `None` is before all."""
    return None if None in positions else min(positions)


def _is_saved(path: Path) -> bool:
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def _addresses(domain: Domain) -> dict[str, list[str]]:
    """The files of a domain by split, where all are named by the address of one: `{}` elsewhere.

    To find out whether it is there, `datasets` asks for each of them whole, and only once.
    """
    if not domain.streaming or domain.path not in ("json", "parquet") or domain.data_files is None:
        return {}
    by_split = domain.data_files if isinstance(domain.data_files, dict) else {"train": domain.data_files}
    files = {split: [names] if isinstance(names, str) else names for split, names in by_split.items()}
    named = [name for names in files.values() for name in names]
    are_addresses = all(name.startswith(("http://", "https://")) and "*" not in name for name in named)
    return files if are_addresses else {}


def _kind(builder: datasets.DatasetBuilder) -> str:
    """What `datasets` reads files as, where it adds nothing to what lies in their rows."""
    if isinstance(builder, Json) and builder.config.field is None:
        return "json"
    return "parquet" if isinstance(builder, Parquet) else ""


def _stamp(file: str) -> Any:
    """A file on the Hub has its revision in its address; a local one is known by its size and time."""
    path = Path(file)
    return [file, path.stat().st_size, path.stat().st_mtime_ns] if path.is_file() else [file]
