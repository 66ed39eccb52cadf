"""How many tasks are done, being done, failed and left, from what lies in their folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regmix_hf.errors import StudyError
from regmix_hf.jobs.claims import Standing, Watch
from regmix_hf.jobs.results import ended_well, reason_of, status_of
from regmix_hf.jobs.tasks import Task
from regmix_hf.jobs.tokens import Doer, doer_of, tokens_so_far
from regmix_hf.study.names import RESULT, TOKENS


@dataclass(frozen=True)
class Census:
    """The tasks of one stage at one moment.

    Attributes:
        ended: Status -> how many ended with it.
        running: Tasks that somebody holds, and who.
        failed: Tasks that failed, and why.
        num_left: Tasks that nobody has begun, or that lost whoever did.
        tokens_left: Of these and the running ones.
    """

    ended: dict[str, int] = field(default_factory=dict)
    running: tuple[tuple[Task[Any], Doer], ...] = ()
    failed: tuple[tuple[Task[Any], str], ...] = ()
    num_left: int = 0
    tokens_left: int = 0

    @classmethod
    def total(cls, parts: Sequence[Census]) -> Census:
        """Count the tasks of several together."""
        ended = {status for part in parts for status in part.ended}
        return cls(
            {status: sum(part.ended.get(status, 0) for part in parts) for status in sorted(ended)},
            tuple(pair for part in parts for pair in part.running),
            tuple(pair for part in parts for pair in part.failed),
            sum(part.num_left for part in parts),
            sum(part.tokens_left for part in parts),
        )

    @property
    def num_done(self) -> int:
        """How many ended and are not tried again: those that diverged, too."""
        return sum(self.ended.values()) - len(self.failed)

    @property
    def seconds_left(self) -> float | None:
        """Time that the rest takes at the speed of those who are at it now; `None` when nobody is."""
        speed = sum(doer.tokens_per_second for _, doer in self.running)
        return self.tokens_left / speed if speed else None


def take_census(tasks: Sequence[Task[Any]], folder: Path) -> Census:
    """Count tasks, without disturbing those who do them.

    Args:
        tasks: Of one stage.
        folder: Of the stage. A result that its table of results holds is not read again where it lies.
    """
    watch, collected = Watch(), ended_well(folder)
    ended: Counter[str] = Counter()
    running, failed, num_left, tokens_left = [], [], 0, 0
    for task in tasks:
        known = collected.get(task.head[task.identity])
        try:
            status = known if known and (task.folder / RESULT).exists() else status_of(task)
        except StudyError as error:  # the others are counted all the same
            ended["failed"] += 1
            failed.append((task, error.message))
            continue
        if status:
            ended[status] += 1
            if status == "failed":
                failed.append((task, reason_of(task)))
            continue
        tokens_left += task.num_tokens
        if doer := _doer_now(task, watch):
            running.append((task, doer))
            tokens_left -= min(tokens_so_far(task.folder), task.num_tokens)
        else:
            num_left += 1
    return Census(dict(ended), tuple(running), tuple(failed), num_left, tokens_left)


def _doer_now(task: Task[Any], watch: Watch) -> Doer | None:
    """Who does the task at this moment, or did when he was last heard of."""
    if not (task.folder / TOKENS).exists():
        return None
    standing, _ = watch.look(task.folder)
    return None if standing is Standing.FREE else doer_of(task.folder)
