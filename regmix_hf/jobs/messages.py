"""What the pool and a worker tell each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from regmix_hf.errors import RegmixError
from regmix_hf.jobs.tasks import Task


@dataclass(frozen=True)
class Assignment:
    """A task for a worker to do.

    Attributes:
        task: The task.
        dead: The lease of one who did it before and is known to be dead, for `claims.take`.
    """

    task: Task[Any]
    dead: str | None = None


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
class Raised:
    """The task ended in an exception, and the worker with it: after some errors of a GPU all else fails, too.

    Attributes:
        reason: Type and message of the exception.
        out_of_memory: The task did not fit.
    """

    reason: str
    out_of_memory: bool


@dataclass(frozen=True)
class Refused:
    """No task can be done before the user has mended something."""

    error: RegmixError | OSError


Message = Ready | Settled | Elsewhere | Raised | Refused
