"""What a place needs to know of work: its pieces, how one is done, and what to do about one too large."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeAlias, TypeVar

from regmix_hf.files import hash_value

#: What a kind of work needs to know of one piece of it; must pickle.
Spec = TypeVar("Spec")
#: Does one task: what it is, a folder to leave whole files in, `result.json` last, and whom to tell how many
#: tokens are done.
Do: TypeAlias = Callable[[Spec, Path, Callable[[int], None]], None]


@dataclass(frozen=True)
class Task(Generic[Spec]):
    """One piece of work.

    Attributes:
        name: Unique among the tasks of a stage.
        folder: Of this task alone, in the study: where it is claimed, counted and recorded.
        num_tokens: Its size.
        spec: What the work needs to know.
        head: What its result says whatever becomes of it.
        identity: The key of `head` by which a result is known to be that of this task.
        leaves: Files that it leaves beside a result that is `ok`; without them it is not done.
    """

    name: str
    folder: Path
    num_tokens: int
    spec: Spec
    head: Mapping[str, Any]
    identity: str = "run_id"
    leaves: tuple[str, ...] = ()


class Work(Protocol[Spec]):
    """One kind of work. Pickled to wherever its tasks are done, which need not be where the study is."""

    def open(self) -> Do[Spec]:
        """Load what all tasks need, where they are done, and return what does one.

        The folder it is given is the task's own, or one with room whose files the place brings there, the
        result last. It raises `OutOfMemoryError` when the task did not fit.
        """

    def smaller(self, spec: Spec) -> Spec | None:
        """Return the same task in smaller bites, to the same numbers but for noise; `None` without any."""


class PortableWork(Work[Spec], Protocol[Spec]):
    """Work that can be done on machines which do not see what it reads."""

    def moved(self, place: Callable[[Path], Path]) -> Self:
        """Return the same work with every file and folder that all tasks read where `place` has it."""

    def brought(self, spec: Spec, place: Callable[[Path], Path]) -> Spec:
        """Return the same task with every folder that it alone reads where `place` has it."""


class OutOfMemoryError(Exception):
    """A task did not fit into memory as it was."""


@contextmanager
def telling_out_of_memory() -> Iterator[None]:
    """Raise `OutOfMemoryError` for what libraries raise when memory of a device runs out."""
    from accelerate.utils.memory import should_reduce_batch_size

    try:
        yield
    except Exception as error:
        if should_reduce_batch_size(error):
            raise OutOfMemoryError(str(error)) from error
        raise


def in_shard(tasks: Sequence[Task[Spec]], number: int, count: int) -> list[Task[Spec]]:
    """Return the tasks of one of `count` shards, which are about equal; `number` is counted from 1."""
    return [task for task in tasks if int(hash_value(task.name), 16) % count == number - 1]
