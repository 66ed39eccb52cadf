"""What the stand-in Hub holds: people, repositories with their commits and refs, large files, collections."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

Kind = Literal["model", "dataset"]

#: What a new repository starts with, and which files are kept outside of git.
GITATTRIBUTES = (
    b"*.parquet filter=lfs diff=lfs merge=lfs -text\n*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
)
LARGE_SUFFIXES = (".parquet", ".safetensors", ".bin", ".arrow", ".png")
LARGE_BYTES = 1_000_000


class RefusalError(Exception):
    """A request that is answered with an error."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, body: Mapping[str, object] | None = None
    ):
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.body = dict(body or {})


@dataclass(frozen=True)
class Person:
    """Whom a token speaks for."""

    name: str
    role: Literal["read", "write"]
    organisations: tuple[str, ...] = ()

    def owns(self, namespace: str) -> bool:
        return namespace == self.name or namespace in self.organisations


@dataclass(frozen=True)
class Blob:
    """The content of one file; `large` ones are known to git by a pointer only."""

    content: bytes
    large: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self) -> bytes:
        version = b"version https://git-lfs.github.com/spec/v1\n"
        return version + f"oid sha256:{self.sha256}\nsize {len(self.content)}\n".encode()

    @property
    def git_oid(self) -> str:
        stored = self.pointer if self.large else self.content
        return hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.large else self.git_oid


@dataclass(frozen=True)
class Commit:
    """One state of all files of a repository."""

    oid: str
    parent: str | None
    title: str
    description: str
    author: str
    files: Mapping[str, Blob]
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat().replace("+00:00", "Z"))


@dataclass
class Repo:
    """One repository: a tree of commits and the names that point into it."""

    kind: Kind
    repo_id: str
    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        return self.repo_id.split("/")[0]

    @property
    def head(self) -> Commit:
        return self.commits[self.branches["main"]]

    def resolve(self, revision: str) -> Commit:
        """Find the commit a branch, a tag or a commit id names."""
        oid = self.branches.get(revision) or self.tags.get(revision) or revision
        if oid not in self.commits:
            raise RefusalError(404, f"Invalid rev id: {revision}", code="RevisionNotFound")
        return self.commits[oid]

    def history(self, revision: str = "main") -> list[Commit]:
        """All commits from `revision` back to the first."""
        found, commit = [], self.resolve(revision)
        while True:
            found.append(commit)
            if commit.parent is None:
                return found
            commit = self.commits[commit.parent]

    def file(self, revision: str, path: str) -> bytes:
        """The content of one file."""
        return self.resolve(revision).files[path].content

    def add_commit(
        self, branch: str, files: Mapping[str, Blob], *, title: str, description: str = "", author: str
    ) -> Commit:
        """Put a new commit at the end of a branch. No change of any file makes no commit."""
        parent = self.branches.get(branch)
        if parent is not None and self.commits[parent].files == files:
            return self.commits[parent]
        name = f"{self.kind}|{self.repo_id}|{len(self.commits)}|{parent}|{title}|{description}"
        commit = Commit(
            oid=hashlib.sha1(name.encode()).hexdigest(),
            parent=parent,
            title=title,
            description=description,
            author=author,
            files=dict(files),
        )
        self.commits[commit.oid] = commit
        self.branches[branch] = commit.oid
        return commit


@dataclass
class Collection:
    """A named list of repositories."""

    slug: str
    title: str
    owner: str
    private: bool
    description: str | None
    items: list[dict[str, object]] = field(default_factory=list)


@dataclass
class Store:
    """Everything. Whoever changes or reads more than one thing holds `lock`."""

    people: dict[str, Person] = field(default_factory=dict)
    #: Tokens that were somebody's.
    expired: set[str] = field(default_factory=set)
    repos: dict[str, Repo] = field(default_factory=dict)
    collections: dict[str, Collection] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    #: Jobs by id, where their logs lie, and what of this process's environment they see.
    jobs: dict[str, Any] = field(default_factory=dict)
    job_folder: Path | None = None
    job_environment: tuple[str, ...] = (
        "PATH",
        "PYTHONPATH",
        "OMP_NUM_THREADS",
        "CUDA_VISIBLE_DEVICES",
        "HOME",
    )
    #: Entries of one answer of a listing; more need further requests.
    page_size: int = 20

    def create(self, kind: Kind, repo_id: str, *, private: bool, author: str) -> Repo:
        """Make a repository with its first commit. A name belongs to one repository of one kind."""
        if taken := self.repos.get(repo_id):
            message = f"You already created this {taken.kind} repo"
            raise RefusalError(409, message, body={"url": self.web_path(taken)})
        repo = Repo(kind, repo_id, private)
        first = {".gitattributes": Blob(GITATTRIBUTES, large=False)}
        repo.add_commit("main", first, title="initial commit", author=author)
        self.repos[repo_id] = repo
        return repo

    def web_path(self, repo: Repo) -> str:
        """Where people look at a repository, from the root of the site."""
        return f"/datasets/{repo.repo_id}" if repo.kind == "dataset" else f"/{repo.repo_id}"

    def readable(self, kind: Kind, repo_id: str, person: Person | None) -> Repo:
        """Find a repository, as far as this person may see it."""
        repo = self.repos.get(repo_id)
        if (
            repo is None
            or repo.kind != kind
            or (repo.private and not (person and person.owns(repo.namespace)))
        ):
            status = 401 if person is None else 404
            raise RefusalError(status, "Repository not found", code="RepoNotFound")
        return repo

    def writable(self, kind: Kind, repo_id: str, person: Person | None) -> Repo:
        """Find a repository this person may change."""
        repo = self.readable(kind, repo_id, person)
        self.check_writer(repo.namespace, person)
        return repo

    def check_writer(self, namespace: str, person: Person | None) -> Person:
        """Refuse whoever may not write under `namespace`."""
        if person is None:
            raise RefusalError(401, "Invalid username or password.")
        if person.role != "write" or not person.owns(namespace):
            message = (
                f"You don't have the rights to create or change anything under the namespace {namespace!r}"
            )
            raise RefusalError(403, message)
        return person


def is_large(path: str, size: int) -> bool:
    """Whether a file is kept as a large file."""
    return path.endswith(LARGE_SUFFIXES) or size > LARGE_BYTES
