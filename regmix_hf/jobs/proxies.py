"""Proxy runs as the pool's work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from regmix_hf.jobs.results import result_of, write_failed
from regmix_hf.jobs.tasks import Task
from regmix_hf.jobs.tokens import TokenCount
from regmix_hf.training.spec import RunSpec, with_former_names


@dataclass(frozen=True)
class ProxyWork:
    """Trains proxies on one corpus.

    Attributes:
        corpus: The folder that `prepare` wrote.
    """

    corpus: Path

    def open(self) -> Callable[[Task], None]:
        """Import what trains and open the corpus."""
        from regmix_hf.corpus.corpus import Corpus
        from regmix_hf.training.run import train_run

        corpus = Corpus(self.corpus)

        def do(task: Task) -> None:
            train_run(task.spec, corpus, task.folder, TokenCount(task.folder))

        return do

    def status(self, task: Task) -> str | None:
        """Read the status from the run's result."""
        result = result_of(task)
        return str(result["status"]) if result else None

    def fail(self, task: Task, reason: str) -> None:
        """Record the run as failed."""
        write_failed(task, reason)


def proxy_tasks(specs: Sequence[RunSpec], folder: Path) -> list[Task]:
    """Return one task per run, in order; mixtures that are the same run are one task."""
    specs = with_former_names(specs, (folder / spec.former_id for spec in specs))
    unique = {spec.run_id: spec for spec in reversed(specs)}  # the first of equal runs stays
    return [Task(name, folder / name, spec.num_tokens, spec) for name, spec in reversed(list(unique.items()))]
