"""Who does what: a task belongs to whoever holds the lock in its folder, and a dead holder holds nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from regmix_hf.study.names import LOCK


@contextmanager
def claim(folder: Path) -> Iterator[bool]:
    """Try to claim the task in `folder` while the context lasts; never waits.

    The lock is the operating system's, on an open file: it is free again the moment its holder dies,
    and it holds between processes, launcher ranks, and machines that share the file system.

    Yields:
        Whether the claim was granted; `False` when somebody else is doing this task.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
