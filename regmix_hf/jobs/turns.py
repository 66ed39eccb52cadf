"""Whose turn it is in a study's folder: one process alone, or several that share out runs."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from regmix_hf.files import read_json, write_json
from regmix_hf.jobs.claims import LEASE_S, Lease, Standing, Watch, take
from regmix_hf.progress import Progress

#: In the study's folder. Who is alone holds the door; those who share pass through it, and hold a claim each.
_FOLDER, _DOOR = ".turns", "door"
#: Who holds one of these.
_NOTE = "holder.json"
#: Seconds between two tries while somebody else is in the folder.
_LOOK_INTERVAL_S = 0.2


@contextmanager
def alone_in(root: Path, verb: str, progress: Progress) -> Iterator[None]:
    """Have the study's folder `root` to oneself while the context lasts; waits for whoever is in it.

    Claims are those of `regmix_hf.jobs.claims`: they are free again when their holder dies.

    Args:
        root: Of the study.
        verb: What it is for, which those who wait are told.
        progress: Told whom it waits for.
    """
    with ExitStack() as stack:
        door = _enter(stack, root, _DOOR, verb, progress)
        for folder in sorted((root / _FOLDER).glob("*/")):
            if folder != door:
                with ExitStack() as of_another:
                    _enter(of_another, root, folder.name, verb, progress)
                shutil.rmtree(folder, ignore_errors=True)
        _sign(door, verb)
        yield


@contextmanager
def beside_others_in(root: Path, verb: str, progress: Progress) -> Iterator[None]:
    """Be in the study's folder with others who share out runs; waits for one who has it alone."""
    with ExitStack() as stack:
        with ExitStack() as at_the_door:
            _enter(at_the_door, root, _DOOR, verb, progress)
            _sign(_enter(stack, root, f"{socket.gethostname()}-{os.getpid()}", verb, progress), verb)
        yield


def _enter(stack: ExitStack, root: Path, name: str, verb: str, progress: Progress) -> Path:
    """Claim a folder of turns until `stack` is closed, however long that takes; return it."""
    folder, watch, told = root / _FOLDER / name, Watch(), None
    while True:
        standing, dead = watch.look(folder)
        if held := take(folder, dead):
            stack.callback(held.release)
            return folder
        if (words := _awaited(folder, standing)) != told:
            progress.note(f"{verb}: waiting {words}")
            told = words
        time.sleep(_LOOK_INTERVAL_S)


def _awaited(folder: Path, standing: Standing) -> str:
    """What one waits for who finds a claim held: on another machine its holder may have died long ago."""
    lease = Lease.newest(folder)
    lives = standing is Standing.ALIVE or lease is None or lease.is_of_here
    how = "for" if lives else f"up to {LEASE_S:.0f} s to see whether it lives:"
    return f"{how} {_holder(folder)}"


def _sign(folder: Path, verb: str) -> None:
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    write_json(folder / _NOTE, {"verb": verb, "host": socket.gethostname(), "pid": os.getpid(), "since": now})


def _holder(folder: Path) -> str:
    """Who holds a claim, in words."""
    if not (folder / _NOTE).exists():
        return "somebody else who is in the study's folder"
    holder: dict[str, Any] = read_json(folder / _NOTE)
    return (
        f"process {holder['pid']} on {holder['host']}, which is at `{holder['verb']}` in the study's folder "
        f"since {holder['since']}"
    )
