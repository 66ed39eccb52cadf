"""Worker processes and the tasks they share out: restarted when they die, ended when their pool does.

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
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import wait
from pathlib import Path

from regmix_hf.errors import TrainingError
from regmix_hf.jobs.claims import claim
from regmix_hf.jobs.devices import Slot
from regmix_hf.jobs.tasks import Elsewhere, Message, Ready, Refused, Settled, Task, Work
from regmix_hf.jobs.tokens import tokens_so_far
from regmix_hf.progress import Bar, Progress

#: Times a task is begun though its workers die, and a worker started though it dies before it is ready.
MAX_ATTEMPTS = 3
#: Seconds between two looks at what others do, and two updates of the bar.
_LOOK_INTERVAL_S = 0.5
#: Seconds a closed worker gets to end before it is killed.
_GRACE_S = 5.0


def run_tasks(
    tasks: Sequence[Task], work: Work, slots: Sequence[Slot], *, logs: Path, progress: Progress
) -> Counter[str]:
    """Do all tasks that have no result yet, in their order, one at a time per slot.

    Tasks that another pool has claimed are left to it and waited for; when it dies, they are done here.

    Args:
        tasks: What to do; the same list, in the same order, in every pool that shares the work.
        work: How to do it.
        slots: One worker each; no more are started than there are tasks.
        logs: Folder for what workers print.
        progress: Shown tokens, and how tasks ended.

    Returns:
        How many tasks ended with which status, those that had a result before included.

    Raises:
        RegmixError: A task needs something mended that all tasks need, or no worker can start.
        OSError: The disk is full.
    """
    dispatch = _Dispatch(tasks, work)
    if dispatch.queue:
        total = sum(task.num_tokens for task in dispatch.queue)
        with (
            _crew(work, slots[: len(dispatch.queue)], logs) as crew,
            progress.bar(f"{len(dispatch.queue)} runs", total=total, unit="tokens") as bar,
        ):
            _work_off(dispatch, crew, bar)
    return dispatch.counts


def _work_off(dispatch: _Dispatch, crew: list[_Worker], bar: Bar) -> None:
    next_look = 0.0
    while dispatch.is_open:
        for worker in crew:
            if worker.is_idle and (task := dispatch.next()):
                worker.do(task)
        wait([worker.connection for worker in crew], timeout=_LOOK_INTERVAL_S)
        for worker in crew:
            for message in worker.messages():
                dispatch.take(worker, message)
            if worker.is_dead:
                dispatch.bury(worker)
                worker.start()
        if time.monotonic() >= next_look:
            dispatch.look_elsewhere()
            bar.update(dispatch.num_tokens, detail=dispatch.summary)
            next_look = time.monotonic() + _LOOK_INTERVAL_S
    bar.update(dispatch.num_tokens, detail=dispatch.summary)


class _Worker:
    """One worker process, started again in the same slot when it dies."""

    def __init__(self, work: Work, slot: Slot, log: Path):
        self.log = log
        self.task: Task | None = None
        self._work, self._slot = work, slot
        self._failed_starts = 0
        self.start()

    def start(self) -> None:
        """Start the process; it says `Ready` once it has loaded everything."""
        self.is_ready = False
        self.connection, theirs = Pipe()
        with theirs, self.log.open("a") as log:
            self.process = subprocess.Popen(
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

    def do(self, task: Task) -> None:
        """Hand it a task."""
        self.task = task
        self._say(task)

    def messages(self) -> Iterator[Message]:
        """Read what it has said."""
        try:
            while not self._is_cut and self.connection.poll():
                yield self.connection.recv()
        except (EOFError, OSError):
            self._is_cut = True

    def _say(self, thing: Work | Task) -> None:
        try:
            self.connection.send(thing)
        except OSError:  # it died; the pool sees that at its next turn
            self._is_cut = True

    def end(self) -> str:
        """Make sure the process is gone; return how it ended, in words."""
        self.connection.close()
        try:
            code = self.process.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        return ended(code)

    def count_start(self) -> None:
        """Count a process that died before it was ready.

        Raises:
            TrainingError: It was one too many.
        """
        self._failed_starts += 1
        if self._failed_starts >= MAX_ATTEMPTS:
            raise TrainingError(
                f"a worker could not start: {ended(self.process.returncode)}.\n{last_lines(self.log)}",
                f"all of it is in {self.log}",
            )


@dataclass
class _Dispatch:
    """Which tasks are open, who does them, how they ended."""

    tasks: Sequence[Task]
    work: Work
    queue: deque[Task] = field(init=False)
    counts: Counter[str] = field(default_factory=Counter)
    num_settled_tokens: int = 0
    _in_hand: dict[str, Task] = field(default_factory=dict)
    _elsewhere: list[Task] = field(default_factory=list)
    _deaths: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.queue = deque()
        for task in self.tasks:
            status = self.work.status(task)
            if status is None:
                self.queue.append(task)
            else:
                self.counts[status] += 1

    @property
    def is_open(self) -> bool:
        """Whether any task has no result yet."""
        return bool(self.queue or self._in_hand or self._elsewhere)

    @property
    def num_tokens(self) -> int:
        """Tokens trained on since the pool began, by anybody."""
        running = [*self._in_hand.values(), *self._elsewhere]
        return self.num_settled_tokens + sum(min(tokens_so_far(t.folder), t.num_tokens) for t in running)

    @property
    def summary(self) -> str:
        words = {"ok": "done", "diverged": "diverged", "failed": "failed"}
        return ", ".join(f"{self.counts[status]} {word}" for status, word in words.items())

    def next(self) -> Task | None:
        """Take the next task in order that has no result yet."""
        while self.queue:
            task = self.queue.popleft()
            if (status := self.work.status(task)) is None:
                self._in_hand[task.name] = task
                return task
            self._settle(task, status)
        return None

    def take(self, worker: _Worker, message: Message) -> None:
        """Note what a worker said."""
        match message:
            case Ready():
                worker.is_ready = True
            case Settled(status):
                self._settle(self._off_hand(worker), status)
            case Elsewhere():
                self._elsewhere.append(self._off_hand(worker))
            case Refused(error):
                raise error

    def bury(self, worker: _Worker) -> None:
        """Note the death of a worker: its task is tried again, until it has cost too many."""
        was_ready, how = worker.is_ready, worker.end()
        if not was_ready:
            worker.count_start()
        if worker.task is None:
            return
        task = self._off_hand(worker)
        self._deaths[task.name] += 1
        if self._deaths[task.name] < MAX_ATTEMPTS:
            self.queue.appendleft(task)
            return
        with claim(task.folder) as granted:
            if granted and self.work.status(task) is None:
                self.work.fail(
                    task, f"its worker died {MAX_ATTEMPTS} times, the last time {how}; see {worker.log}"
                )
        self._elsewhere.append(task)  # settled at the next look, by whoever recorded it

    def look_elsewhere(self) -> None:
        """See which tasks others have finished; try the rest again when nothing else is left."""
        for task in self._elsewhere.copy():
            if status := self.work.status(task):
                self._elsewhere.remove(task)
                self._settle(task, status)
        if not self.queue:
            self.queue.extend(self._elsewhere)
            self._elsewhere.clear()

    def _off_hand(self, worker: _Worker) -> Task:
        task = worker.task
        assert task is not None, "workers speak of the task they were given"
        worker.task = None
        return self._in_hand.pop(task.name)

    def _settle(self, task: Task, status: str) -> None:
        self.counts[status] += 1
        self.num_settled_tokens += task.num_tokens


@contextmanager
def _crew(work: Work, slots: Sequence[Slot], logs: Path) -> Iterator[list[_Worker]]:
    """Start one worker per slot; whatever happens, none is left behind."""
    logs.mkdir(parents=True, exist_ok=True)
    crew: list[_Worker] = []
    try:
        for k, slot in enumerate(slots):
            crew.append(_Worker(work, slot, logs / f"{socket.gethostname()}-{os.getpid()}-{k}.log"))
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


def last_lines(log: Path, count: int = 15) -> str:
    """Return the end of a log, indented."""
    lines = log.read_text(errors="replace").splitlines()[-count:]
    return "\n".join(f"    {line}" for line in lines)
