"""A connection to the Hub on which every question is asked again while the failure may pass."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_session, get_token
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import httpx

from regmix_hf.errors import HubError
from regmix_hf.hub.answers import of_type, understood
from regmix_hf.hub.explain import explain, is_unknown_token, without_token
from regmix_hf.hub.repository import Kind, RemoteFile, Repository, Snapshot
from regmix_hf.hub.retries import CLIENT_ERRORS, Patience, RaceError, is_passing, is_race, repeating
from regmix_hf.progress import Progress, Silent

T = TypeVar("T")

#: Seconds without a sign of life after which a request counts as lost.
_SILENCE_S = 120.0

#: How often a name may be taken and nothing found under it, before that is taken for the truth.
_CREATE_RACES = 5

_OTHER_KIND: dict[Kind, Kind] = {"model": "dataset", "dataset": "model"}


class Hub:
    """The Hub at `HF_ENDPOINT`, as the person whose token is in `HF_TOKEN` or was stored by `hf auth login`.

    Questions are asked again while they fail for a reason that passes. A change may have been made although
    its reply was lost: `find_or_create` and `tag` look before they try again, and whoever calls `commit`
    has to.

    Args:
        patience: How often to try.
        progress: Gets a note for every wait.
    """

    def __init__(self, patience: Patience | None = None, progress: Progress | None = None):
        self.patience = patience or Patience()
        self.progress = progress or Silent()
        self._api = HfApi(library_name="regmix_hf")

    @property
    def api(self) -> HfApi:
        """The client. Left alone it waits for an answer for ever, and a machine that is gone gives none."""
        session = get_session()
        if session.timeout.read is None:
            session.timeout = httpx.Timeout(_SILENCE_S, connect=30.0)
        return self._api

    def require_login(self, repository: Repository) -> None:
        """Refuse to go on without a token.

        Raises:
            HubError: There is none.
        """
        if get_token() is None:
            message = f"{repository} cannot be written: you are not logged in."
            raise HubError(message, "run `hf auth login`, or set HF_TOKEN")

    def ask(self, repository: Repository, question: Callable[[], T]) -> T:
        """Call the client until it answers.

        Raises:
            HubError: It failed for good.
        """
        try:
            return repeating(lambda: understood(question), self.patience, self.progress.note)
        except CLIENT_ERRORS as error:
            raise explain(error, repository, self.api.endpoint) from None

    def ask_once(self, repository: Repository, question: Callable[[], T]) -> T:
        """Call the client once, where what is asked for may be done although the reply is lost.

        Raises:
            HubError: It failed.
        """
        try:
            return understood(question)
        except CLIENT_ERRORS as error:
            raise explain(error, repository, self.api.endpoint) from None

    def address(self, repository: Repository) -> str:
        """Where the person who is logged in looks at a repository."""
        return f"{self.api.endpoint}/{repository.path}"

    def is_public(self, repository: Repository) -> bool:
        """Whether there is such a repository, for everybody to see."""

        def question() -> bool:
            try:
                return not self.api.repo_info(repository.id, repo_type=repository.kind).private
            except RepositoryNotFoundError:  # a gated one is one of these to those who may not read it
                return False

        return self.ask(repository, question)

    def snapshot(self, repository: Repository, revision: str | None = None) -> Snapshot:
        """What a repository holds at a revision (a branch, a tag, a commit; default: the newest).

        Raises:
            HubError: There is no such repository or revision, or it is of another kind.
        """
        found = self.find(repository, revision)
        if found is not None:
            return found
        self._require_no_other_kind(repository)
        hint = "run `hf auth login`, or set HF_TOKEN, if it is private" if get_token() is None else None
        raise HubError(f"{repository} does not exist, or it is private and not yours to see.", hint)

    def find(self, repository: Repository, revision: str | None = None) -> Snapshot | None:
        """Like `snapshot`, but `None` when there is no such repository, or none this person may see."""

        def question() -> tuple[str, bool]:
            info = self.api.repo_info(repository.id, repo_type=repository.kind, revision=revision)
            private = info.private is not None and of_type(info.private, bool, "`private`")
            return of_type(info.sha, str, "the commit"), private

        found = self.ask(repository, lambda: _if_there(question))
        if found is None:
            return None
        commit, private = found

        def listing() -> dict[str, RemoteFile]:
            entries = self.api.list_repo_tree(
                repository.id, repo_type=repository.kind, revision=commit, recursive=True
            )
            return {entry.path: _remote_file(entry) for entry in entries if isinstance(entry, RepoFile)}

        return Snapshot(repository, commit, private, self.ask(repository, listing))

    def commits(self, repository: Repository) -> dict[str, str]:
        """Description of every commit of the main branch by its id, the newest first."""

        def question() -> dict[str, str]:
            history = self.api.list_repo_commits(repository.id, repo_type=repository.kind)
            return {
                of_type(commit.commit_id, str, "a commit"): of_type(commit.message, str, "its description")
                for commit in history
            }

        return self.ask(repository, question)

    def tags(self, repository: Repository) -> dict[str, str]:
        """Commit of every tag.

        Raises:
            HubError: There is no such repository.
        """
        return self.ask(repository, lambda: self._list_tags(repository))

    def find_tags(self, repository: Repository) -> dict[str, str] | None:
        """Like `tags`, but `None` when there is no such repository, or none this person may see."""
        return self.ask(repository, lambda: _if_there(lambda: self._list_tags(repository)))

    def _list_tags(self, repository: Repository) -> dict[str, str]:
        refs = self.api.list_repo_refs(repository.id, repo_type=repository.kind)
        return {
            of_type(tag.name, str, "a tag"): of_type(tag.target_commit, str, "its commit")
            for tag in refs.tags
        }

    def find_or_create(self, repository: Repository, *, private: bool) -> Snapshot:
        """Find a repository, or make it.

        Raises:
            HubError: Not permitted, or the name belongs to a repository of another kind.
        """

        def attempt() -> Snapshot:
            found = self.find(repository)
            if found is not None:
                return found
            try:
                understood(
                    lambda: self.api.create_repo(repository.id, repo_type=repository.kind, private=private)
                )
            except HfHubHTTPError as error:
                # "It exists" may also mean: as another kind, or created by the request whose reply got lost.
                if is_race(error):
                    self._require_no_other_kind(repository)
                    raise RaceError(without_token(f"the Hub says {error.server_message}")) from None
                raise
            found = self.find(repository)
            if found is None:
                raise RaceError("it was created and is not found yet")
            return found

        try:
            return self._change(repository, attempt, races=_CREATE_RACES)
        except RaceError as error:
            raise HubError(f"{repository} cannot be created: {error}", "choose another name") from None

    def commit(
        self,
        snapshot: Snapshot,
        operations: Sequence[CommitOperationAdd | CommitOperationDelete],
        *,
        message: str,
        description: str,
    ) -> str:
        """Try once to put one commit on top of `snapshot`; return its id.

        Raises:
            RaceError: Somebody else has committed since.
            HubError: Refused for good, e.g. the card's metadata is invalid.
            CLIENT_ERRORS: What the client raised, if it may pass. The commit may have been made.
        """
        repository = snapshot.repository
        try:
            return understood(
                lambda: of_type(
                    self.api.create_commit(
                        repository.id,
                        list(operations),
                        repo_type=repository.kind,
                        commit_message=message,
                        commit_description=description,
                        parent_commit=snapshot.commit,
                    ).oid,
                    str,
                    "the commit",
                )
            )
        except CLIENT_ERRORS as error:
            if is_race(error):
                raise RaceError(f"{repository} has changed") from None
            if is_passing(error):
                raise
            raise explain(error, repository, self.api.endpoint) from None

    def tag(self, repository: Repository, name: str, commit: str) -> bool:
        """Give a commit a name, once and for all; return whether it is new.

        Raises:
            RaceError: The name belongs to another commit already.
            HubError: Refused for good.
        """

        tried = False

        def attempt() -> bool:
            nonlocal tried
            named = self.tags(repository).get(name)
            if named == commit:
                return tried
            if named is not None:
                raise _TakenError(f"{repository}: {name!r} names {named}")
            tried = True
            self.api.create_tag(repository.id, repo_type=repository.kind, tag=name, revision=commit)
            return True

        try:
            return self._change(repository, attempt)
        except _TakenError as error:
            raise RaceError(str(error)) from None

    def untag(self, repository: Repository, name: str) -> None:
        """Take back a name this person gave a moment ago."""

        def attempt() -> None:
            if name in self.tags(repository):
                self.api.delete_tag(repository.id, repo_type=repository.kind, tag=name)

        self._change(repository, attempt)

    def read(self, snapshot: Snapshot, path: str, *, max_bytes: int) -> bytes:
        """The content of one file of a snapshot.

        Raises:
            HubError: There is no such file, or it is larger than `max_bytes`.
        """
        with tempfile.TemporaryDirectory() as folder:
            return self.download(snapshot, path, Path(folder), max_bytes=max_bytes).read_bytes()

    def download(self, snapshot: Snapshot, path: str, folder: Path, *, max_bytes: int) -> Path:
        """Put one file of a snapshot under `folder` and return where; beside it lie the client's own notes.

        Raises:
            HubError: There is no such file, or it is larger than `max_bytes`; nothing is loaded then.
        """
        repository, file = snapshot.repository, snapshot.files.get(path)
        if file is None:
            raise HubError(f"{repository} at {snapshot.commit[:10]} has no {path}.")
        if file.size > max_bytes:
            message = f"{repository}: {path} has {file.size:,} bytes; at most {max_bytes:,} are read."
            raise HubError(message)

        def question() -> str:
            return self.api.hf_hub_download(
                repository.id, path, repo_type=repository.kind, revision=snapshot.commit, local_dir=folder
            )

        return Path(self.ask(repository, question))

    def _change(self, repository: Repository, attempt: Callable[[], T], *, races: int | None = None) -> T:
        """Repeat an attempt that looks before it acts, at most `races` times when somebody else was first."""
        patience = replace(self.patience, races=races or self.patience.races)
        try:
            return repeating(attempt, patience, self.progress.note, races=True)
        except CLIENT_ERRORS as error:
            raise explain(error, repository, self.api.endpoint) from None

    def _require_no_other_kind(self, repository: Repository) -> None:
        other = Repository(_OTHER_KIND[repository.kind], repository.id)
        if self.find(other) is not None:
            named = f"the name of a {other.kind} repository, not of a {repository.kind}"
            raise HubError(f"{repository.id!r} is {named}.", "choose another name or namespace")


def _if_there(question: Callable[[], T]) -> T | None:
    """The answer, or `None` where there is no such repository, or none this person may see."""
    try:
        return question()
    except GatedRepoError:
        raise
    except RepositoryNotFoundError as error:
        if is_unknown_token(error):  # the client takes every 401 for a repository that is not there
            raise
        return None


def _remote_file(entry: RepoFile) -> RemoteFile:
    return RemoteFile(
        of_type(entry.path, str, "a path"),
        of_type(entry.size, int, "a size"),
        of_type(entry.blob_id, str, "a hash"),
        of_type(entry.lfs.sha256, str, "a hash") if entry.lfs else None,
    )


class _TakenError(Exception):
    """A tag's name belongs to another commit: no use in trying again."""
