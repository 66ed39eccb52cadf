"""Names of repositories on the Hub, and what one of their commits holds."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from regmix_hf.errors import HubError
from regmix_hf.reference import split_reference

Kind = Literal["model", "dataset"]


@dataclass(frozen=True, order=True)
class Repository:
    """A repository on the Hub.

    Attributes:
        kind: `model` or `dataset`.
        id: `namespace/name`.

    Raises:
        HubError: The id is none that the Hub takes.
    """

    kind: Kind
    id: str

    def __post_init__(self) -> None:
        try:
            validate_repo_id(self.id)
        except HFValidationError as error:
            raise HubError(f"{self.id!r} is no name of a repository: {error}") from error
        if self.id.count("/") != 1:
            raise HubError(f"{self.id!r} is no name of a repository.", "write NAMESPACE/NAME")

    @property
    def namespace(self) -> str:
        """The user or organisation that owns it."""
        return self.id.split("/")[0]

    @property
    def path(self) -> str:
        """Where it is on the Hub's pages."""
        return f"datasets/{self.id}" if self.kind == "dataset" else self.id

    def __str__(self) -> str:
        return f"{self.kind} repository {self.id!r}"


@dataclass(frozen=True)
class Reference:
    """What people write to name a repository and one of its revisions: `NAMESPACE/NAME[@REVISION]`.

    Attributes:
        repository: The repository.
        revision: A tag, branch or commit; `None` is the newest commit.
    """

    repository: Repository
    revision: str | None

    @classmethod
    def parse(cls, text: str, kind: Kind) -> Self:
        """Read a reference.

        Raises:
            HubError: It is none.
        """
        repository = Repository(kind, text.partition("@")[0])
        reference = split_reference(text)
        if reference is None:
            name = repository.id
            raise HubError(f"{text!r} names no revision.", f"write {name}@v1, or {name} for the newest")
        return cls(repository, reference[1])


@dataclass(frozen=True)
class RemoteFile:
    """One file of a commit.

    Attributes:
        path: Its name from the root of the repository, with `/`.
        size: Bytes.
        git_oid: Git's SHA-1 of the content, or of the pointer when the content is a large file.
        sha256: SHA-256 of the content of a large file; `None` for one that git holds itself.
    """

    path: str
    size: int
    git_oid: str
    sha256: str | None

    @property
    def stated(self) -> str:
        """The hash by which the commit names its content."""
        return self.git_oid if self.sha256 is None else self.sha256

    def holds(self, content: bytes | Path) -> bool:
        """Whether this is its content, in memory or in a file."""
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        if size != self.size:
            return False
        of_git = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        digest = of_git if self.sha256 is None else hashlib.sha256()
        with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
            return hashlib.file_digest(file, lambda: digest).hexdigest() == self.stated


@dataclass(frozen=True)
class Snapshot:
    """All files of one commit. A commit never changes, so neither does this.

    Attributes:
        repository: Where.
        commit: Its id.
        private: Whether only the repository's owners saw it at that moment.
        files: By path.
    """

    repository: Repository
    commit: str
    private: bool
    files: Mapping[str, RemoteFile]
