"""Whose turn it is in a study's folder: one process alone, or several that share out runs."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from regmix_hf.files import read_json, write_json
from regmix_hf.progress import Progress

#: In the study's folder. Who is alone holds the door; those who share pass through it, and hold a lock each.
_FOLDER, _DOOR = ".turns", "door"
#: Seconds between two tries while somebody else is in the folder.
_LOOK_INTERVAL_S = 0.2


@contextmanager
def alone_in(root: Path, verb: str, progress: Progress) -> Iterator[None]:
    """Have the study's folder `root` to oneself while the context lasts; waits for whoever is in it.

    The locks are the operating system's: they are free again the moment their holder dies.

    Args:
        root: Of the study.
        verb: What it is for, which those who wait are told.
        progress: Told whom it waits for.
    """
    door = _lock(root, _DOOR)
    _wait_for(door, verb, progress)
    try:
        for file in sorted((root / _FOLDER).glob("*.lock")):
            if file.stem != _DOOR:
                other = _lock(root, file.stem)
                _wait_for(other, verb, progress)
                other.release()
                file.unlink(missing_ok=True)
                _note_of(other).unlink(missing_ok=True)
        _sign(door, verb)
        yield
    finally:
        door.release()


@contextmanager
def beside_others_in(root: Path, verb: str, progress: Progress) -> Iterator[None]:
    """Be in the study's folder with others who share out runs; waits for one who has it alone."""
    door = _lock(root, _DOOR)
    own = _lock(root, f"{socket.gethostname()}-{os.getpid()}")
    _wait_for(door, verb, progress)
    try:
        own.acquire()
        _sign(own, verb)
    finally:
        door.release()
    try:
        yield
    finally:
        own.release()


def _lock(root: Path, name: str) -> BaseFileLock:
    folder = root / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{name}.lock", blocking=False)


def _wait_for(lock: BaseFileLock, verb: str, progress: Progress) -> None:
    told = None
    while True:
        try:
            lock.acquire()
            return
        except Timeout:
            if (holder := _holder(lock)) != told:
                progress.note(f"{verb}: waiting for {holder}")
                told = holder
            time.sleep(_LOOK_INTERVAL_S)


def _note_of(lock: BaseFileLock) -> Path:
    return Path(lock.lock_file).with_suffix(".json")


def _sign(lock: BaseFileLock, verb: str) -> None:
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    write_json(_note_of(lock), {"verb": verb, "host": socket.gethostname(), "pid": os.getpid(), "since": now})


def _holder(lock: BaseFileLock) -> str:
    """Who holds a lock, in words."""
    file = _note_of(lock)
    if not file.exists():
        return "somebody else who is in the study's folder"
    holder: dict[str, Any] = read_json(file)
    return (
        f"process {holder['pid']} on {holder['host']}, which is at `{holder['verb']}` in the study's folder "
        f"since {holder['since']}"
    )
