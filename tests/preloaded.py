"""Python processes that begin with the heavy imports done.

A new interpreter takes four to ten seconds of a processor to import torch, transformers and what belongs to
them, and most tests of processes ask nothing about that. With `start_as(Mode.PRELOADED)`, whatever this
process starts as `[sys.executable, ...]`, through `subprocess` or `multiprocessing`, is forked instead from a
parent (`tests/forking.py`) that has imported all of it, has one thread and has run nothing. Product code
knows nothing of this.

What is started so is a process like any other: a child of whoever asked for it (the parent forks twice, and
the orphan is given to the asker, a "subreaper"), with its own id, signals, exit code, session, environment,
files and working directory. It has such a parent itself, so the workers, launchers and ranks that it starts
begin the same way. These differ from a new interpreter, and a test about them starts a cold process:

- imports are done (`sys.modules`), and with them what they read of the environment; `huggingface_hub`,
  `datasets` and `evaluate` read theirs again, and `regmix_hf` reads none when it is imported;
- all processes forked from one parent hash strings alike;
- it ends once its threads have, what was registered to run at its end has and its streams are flushed:
  modules are not taken apart object by object, which took ten times the start;
- each process has one more child, its parent for others, called `preloaded` (`family` leaves it out), and
  `/proc` shows the command line of the first parent.

Commands with other flags of the interpreter than `-u` and `-B`, with a user, or with `preexec_fn` are started
as ever.
"""

from __future__ import annotations

import _posixsubprocess
import atexit
import contextlib
import ctypes
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import psutil

#: Files of a started process have lower numbers, while it is being made; the kernel's usual limit is 1024.
FIRST_OWN_FILE = 512
#: What parents are called in the list of processes, where others are `python`.
NAME = "preloaded"
PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 15, 36


@dataclass(frozen=True)
class Start:
    """A process to be: `argv` without the interpreter and its flags, and the numbers its files get."""

    argv: list[str]
    cwd: str
    environment: dict[str, str]
    is_unbuffered: bool
    is_new_session: bool
    process_group: int
    files: list[int]


class Parent:
    """The other side: a process that forks when it is asked to, and ends with the one that may ask."""

    def __init__(self, control: socket.socket):
        self._control = control
        self._lock = threading.Lock()

    def start(self, start: Start, files: list[int]) -> int:
        """Have a child of this process started, with `files` under the numbers of `start.files`; its id."""
        content = json.dumps(asdict(start)).encode()
        with self._lock:
            socket.send_fds(self._control, [struct.pack("q", len(content))], files)
            self._control.sendall(content)
            return int(struct.unpack("q", exactly(self._control, 8))[0])

    def close(self) -> None:
        self._control.close()


class Mode(Enum):
    """How this process starts Python processes."""

    COLD = "new interpreters"
    PRELOADED = "forked from a parent that has the imports done"
    NOT = "not at all"


class Starter:
    """How this process starts others, and the parent that it has them forked from."""

    def __init__(self) -> None:
        self.mode = Mode.COLD
        self.parent: Parent | None = None
        self.environment = dict(os.environ)

    def ready(self) -> Parent:
        """Return the parent; the first of a family is a new interpreter."""
        if self.parent is None:
            become_subreaper()
            ours, theirs = socket.socketpair()
            with theirs, starting(Mode.COLD):
                process = subprocess.Popen(
                    [sys.executable, "-m", "tests.forking", str(theirs.fileno())],
                    cwd=Path(__file__).parents[1],
                    pass_fds=[theirs.fileno()],
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
            self.parent = Parent(ours)
            atexit.register(_end, self.parent, process)
        return self.parent

    def forget(self) -> None:
        """In a process that was forked by other means: the parent starts children of another one."""
        self.mode, self.parent = Mode.COLD, None


starter = Starter()
os.register_at_fork(after_in_child=starter.forget)
_fork_exec = _posixsubprocess.fork_exec


def start_as(mode: Mode) -> None:
    """Start Python processes so from now on."""
    _posixsubprocess.fork_exec = subprocess._fork_exec = _start
    starter.mode = mode


@contextlib.contextmanager
def starting(mode: Mode) -> Iterator[None]:
    """Start Python processes so meanwhile; what is started cold starts all its own cold."""
    before = starter.mode
    start_as(mode)
    try:
        yield
    finally:
        start_as(before)


def family(pid: int) -> list[psutil.Process]:
    """Return what a process has started, and what that has, without the parents of preloaded ones."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it may have ended since
            if child.name() != NAME:
                found.append(child)
    return found


def _start(*arguments: Any) -> int:
    """Stand in for `_posixsubprocess.fork_exec`, whose arguments have these places in Python 3.11 to 3.13."""
    args, executables, close_fds, keep, cwd, env = arguments[:6]
    stdin, _, _, stdout, _, stderr, _, report = arguments[6:14]
    new_session, group, gid, gids, uid, umask, before_exec = arguments[15:22]
    if starter.mode is Mode.COLD or os.fsdecode(executables[0]) != sys.executable:
        return int(_fork_exec(*arguments))
    if starter.mode is Mode.NOT:
        raise AssertionError(
            "this test starts a Python process: mark it, or its module, with `pytest.mark.processes`, "
            "or with `pytest.mark.cold_processes` where a new interpreter matters"
        )
    argv = _program([os.fsdecode(word) for word in args[1:]])
    is_plain = close_fds and (gid, gids, uid, umask, before_exec) == (None, None, None, -1, None)
    kept = [file for file in keep if file != report]
    if argv is None or not is_plain or max(kept, default=0) >= FIRST_OWN_FILE:
        return int(_fork_exec(*arguments))
    standard = [given if given >= 0 else own for own, given in enumerate((stdin, stdout, stderr))]
    if env is not None:
        env = dict(os.fsdecode(entry).split("=", 1) for entry in env)
    start = Start(
        argv=argv,
        cwd=os.path.realpath(os.fsdecode(cwd) if cwd is not None else "."),
        environment=dict(os.environ) if env is None else env,
        is_unbuffered="-u" in map(os.fsdecode, args[1 : len(args) - len(argv)]),
        is_new_session=new_session,
        process_group=group,
        files=[0, 1, 2, *kept],
    )
    return starter.ready().start(start, [*standard, *kept])


def _program(words: list[str]) -> list[str] | None:
    """What follows the interpreter's flags; `None` if a running interpreter cannot take one of them."""
    while words and words[0] in ("-u", "-B"):
        words = words[1:]
    if not words or (words[0].startswith("-") and words[0] not in ("-c", "-m")):
        return None
    return words


def exactly(control: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        more = control.recv(size - len(content))
        if not more:
            raise EOFError("the other process is gone")
        content += more
    return content


def become_subreaper() -> None:
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def prctl(option: int, value: int | bytes) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {option} failed")


def _end(parent: Parent, process: subprocess.Popen[bytes]) -> None:
    parent.close()
    process.wait()
