"""What is open, and what becomes of a task that does not end well: the same in every place.

A task whose worker dies, and one that ends in an exception, is tried again, three times in all, each time in
a fresh process. One that does not fit into memory is tried in smaller bites for as long as there are any.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from regmix_hf.jobs.claims import Standing, Watch, claim
from regmix_hf.jobs.messages import Assignment
from regmix_hf.jobs.results import record_failed, status_of
from regmix_hf.jobs.tasks import Task, Work
from regmix_hf.jobs.tokens import tokens_so_far
from regmix_hf.study.names import LOG

#: Times a task is begun before it counts as failed.
MAX_ATTEMPTS = 3


@dataclass
class Dispatch:
    """Which tasks are open, which are being done here or by others, how they ended.

    Attributes:
        tasks: All of them, in order.
        work: What they are pieces of.
        queue: Tasks that nobody is known to be doing.
        counts: How many ended with which status.
    """

    tasks: Sequence[Task[Any]]
    work: Work[Any]
    queue: deque[Task[Any]] = field(init=False)
    counts: Counter[str] = field(default_factory=Counter)
    _num_settled_tokens: int = 0
    _in_hand: dict[str, Task[Any]] = field(default_factory=dict)
    _elsewhere: list[Task[Any]] = field(default_factory=list)
    _attempts: Counter[str] = field(default_factory=Counter)
    #: Why tasks that nobody tries again failed, until that is recorded.
    _failing: dict[str, str] = field(default_factory=dict)
    #: Leases of dead holders, by task.
    _dead: dict[str, str] = field(default_factory=dict)
    _living: set[str] = field(default_factory=set)
    _watch: Watch = field(default_factory=Watch)

    def __post_init__(self) -> None:
        self.queue = deque()
        for task in self.tasks:
            status = status_of(task)
            if status is None:
                self.queue.append(task)
            else:
                self.counts[status] += 1

    @property
    def is_open(self) -> bool:
        """Whether any task has no result yet."""
        return bool(self.queue or self._in_hand or self._elsewhere)

    @property
    def is_left_to_others(self) -> bool:
        """Whether all that is open is being done by others, who were seen to live."""
        open_ = {task.name for task in self._elsewhere}
        return (
            not self.queue and not self._in_hand and open_ <= self._living and not open_ & set(self._failing)
        )

    @property
    def num_tokens(self) -> int:
        """Tokens trained on since this began, by anybody."""
        running = [*self._in_hand.values(), *self._elsewhere]
        return self._num_settled_tokens + sum(min(tokens_so_far(t.folder), t.num_tokens) for t in running)

    @property
    def summary(self) -> str:
        """Say how many tasks ended how."""
        words = {"ok": "done", "diverged": "diverged", "failed": "failed"}
        return ", ".join(f"{self.counts[status]} {word}" for status, word in words.items())

    def next(self) -> Assignment | None:
        """Take the next task in order that has no result yet."""
        while self.queue:
            task = self.queue.popleft()
            if (status := status_of(task)) is None:
                self._in_hand[task.name] = task
                return Assignment(task, self._dead.pop(task.name, None))
            self._settle(task, status)
        return None

    def ended(self, task: Task[Any], status: str) -> None:
        """Note that a task in hand has a result."""
        self._settle(self._in_hand.pop(task.name), status)

    def is_elsewhere(self, task: Task[Any]) -> None:
        """Note that somebody else is doing a task that was in hand."""
        self._elsewhere.append(self._in_hand.pop(task.name))

    def did_not_fit(self, task: Task[Any], reason: str) -> None:
        """Try a task in hand again in smaller bites; without any it has failed."""
        spec = self.work.smaller(task.spec)
        if spec is None:
            self._fail(self._in_hand.pop(task.name), f"not even one block at once fits into memory: {reason}")
            return
        _write_down(task, f"{reason}\nit did not fit into memory: trying again with less at once")
        self.queue.appendleft(replace(self._in_hand.pop(task.name), spec=spec))

    def broke(self, task: Task[Any], reason: str) -> None:
        """Try a task in hand again that did not end, until it has been begun too often."""
        self._in_hand.pop(task.name)
        self._attempts[task.name] += 1
        attempt = self._attempts[task.name]
        if attempt >= MAX_ATTEMPTS:
            self._fail(task, f"{reason} ({MAX_ATTEMPTS} times tried)")
            return
        _write_down(task, f"attempt {attempt} of {MAX_ATTEMPTS}: {reason}")
        self.queue.appendleft(task)

    def gave_up(self, task: Task[Any], reason: str) -> None:
        """Note that a task in hand was tried often enough by somebody else."""
        self._fail(self._in_hand.pop(task.name), reason)

    def look_elsewhere(self) -> None:
        """See which tasks others have finished, and which are free again because whoever did them is gone."""
        for task in self._elsewhere.copy():
            status, (standing, dead) = status_of(task), self._watch.look(task.folder)
            if status is None and standing is Standing.FREE and (reason := self._failing.get(task.name)):
                with claim(task.folder, dead) as granted:
                    if granted and status_of(task) is None:
                        record_failed(task, reason)
                status = status_of(task)
            self._living.discard(task.name)
            if status:
                self._elsewhere.remove(task)
                self._settle(task, status)
            elif standing is Standing.ALIVE:
                self._living.add(task.name)
            elif standing is Standing.FREE and task.name not in self._failing:
                self._elsewhere.remove(task)
                self.queue.append(task)
                if dead:
                    self._dead[task.name] = dead

    def _fail(self, task: Task[Any], reason: str) -> None:
        _write_down(task, f"failed: {reason}")
        self._failing[task.name] = reason
        self._elsewhere.append(task)  # recorded at the next look, once whoever tried it has let go

    def _settle(self, task: Task[Any], status: str) -> None:
        self.counts[status] += 1
        self._num_settled_tokens += task.num_tokens


def _write_down(task: Task[Any], line: str) -> None:
    """Add a line to what the task's attempts have printed."""
    task.folder.mkdir(parents=True, exist_ok=True)  # a worker may die before it has claimed anything
    with (task.folder / LOG).open("a") as log:
        log.write(f"regmix_hf: {line}\n")
