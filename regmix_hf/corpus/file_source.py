"""Sources made of files that are read here, from any row on: JSON, Parquet, text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from contextlib import closing
from functools import cached_property
from typing import Any

import pyarrow as pa

from regmix_hf.corpus.columns import texts
from regmix_hf.corpus.encode import Piece, pieces
from regmix_hf.corpus.faults import explained
from regmix_hf.corpus.files import Files
from regmix_hf.corpus.lines import line_number, look_at
from regmix_hf.corpus.local_files import Found, SourceFile, stamps
from regmix_hf.corpus.row_groups import TableRows, empty_table
from regmix_hf.corpus.rows import RowError, Rows, RowTexts
from regmix_hf.corpus.source import identity_of
from regmix_hf.errors import DataError
from regmix_hf.recipe import Domain


class FileSource:
    """A split of a domain whose files are read row by row.

    Args:
        name: The domain's name.
        domain: Its part of the recipe.
        split: The split's name.
        found: The domain's files.
        addresses: What the files of the split are known by, where they were fetched from elsewhere.

    Raises:
        DataError: There is no such split, or its first file, which lies elsewhere, cannot be read.
    """

    def __init__(
        self, name: str, domain: Domain, split: str, found: Found, addresses: Sequence[str] | None = None
    ):
        self._name, self._domain, self._split, self._found = name, domain, split, found
        self._place = f"domain {name!r}, split {split!r}"
        self._row_texts = RowTexts(domain.text_column, domain.filter, self._place)
        if split not in found.splits:
            raise DataError(f"{self._place}: there is no such split; there is {sorted(found.splits)}.")
        self._files = Files(found.splits[split], domain.sample_by)
        self._addresses = addresses
        if (first := self._files.files[0]).path is None:
            with explained(name, domain):
                look_at(first.address)

    @cached_property
    def identity(self) -> Any:
        """The recipe's words, the addresses of files elsewhere, the content of those here."""
        if self._addresses is not None:
            known: list[Any] = [[address] for address in self._addresses]
        else:
            known = [[file.address] for file in self._found.files if file.path is None]
            known += stamps(self._found.paths)
        return {**identity_of(self._domain, self._split), "files": known}

    @property
    def num_rows(self) -> int | None:
        """Not known before the files are read."""
        return None

    @property
    def read_files(self) -> tuple[Found, int]:
        """What the domain's patterns match, and how many files the split has."""
        return self._found, len(self._files.files)

    @property
    def shared_files(self) -> Hashable:
        """The files."""
        return self._files

    def pieces(self, position: Any) -> Generator[Piece]:
        """The documents after `position`, a place in the files."""
        with explained(self._name, self._domain):
            yield from self._picked([self], [position], lambda number: True)

    def pieces_of_all(
        self, sources: Sequence[FileSource], positions: Sequence[Any], is_open: Callable[[int], bool]
    ) -> Generator[Piece]:
        """The documents of several sources that share these files, every row read once."""
        with explained(self._name, self._domain):
            yield from self._picked(sources, positions, is_open)

    def check_first_rows(self) -> None:
        """Check columns and first rows of the first file.

        Raises:
            DataError: They cannot be used.
        """
        first = self._files.files[0]
        with explained(self._name, self._domain):
            if first.kind == "parquet":
                table = empty_table(first.address)
                texts(table, self._domain.text_column, self._domain.filter, f"{self._place}, {first.address}")
                return
            columns = [self._domain.text_column, *self._domain.filter]
            with closing(self._files.batches(None, columns)) as batches:
                for batch in batches:
                    self._texts(batch)
                    return

    def _picked(
        self, sources: Sequence[FileSource], positions: Sequence[Any], is_open: Callable[[int], bool]
    ) -> Iterator[Piece]:
        columns = {
            name for source in sources for name in (source._domain.text_column, *source._domain.filter)
        }
        earliest = None if None in positions else min(positions)
        with closing(self._files.batches(earliest, sorted(columns))) as batches:
            for batch in batches:
                for number, source in enumerate(sources):
                    if is_open(number) and (part := batch.after(positions[number])).num_rows:
                        found, left_out = source._texts(part)
                        yield from pieces(found, part.num_rows, batch.position, number, left_out)

    def _texts(self, part: Rows | TableRows) -> tuple[list[str], Counter[str]]:
        file = self._files.files[part.file]
        if isinstance(part, TableRows):
            place = f"{self._place}, file {file.address}, rows from {part.first_row + 1:,} on"
            try:
                return texts(part.table, self._domain.text_column, self._domain.filter, place)
            except (UnicodeDecodeError, pa.ArrowException) as error:
                raise DataError(
                    f"{place}: {error}.", "write the file again from text that is UTF-8"
                ) from error
        try:
            if part.start == 0:
                self._row_texts.check_columns([row for row in part.rows if isinstance(row, dict)])
            return self._row_texts.of_all(part.rows)
        except RowError as error:
            where = _row(file, part, error.number)
            raise DataError(f"{error.message[:-1]} ({where}).", error.hint) from error
        except DataError as error:
            raise DataError(f"{error.message[:-1]} ({file.address}).", error.hint) from error


def _row(file: SourceFile, part: Rows, number: int) -> str:
    if file.path is None:
        return f"{file.address}, a row before byte {part.ends[number]}"
    if part.position[0] > part.file:
        return f"{file.address}, row {number + 1}"
    return f"{file.address}, line {line_number(file.address, part.ends[number])}"
