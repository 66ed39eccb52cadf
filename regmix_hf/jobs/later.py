"""Measurements of runs that have ended, by the models that they kept: each by one process on one device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from regmix_hf.files import hash_value
from regmix_hf.jobs.place import Place
from regmix_hf.jobs.results import forget_failed, result_of, row_with_later
from regmix_hf.jobs.tasks import Do, Task, telling_out_of_memory
from regmix_hf.progress import Progress
from regmix_hf.readable import count_of, short
from regmix_hf.study import names
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.training.later import KeptRun, asked_in_words
from regmix_hf.training.measured import KEPT_MODEL, MEASURED_ON, measured_on, not_measured
from regmix_hf.training.spec import RunSpec


@dataclass(frozen=True)
class LaterWork:
    """Measures kept models on one corpus.

    Attributes:
        corpus: The folder that `prepare` wrote.
    """

    corpus: Path

    def open(self) -> Do[KeptRun]:
        """Import what measures and open the corpus."""
        from regmix_hf.corpus.corpus import Corpus
        from regmix_hf.training.later import measure_kept

        corpus = Corpus(self.corpus)

        def do(spec: KeptRun, folder: Path, on_tokens: Callable[[int], None]) -> None:
            with telling_out_of_memory():
                measure_kept(spec, corpus, folder)
            on_tokens(spec.num_tokens(corpus.facts))

        return do

    def smaller(self, spec: KeptRun) -> KeptRun | None:
        """Half as many blocks at once."""
        at_once = int(spec.run.training_args.get("per_device_eval_batch_size", spec.run.micro_batch))
        return replace(spec, halvings=spec.halvings + 1) if at_once >> spec.halvings > 1 else None

    def moved(self, place: Callable[[Path], Path]) -> Self:
        """Read the corpus where `place` has it."""
        return replace(self, corpus=place(self.corpus))

    def brought(self, spec: KeptRun, place: Callable[[Path], Path]) -> KeptRun:
        """Read the model where `place` has it."""
        return replace(spec, model=place(spec.model))


def kept_in(folder: Path) -> str | None:
    """Say how many models runs have kept in a stage's folder, and how large they are; `None`: none is."""
    models = [path for path in folder.glob(f"*/{names.MODEL}") if (path.parent / names.RESULT).exists()]
    size = sum(file.stat().st_size for path in models for file in path.iterdir())
    return f"{count_of(len(models), 'kept model')} in {folder}, {short(size)} bytes" if models else None


def measure_later(
    later: Sequence[Task[KeptRun]], corpus: Path, place: Place[LaterWork], progress: Progress
) -> None:
    """Measure kept models on what is asked since their runs ended; what failed before is tried again."""
    forget_failed(later)
    asked = asked_in_words({name: None for task in later for name in task.spec.asked})
    progress.note(
        f"{asked}: measured of {count_of(len(later), 'run')} by kept models; nothing is trained again"
    )
    place.run(later, LaterWork(corpus), progress)


def later_tasks(tasks: Sequence[Task[RunSpec]], facts: CorpusFacts) -> list[Task[KeptRun]]:
    """Return one task for each run that ended well, kept its model, and was not measured on all of now.

    Each has a folder in that of its run, named by what is asked, so that what was measured before stays.
    """
    found = []
    for task in tasks:
        row = result_of(task)
        if row is None or row["status"] != "ok" or (model := _model_of(task, row)) is None:
            continue
        asked = not_measured(row_with_later(task, row), task.spec)
        if not asked:
            continue
        spec = KeptRun(task.spec, model, row.get(KEPT_MODEL), asked)
        words = measured_on(asked)
        head = {"run_id": task.spec.run_id, MEASURED_ON: words}
        found.append(
            Task(
                task.name,
                task.folder / names.LATER / hash_value(words)[:16],
                spec.num_tokens(facts),
                spec,
                head,
                identity=MEASURED_ON,
                leaves=task.leaves,
            )
        )
    return found


def _model_of(task: Task[RunSpec], row: Mapping[str, Any]) -> Path | None:
    """The folder of the model that a run left, if it is there still; final runs leave theirs always."""
    if task.spec.split == "final":
        return task.folder if any(task.folder.glob("*.safetensors")) else None
    model = task.folder / names.MODEL
    return model if KEPT_MODEL in row and model.is_dir() else None
