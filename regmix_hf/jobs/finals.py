"""Final runs: models to keep, each trained by all ranks of one launch together."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from regmix_hf.jobs.proxies import run_head
from regmix_hf.jobs.tasks import Do, Task
from regmix_hf.study.names import LEASE, LOCK, RESULT
from regmix_hf.training.spec import RunSpec, with_former_names


@dataclass(frozen=True)
class FinalWork:
    """Trains final models on one corpus, or straight from the text.

    Attributes:
        corpus: The folder that `prepare` wrote.
        recipe: A file by which every rank of a launch finds this work and its tasks.
    """

    corpus: Path
    recipe: Path

    @property
    def command(self) -> tuple[str, ...]:
        """The module that every rank runs, and its arguments."""
        return "regmix_hf.train", str(self.recipe)

    def open(self) -> Do[RunSpec]:
        """Import what trains and open the corpus."""
        from regmix_hf.corpus.corpus import Corpus
        from regmix_hf.training.run import train_final

        corpus = Corpus(self.corpus)

        def do(spec: RunSpec, folder: Path, on_tokens: Callable[[int], None]) -> None:
            train_final(spec, corpus, folder, on_tokens)

        return do

    def smaller(self, spec: RunSpec) -> None:
        """How a final run is laid out over its devices is for whoever launches it to say."""


def final_tasks(specs: Iterable[tuple[str, RunSpec]], folder: Path) -> list[Task[RunSpec]]:
    """Return one task per final run, in order, each in the folder of its name."""
    named = list(specs)
    folders = [folder / name for name, _ in named]
    of_now = with_former_names((spec for _, spec in named), folders)
    return [
        Task(place.name, place, spec.num_tokens, spec, run_head(spec))
        for place, spec in zip(folders, of_now, strict=True)
    ]


def make_ready(task: Task[RunSpec]) -> None:
    """Empty a folder that holds the finished model of another run; its result goes last."""
    marker = task.folder / RESULT
    if not marker.exists():
        return
    for path in task.folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in (RESULT, LOCK) and not path.name.startswith(LEASE):
            path.unlink()
    marker.unlink()
