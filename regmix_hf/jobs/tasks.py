"""What pool and workers know of the work: its pieces, when one is done, and what they tell each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from regmix_hf.errors import RegmixError


@dataclass(frozen=True)
class Task:
    """One run to be done.

    Attributes:
        name: Unique among the tasks of one pool.
        folder: Where it is claimed, counted and recorded; of this task alone.
        num_tokens: Its size.
        spec: What the work needs to know; must pickle.
    """

    name: str
    folder: Path
    num_tokens: int
    spec: Any


class Work(Protocol):
    """How tasks are done. Pickled to every worker once; its methods are called where they are needed."""

    def open(self) -> Callable[[Task], None]:
        """Load what all tasks need, in a worker, and return what does one task and records its result."""

    def status(self, task: Task) -> str | None:
        """Tell how a task ended (`ok`, `diverged`, `failed`), or `None` when it has not."""

    def fail(self, task: Task, reason: str) -> None:
        """Record that a task cannot be done."""


@dataclass(frozen=True)
class Ready:
    """Everything is loaded; tasks may come."""


@dataclass(frozen=True)
class Settled:
    """The task has a result with this status."""

    status: str


@dataclass(frozen=True)
class Elsewhere:
    """Somebody else holds the claim on the task."""


@dataclass(frozen=True)
class Refused:
    """No task can be done before the user has mended something."""

    error: RegmixError | OSError


Message = Ready | Settled | Elsewhere | Refused
