"""What a domain's text is read through, whatever it lies in."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from regmix_hf.corpus.encode import Piece
from regmix_hf.recipe import Domain

if TYPE_CHECKING:
    from regmix_hf.corpus.local_files import Found


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
class CountingSource(Source, Protocol):
    """A source that knows its files."""

    @property
    def read_files(self) -> tuple[Found, int] | None:
        """What the domain's patterns match, and how many files the split has; `None`: others know them."""


@runtime_checkable
class SharingSource(Source, Protocol):
    """A source that picks its documents from rows of files from which others may pick theirs."""

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
