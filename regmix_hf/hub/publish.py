"""Publish files: one atomic commit per repository, then one new tag on all of them, and neither twice."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, get_token

from regmix_hf.errors import HubError
from regmix_hf.hub.connection import Hub
from regmix_hf.hub.explain import explain
from regmix_hf.hub.fetch import matching
from regmix_hf.hub.privacy import require_public_words
from regmix_hf.hub.repository import Repository, Snapshot
from regmix_hf.hub.retries import CLIENT_ERRORS, RaceError, repeating

Content = bytes | Path
#: A file that names the version it is published as, such as a card: what makes it of `v3`, say.
Versioned = Callable[[str], bytes]
Files = Mapping[str, Content | Versioned]

_VERSION = re.compile(r"v([1-9][0-9]{0,5})")
_TAG_RACES = 20
#: Larger files are weights and tables, into which no token gets.
_MOST_SEARCHED_BYTES = 10_000_000
#: Files that repeat what people wrote.
_WORDS = (".md", ".yaml", ".json")
#: Not these, which hold all words there are.
_VOCABULARIES = ("tokenizer.json", "vocab.json", "added_tokens.json", "special_tokens_map.json")


@dataclass(frozen=True)
class Publication:
    """What one repository shall hold.

    Attributes:
        repository: Where; made if it is missing.
        files: Content by path. Files that depend on what is there, such as a merged table and a card that
            counts its rows, are made by a function of the snapshot they will replace. It is called again when
            somebody else committed first.
        message: Title of the commit.
        private: Whether only its owners shall see it. A public repository is then refused.
        owned: Patterns (see `matching`) of files that are removed when `files` does not name them.
    """

    repository: Repository
    files: Files | Callable[[Snapshot], Files]
    message: str
    private: bool = False
    owned: tuple[str, ...] = ()

    def files_for(self, snapshot: Snapshot) -> Files:
        """The files to put on top of `snapshot`."""
        return self.files(snapshot) if callable(self.files) else self.files


@dataclass(frozen=True)
class Published:
    """What `publish` left behind.

    Attributes:
        commits: The commit of every repository that holds what was published.
        changed: The repositories that got a new commit.
        version: The tag on all these commits, e.g. `v3`; `None` when none was asked for.
    """

    commits: Mapping[Repository, str]
    changed: frozenset[Repository]
    version: str | None


@dataclass(frozen=True)
class Draft:
    """What a publication would change.

    Attributes:
        publication: What shall be there.
        snapshot: What is there; `None` when the repository does not exist.
        files: What shall be there, made of the snapshot.
        version: Which the files name: the one they get, or had already where nothing changes.
        changes: The new content of every path that changes, `None` for one that goes.
    """

    publication: Publication
    snapshot: Snapshot | None
    files: Files
    version: str
    changes: Mapping[str, Content | None]


def publish(
    hub: Hub, publications: Sequence[Publication], *, tag: bool = True, beside: Iterable[Repository] = ()
) -> Published:
    """Commit every publication, then name all commits by the same new version.

    Safe to repeat after anything, SIGKILL included: what is there already is left as it is, a version whose
    tags are not on all repositories yet is completed, and if nothing is new there is no commit and no tag.
    The last repository gets its tag last: where it has the tag, all others have it too. Nothing is committed
    before all files have been looked at.

    Args:
        hub: The connection.
        publications: One per repository, in the order of the tags.
        tag: Whether to give this state a version. Without one, only the commits are made; their files name
            the version that they would get.
        beside: Further repositories whose versions count when the next is chosen, so that numbers stay in
            step when only some of a study's repositories are published.

    Raises:
        HubError: Not logged in, not permitted, the name taken, a file that is for nobody, or the Hub failing
            for longer than patience.
    """
    beside, changed, lost = list(beside), set(), 0
    for publication in publications:
        hub.require_login(publication.repository)
    for _ in range(_TAG_RACES):
        number, drafts = draft(hub, publications, beside, above=lost)
        version = f"v{number}"
        for one in drafts:
            _require_presentable(one.publication.repository, one.changes)
        commits = {}
        for one in drafts:
            repository = one.publication.repository
            commits[repository], is_new = _commit(hub, one)
            changed |= {repository} if is_new else set()
        if not tag:
            return Published(commits, frozenset(changed), None)
        if _tag(hub, commits, version):
            return Published(commits, frozenset(changed), version)
        lost = number
    raise HubError(f"Others took every version up to v{lost}.", "run the same command again")


def draft(
    hub: Hub, publications: Sequence[Publication], beside: Iterable[Repository] = (), *, above: int = 0
) -> tuple[int, list[Draft]]:
    """Look, and change nothing: the version that `publish` would give, and what it would commit for that.

    The version is the last if it is on all of what is there or can be completed, else the next. One that is
    not `above` a number belongs to somebody else.

    Raises:
        HubError: As `publish`.
    """
    looks = [_Look(hub, publication) for publication in publications]
    known = {one.publication.repository: one.versions for one in looks}
    for repository in beside:
        if repository not in known:
            known[repository] = _versions(hub.find_tags(repository) or {})
    last = max((above, *(number for versions in known.values() for number in versions)))
    shared = {number for number in set.intersection(*(one.settled for one in looks)) if number > above}
    if shared:
        number = max(shared)
    else:
        number = last if last > above and all(one.takes(last) for one in looks) else last + 1
    return number, [one.draft(f"v{number}") for one in looks]


class _Look:
    """What is there before a publication, and whether that is it already."""

    def __init__(self, hub: Hub, publication: Publication):
        repository = publication.repository
        self.publication, self.snapshot = publication, hub.find(repository)
        if self.snapshot is not None:
            _require_same_privacy(publication, self.snapshot)
        self.files = publication.files_for(
            self.snapshot or Snapshot(repository, "", publication.private, files={})
        )
        self.versions = _versions(hub.tags(repository)) if self.snapshot is not None else {}
        self._changed: dict[str, dict[str, Content | None]] = {}
        head = self.snapshot.commit if self.snapshot is not None else None
        of_head = {number for number, at in self.versions.items() if at == head}
        #: Versions of the newest commit, where it holds the files as the first of them names itself.
        self.settled = of_head if of_head and not self._changes(f"v{min(of_head)}") else set()

    def takes(self, number: int) -> bool:
        """Whether a version can be given to what will be there."""
        return number not in self.versions or number in self.settled

    def draft(self, version: str) -> Draft:
        """What would change for the files to name `version`; nothing where an earlier one holds them."""
        name = f"v{min(self.settled)}" if self.settled else version
        return Draft(self.publication, self.snapshot, self.files, name, self._changes(name))

    def _changes(self, version: str) -> dict[str, Content | None]:
        if version not in self._changed:  # cards are written for each version
            files = at_version(self.files, version)
            self._changed[version] = changes(self.snapshot, files, self.publication.owned)
        return self._changed[version]


def at_version(files: Files, version: str) -> dict[str, Content]:
    """The files as they are in the version that is called so."""
    return {path: file(version) if callable(file) else file for path, file in files.items()}


def changes(
    snapshot: Snapshot | None, files: Mapping[str, Content], owned: Iterable[str] = ()
) -> dict[str, Content | None]:
    """Which paths a commit of `files` on top of `snapshot` would change.

    Args:
        snapshot: What is there; `None` when the repository does not exist.
        files: What shall be there.
        owned: Patterns of files that shall not be there unless `files` names them.

    Returns:
        The new content of every path that changes, `None` for one that goes.
    """
    there = snapshot.files if snapshot is not None else {}
    changed: dict[str, Content | None] = {
        path: content
        for path, content in files.items()
        if path not in there or not there[path].holds(content)
    }
    stale = (path for path in matching(there, owned) if path not in files)
    return changed | dict.fromkeys(stale, None)


def _commit(hub: Hub, draft: Draft) -> tuple[str, bool]:
    """Make sure that a commit of the main branch holds the files; return it, and whether it is a new one."""
    publication, first = draft.publication, draft.snapshot
    repository = publication.repository
    if first is not None and not draft.changes:
        return first.commit, False
    # In the commit's description: tells a commit whose reply was lost from everybody else's.
    identity = f"publication {uuid4().hex}"
    unsure = False

    def look() -> tuple[Snapshot, Mapping[str, Content | None]]:
        nonlocal first
        if first is not None:
            (snapshot, first), wanted = (first, None), draft.changes
            return snapshot, wanted
        snapshot = hub.find_or_create(repository, private=publication.private)
        _require_same_privacy(publication, snapshot)
        files = at_version(publication.files_for(snapshot), draft.version)
        return snapshot, changes(snapshot, files, publication.owned)

    def attempt() -> tuple[str, bool]:
        nonlocal unsure
        if unsure and (own := _find_commit(hub, repository, identity)) is not None:
            return own, True
        snapshot, wanted = look()
        if not wanted:
            return snapshot.commit, False
        _require_presentable(repository, wanted)
        operations = [_operation(path, content) for path, content in sorted(wanted.items())]
        try:
            commit = hub.commit(snapshot, operations, message=publication.message, description=identity)
        except CLIENT_ERRORS:
            unsure = True
            raise
        return commit, True

    try:
        return repeating(attempt, hub.patience, hub.progress.note, races=True)
    except RaceError:
        message = f"{repository}: somebody else committed first, {hub.patience.races} times in a row."
        raise HubError(message, "run the same command again") from None
    except CLIENT_ERRORS as error:
        raise explain(error, repository, hub.api.endpoint) from None


def _require_presentable(repository: Repository, files: Mapping[str, Content | None]) -> None:
    """Refuse to publish what is for nobody, which may have got into a recipe or a card by an address, say."""
    token = get_token()
    for path, content in files.items():
        if isinstance(content, Path):
            content = content.read_bytes() if content.stat().st_size <= _MOST_SEARCHED_BYTES else None
        if content is None:
            continue
        if token is not None and token.encode() in content:
            message = f"{repository}: {path} holds your token; nothing was published."
            raise HubError(message, "take the token out of the recipe, and set HF_TOKEN instead")
        if path.endswith(_WORDS) and path.split("/")[-1] not in _VOCABULARIES:
            require_public_words(content.decode(errors="replace"), f"{repository}: {path}")


def _require_same_privacy(publication: Publication, snapshot: Snapshot) -> None:
    if publication.private and not snapshot.private:
        hint = "make it private in its settings, or set `hub.private: false`"
        raise HubError(f"{publication.repository} is public, and this study is to be private.", hint)


def _find_commit(hub: Hub, repository: Repository, description: str) -> str | None:
    commits = hub.commits(repository)
    return next((commit for commit, text in commits.items() if text.strip() == description), None)


def _operation(path: str, content: Content | None) -> CommitOperationAdd | CommitOperationDelete:
    if content is None:
        return CommitOperationDelete(path, is_folder=False)
    return CommitOperationAdd(path, content)


def _tag(hub: Hub, commits: Mapping[Repository, str], version: str) -> bool:
    """Give all commits the version, or none of them where somebody else has taken it; return which."""
    given = []
    try:
        for repository, commit in commits.items():
            if hub.tag(repository, version, commit):
                given.append(repository)
    except RaceError:
        # Else the version would be ours on some repositories and theirs on the others.
        for repository in given:
            hub.untag(repository, version)
        return False
    return True


def _versions(tags: Mapping[str, str]) -> dict[int, str]:
    """Commit of every version, by its number; other tags do not count."""
    found = ((_VERSION.fullmatch(name), commit) for name, commit in tags.items())
    return {int(match[1]): commit for match, commit in found if match}
