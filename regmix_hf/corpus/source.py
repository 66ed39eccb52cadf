"""What a domain's text is read through, whatever it lies in."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, runtime_checkable

from regmix_hf.corpus.encode import Piece
from regmix_hf.errors import DataError
from regmix_hf.recipe import Domain

if TYPE_CHECKING:
    from regmix_hf.corpus.local_files import Found

#: `path` of the built-in source.
PYTHON_ENVIRONMENT = "python_environment"


class Source(Protocol):
    """One split of one domain: the same documents in the same order every time."""

    @property
    def identity(self) -> Any:
        """JSON-like: equal when the documents are."""

    @property
    def num_rows(self) -> int | None:
        """Rows, before any are left out; `None` when that is not known before they are read."""

    def pieces(self, position: Any) -> Generator[Piece]:
        """The documents after `position`, one of an earlier piece; all of them after `None`.

        Raises:
            DataError: They cannot be read.
        """


@runtime_checkable
class SharingSource(Source, Protocol):
    """A source that picks its documents from rows of files from which others may pick theirs."""

    @property
    def read_files(self) -> tuple[Found, int]:
        """What the domain's patterns match, and how many files the split has."""

    @property
    def shared_files(self) -> Hashable:
        """The files of the rows, equal where others pick from the same."""

    def pieces_of_all(
        self, sources: Sequence[Self], positions: Sequence[Any], is_open: Callable[[int], bool]
    ) -> Generator[Piece]:
        """The documents of several sources of equal `shared_files`, every row read once.

        Args:
            sources: All of them; `Piece.source` is a number in this order.
            positions: After which each goes on.
            is_open: Whether the source of this number still wants documents.

        Raises:
            DataError: They cannot be read.
        """


def identity_of(domain: Domain, split: str) -> dict[str, Any]:
    """The words of a recipe that decide what the documents of a split are, beside its files."""
    keys = ("path", "name", "data_dir", "revision", "streaming", "text_column", "filter", "sample_by")
    return {**domain.model_dump(mode="json", include=set(keys)), "split": split}


def open_source(name: str, domain: Domain, purpose: Literal["train", "validation"]) -> Source:
    """Open the split of a domain that is trained on, or the one that is only validated on.

    Raises:
        DataError: There is no such source, or it cannot be reached.
    """
    split = domain.split if purpose == "train" else domain.validation_split or domain.split
    if domain.path == PYTHON_ENVIRONMENT:
        from regmix_hf.corpus.environment import EnvironmentSource

        if split != "train":
            raise DataError(f"domain {name!r}: {PYTHON_ENVIRONMENT!r} has no split {split!r}, only 'train'.")
        return EnvironmentSource(name, domain)
    from regmix_hf.corpus.file_source import FileSource
    from regmix_hf.corpus.local_files import find_files

    try:
        found = find_files(domain)
    except DataError as error:
        raise DataError(f"domain {name!r}, split {split!r}: {error.message}", error.hint) from None
    if found is not None:
        return FileSource(name, domain, split, found)
    from regmix_hf.corpus.dataset_source import open_data_set

    return open_data_set(name, domain, split)
