"""This machine as a place to run jobs: worker processes that share out tasks, ended when their pool does.

Why not a library: a task here may take its process down (out of memory, a crash in a kernel), each process
needs its own environment from its first instruction on (threads, GPU), and no run may be lost.
`concurrent.futures` and loky give up every pending task when one worker dies, and pebble shares locks between
its workers. Here each worker has a pipe of its own to the pool and shares nothing: a kill breaks one pipe.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from regmix_hf.errors import TrainingError
from regmix_hf.jobs.devices import Slot
from regmix_hf.jobs.dispatch import Dispatch
from regmix_hf.jobs.messages import Assignment, Elsewhere, Message, Raised, Ready, Refused, Settled
from regmix_hf.jobs.tasks import Task, Work
from regmix_hf.progress import Bar, Progress
from regmix_hf.readable import count_of

#: Times in a row that a worker may die before it is ready.
_MAX_STARTS = 3
#: Seconds between two looks at what others do, and two updates of the bar.
_LOOK_INTERVAL_S = 0.5
#: Seconds a closed worker gets to end before it is killed.
_GRACE_S = 5.0


class NoWorkerError(TrainingError):
    """Workers die here before they are ready, whatever they are given to do."""


@dataclass(frozen=True)
class Pool:
    """Workers of this machine, one task at a time each; a `regmix_hf.jobs.place.Place` for every work.

    Tasks that another pool has claimed are left to it; when it dies, they are done here.

    Attributes:
        slots: One worker each; no more are started than there are tasks.
        logs: Folder for what workers print before they begin a task.
        stays: Whether it stays until others have ended their tasks, or leaves them alone with those.
    """

    slots: Sequence[Slot]
    logs: Path
    stays: bool = True

    def run(self, tasks: Sequence[Task[Any]], work: Work[Any], progress: Progress) -> Counter[str]:
        """Do all tasks that have no result yet, in their order (see `Place.run`)."""
        dispatch = Dispatch(tasks, work)
        if num_open := len(dispatch.queue):
            total = sum(task.num_tokens for task in dispatch.queue)
            with (
                _crew(work, self.slots[:num_open], self.logs) as crew,
                progress.bar(count_of(num_open, "run"), total=total, unit="tokens") as bar,
            ):
                _work_off(dispatch, crew, bar, stays=self.stays)
        return dispatch.counts

    def staying(self) -> Pool:
        """The same workers, which stay until others have ended their tasks."""
        return replace(self, stays=True)


def _work_off(dispatch: Dispatch, crew: list[_Worker], bar: Bar, *, stays: bool) -> None:
    next_look = 0.0
    while dispatch.is_open and (stays or not dispatch.is_left_to_others):
        for worker in crew:
            if worker.is_idle and (assignment := dispatch.next()):
                worker.do(assignment)
        wait([worker.connection for worker in crew], timeout=_LOOK_INTERVAL_S)
        for worker in crew:
            for message in worker.messages():
                _take(dispatch, worker, message)
            if worker.is_dead:
                how = worker.end()
                if worker.task is not None:
                    dispatch.broke(worker.off_hand(), f"its worker died: {how}")
                worker.start()
        if time.monotonic() >= next_look:
            dispatch.look_elsewhere()
            bar.update(dispatch.num_tokens, detail=dispatch.summary)
            next_look = time.monotonic() + _LOOK_INTERVAL_S
    bar.update(dispatch.num_tokens, detail=dispatch.summary)


def _take(dispatch: Dispatch, worker: _Worker, message: Message) -> None:
    """Note what a worker said."""
    match message:
        case Ready():
            worker.is_ready = True
        case Settled(status):
            dispatch.ended(worker.off_hand(), status)
        case Elsewhere():
            dispatch.is_elsewhere(worker.off_hand())
        case Raised(reason, out_of_memory):
            note = dispatch.did_not_fit if out_of_memory else dispatch.broke
            note(worker.off_hand(), reason)
            worker.end()
            worker.start()
        case Refused(error):
            raise error


class _Worker:
    """One worker process, started again in the same slot when it dies."""

    def __init__(self, work: Work[Any], slot: Slot, log: Path):
        self.log = log
        self.task: Task[Any] | None = None
        self._work, self._slot = work, slot
        self._failed_starts, self.is_ready = 0, False
        self.start()

    def start(self) -> None:
        """Start the process, which says `Ready` once it has loaded everything.

        Raises:
            NoWorkerError: It died before it was ready, too many times in a row.
        """
        self._failed_starts = 0 if self.is_ready else self._failed_starts + 1
        if self._failed_starts > _MAX_STARTS:
            raise NoWorkerError(
                f"a worker could not start: {ended(self.process.returncode)}.\n{last_lines(self.log)}",
                f"all of it is in {self.log}",
            )
        self.is_ready = False
        self.connection, theirs = Pipe()
        with theirs, self.log.open("a") as log:
            self.process: subprocess.Popen[bytes] = subprocess.Popen(
                [sys.executable, "-m", "regmix_hf.jobs.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=self._slot.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._is_cut = False
        self._say(self._work)

    @property
    def is_idle(self) -> bool:
        return self.is_ready and self.task is None

    @property
    def is_dead(self) -> bool:
        """Whether the process ended; what it said before is read first."""
        return self._is_cut or (self.process.poll() is not None and not self.connection.poll())

    def do(self, assignment: Assignment) -> None:
        """Hand it a task."""
        self.task = assignment.task
        self._say(assignment)

    def messages(self) -> Iterator[Message]:
        """Read what it has said."""
        try:
            while not self._is_cut and self.connection.poll():
                yield self.connection.recv()
        except (EOFError, OSError):
            self._is_cut = True

    def _say(self, thing: Work[Any] | Assignment) -> None:
        try:
            self.connection.send(thing)
        except OSError:  # it died; the pool sees that at its next turn
            self._is_cut = True

    def off_hand(self) -> Task[Any]:
        """Take from it the task that it was given."""
        task = self.task
        assert task is not None, "workers speak of the task they were given"
        self.task = None
        return task

    def end(self) -> str:
        """Make sure the process is gone; return how it ended, in words."""
        self.connection.close()
        try:
            code = self.process.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        return ended(code)


@contextmanager
def _crew(work: Work[Any], slots: Sequence[Slot], logs: Path) -> Iterator[list[_Worker]]:
    """Start one worker per slot; whatever happens, none is left behind."""
    logs.mkdir(parents=True, exist_ok=True)
    crew: list[_Worker] = []
    try:
        for k, slot in enumerate(slots):
            crew.append(_Worker(work, slot, logs / f"worker-{socket.gethostname()}-{os.getpid()}-{k}.log"))
        yield crew
    finally:
        for worker in crew:
            worker.connection.close()
        for worker in crew:
            worker.end()
            if not worker.log.stat().st_size:
                worker.log.unlink()


def ended(code: int) -> str:
    """Say how a process ended, from its return code."""
    if code == -signal.SIGKILL:
        return "killed by SIGKILL, most likely because memory ran out (fewer workers need less)"
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"


def last_lines(log: Path) -> str:
    """Return the end of a log, indented."""
    lines = log.read_text(errors="replace").splitlines()[-15:]
    return "\n".join(f"    {line}" for line in lines)
