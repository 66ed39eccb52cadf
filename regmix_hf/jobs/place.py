"""The one door to places that run jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from regmix_hf.jobs.devices import worker_slots
from regmix_hf.jobs.pool import Pool
from regmix_hf.jobs.ray_cluster import RayCluster
from regmix_hf.jobs.tasks import PortableWork, Task
from regmix_hf.progress import Progress
from regmix_hf.recipe import Executor
from regmix_hf.training.device import uses_cpu

#: The work that a place takes: any `Work`, or one kind of it.
W = TypeVar("W", contravariant=True)


class Place(Protocol[W]):
    """Where jobs are run: this machine's workers, launches of `accelerate`, a cluster.

    A place decides who does which task and carries specs there and results back. It keeps to
    `regmix_hf.jobs.dispatch` in what is open and what becomes of a task that fails, and to
    `regmix_hf.jobs.results` in how an end is recorded: every end has its `result.json` in `Task.folder`.
    """

    def run(self, tasks: Sequence[Task[Any]], work: W, progress: Progress) -> Counter[str]:
        """Do all tasks that have no result yet, and return when all have one.

        Args:
            tasks: What to do; the same list, in the same order, in every place that shares the work.
            work: How to do it.
            progress: Shown tokens, and how tasks ended.

        Returns:
            How many tasks ended with which status (`ok`, `diverged`, `failed`), those that had a result
            before included.

        Raises:
            RegmixError: All tasks need something mended, or nothing can be started.
            OSError: The disk is full.
        """


class SharedPlace(Place[W], Protocol[W]):
    """A place whose tasks others may be at, too."""

    def staying(self) -> Self:
        """The same place, for one who cannot go on before others have ended what they are at."""


def place_of(
    executor: Executor, logs: Path, training_args: Mapping[str, Any], num_workers: int | None = None
) -> SharedPlace[PortableWork[Any]]:
    """Where a recipe says that tasks are done: on Ray, or by workers of this machine.

    Args:
        executor: The recipe's section.
        logs: Folder for what workers of this machine print.
        training_args: They say whether GPUs are left alone.
        num_workers: Of this machine; default: one per GPU, or per core.
    """
    if executor.place == "ray":
        return RayCluster(executor.ray, stays=executor.wait)
    return Pool(worker_slots(num_workers, use_cpu=uses_cpu(training_args)), logs, stays=executor.wait)
