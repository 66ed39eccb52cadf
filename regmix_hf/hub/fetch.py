"""Fetch named files of one commit into a folder, and nothing else: what comes from the Hub is data."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from regmix_hf.errors import HubError
from regmix_hf.hub.connection import Hub
from regmix_hf.hub.repository import RemoteFile, Snapshot

_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Expected:
    """Files that a repository should hold.

    Attributes:
        pattern: A path; `*` and `?` stand for characters within one part of it.
        max_bytes: The size of all of them together above which all are refused.
        max_files: The number of files above which all are refused.
        required: Whether there must be at least one.
    """

    pattern: str
    max_bytes: int = 100 * _MEGABYTE
    max_files: int = 1
    required: bool = True


def matching(paths: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """The paths that match one of the patterns, part by part: `*` never stands for a `/`."""
    shapes = [PurePosixPath(pattern) for pattern in patterns]
    return [
        path
        for path in paths
        if any(
            len(PurePosixPath(path).parts) == len(shape.parts) and PurePosixPath(path).match(str(shape))
            for shape in shapes
        )
    ]


def fetch(
    hub: Hub, snapshot: Snapshot, expected: Sequence[Expected], into: Path, *, via: Path | None = None
) -> dict[str, Path]:
    """Put the expected files of a snapshot into the folder `into`, under their own paths.

    Names, counts and sizes are checked before anything is loaded, contents against the commit's hashes before
    anything is put in its place. Files that nobody expects stay where they are.

    Args:
        hub: The connection.
        snapshot: What to fetch from.
        expected: Which files.
        into: Where to; on the same disk as `via`.
        via: Where files arrive, of this snapshot alone: given again after a kill, what had arrived is not
            loaded again. Default: a temporary folder.

    Returns:
        The local file of each path.

    Raises:
        HubError: A file is missing, too many, too large, leaves `into` or is not what the commit says.
    """
    limits = {file.path: rule.max_bytes for rule in expected for file in _choose(snapshot, rule)}
    targets = {path: _target(snapshot, path, into) for path in limits}
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into, prefix=".fetch-", suffix=".tmp") as temporary:
        folder = via or Path(temporary)
        loaded = {}
        for path, max_bytes in limits.items():
            loaded[path] = hub.download(snapshot, path, folder, max_bytes=max_bytes)
            if not (file := snapshot.files[path]).holds(loaded[path]):
                named = f"the content the commit names ({file.stated[:10]})"
                raise HubError(f"{snapshot.repository}: {path} is not {named}.", "fetch it again")
        for path, target in targets.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            loaded[path].replace(target)
    return targets


def _choose(snapshot: Snapshot, rule: Expected) -> list[RemoteFile]:
    found = [snapshot.files[path] for path in matching(snapshot.files, [rule.pattern])]
    where = f"{snapshot.repository} at {snapshot.commit[:10]}"
    if rule.required and not found:
        raise HubError(f"{where} has no {rule.pattern}.", "is it the repository of a study?")
    if len(found) > rule.max_files:
        most = f"at most {rule.max_files} are expected"
        raise HubError(f"{where} has {len(found)} files that match {rule.pattern}; {most}.")
    if (size := sum(file.size for file in found)) > rule.max_bytes:
        what = found[0].path if len(found) == 1 else rule.pattern
        raise HubError(f"{where}: {what} has {size:,} bytes; at most {rule.max_bytes:,} are read.")
    return found


def _target(snapshot: Snapshot, path: str, into: Path) -> Path:
    parts = path.split("/")
    harmless = all(part not in ("", ".", "..") and part.isprintable() for part in parts)
    if not harmless or "\\" in path or ":" in path:
        raise HubError(f"{snapshot.repository} holds a file with an unsafe name: {path!r}.")
    target = into.joinpath(*parts)
    # A link inside `into` may lead elsewhere.
    if not target.resolve().is_relative_to(into.resolve()):
        raise HubError(f"{snapshot.repository}: {path!r} would be written outside of {into}.")
    return target
