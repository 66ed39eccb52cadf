"""What a worker tells the pool."""

from __future__ import annotations

from dataclasses import dataclass

from regmix_hf.errors import RegmixError


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
