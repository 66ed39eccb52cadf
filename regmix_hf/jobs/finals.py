"""Final runs: models to keep, each trained by all ranks of one launch together."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from regmix_hf.errors import TrainingError
from regmix_hf.files import read_record, write_json
from regmix_hf.jobs.claims import Watch
from regmix_hf.jobs.proxies import run_head, training_on
from regmix_hf.jobs.results import result_of, with_former_names
from regmix_hf.jobs.tasks import Do, Task
from regmix_hf.study.names import LEASE, LOCK, MICRO_BATCH, RESULT
from regmix_hf.training.layout import smaller_micro_batch
from regmix_hf.training.spec import RunSpec

#: Seconds between two looks at a copy that somebody else is making.
_LOOK_INTERVAL_S = 0.3


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
        from regmix_hf.training.run import train_final

        return training_on(self.corpus, train_final)


def final_tasks(specs: Iterable[tuple[str, RunSpec]], folder: Path) -> list[Task[RunSpec]]:
    """Return one task per name of a final run, in order, each in the folder of its name."""
    named = list(specs)
    folders = [folder / name for name, _ in named]
    of_now = with_former_names((spec for _, spec in named), folders)
    return [
        Task(place.name, place, spec.num_tokens, spec, run_head(spec))
        for place, spec in zip(folders, of_now, strict=True)
    ]


def fitted(task: Task[RunSpec]) -> RunSpec:
    """The run as it is tried next: with fewer blocks at once, where more did not fit into memory before."""
    file = task.folder / MICRO_BATCH
    said = read_record(file, run_id=str, micro_batch=int) if file.exists() else None
    if said is None or said["run_id"] != task.spec.run_id:
        return task.spec
    return task.spec.with_micro_batch(min(said["micro_batch"], task.spec.micro_batch))


def did_not_fit(task: Task[RunSpec], spec: RunSpec, num_devices: int, reason: str) -> TrainingError:
    """Note that a run is to be tried with half the blocks at once; return what there is to say of it.

    Args:
        task: The run.
        spec: As it was tried.
        num_devices: Which share out the blocks of a step.
        reason: What said that memory ran out.
    """
    size = smaller_micro_batch(spec.batch_blocks // num_devices, spec.micro_batch)
    if size is None:
        return TrainingError(
            f"{task.name}: not even one block at once fits into the memory of a device: {reason}",
            "use larger devices, training_args.gradient_checkpointing, or train.accelerate_config: fsdp2",
        )
    write_json(task.folder / MICRO_BATCH, {"run_id": spec.run_id, "micro_batch": size})
    return TrainingError(
        f"{task.name}: {spec.micro_batch} blocks at once do not fit into the memory of a device: {reason}",
        f"launch it again: it is then tried with {size}, and a step has as many tokens as before",
    )


def make_ready(task: Task[RunSpec]) -> None:
    """Empty a folder that holds the finished model of another run; its result goes last."""
    if (task.folder / RESULT).exists():
        _empty(task.folder)


def give(task: Task[RunSpec], run: Task[RunSpec]) -> None:
    """Leave a copy of a finished run in the folder of another name of its mixture, the result last.

    Raises:
        LostClaimError: Somebody else is making the copy by now.
    """

    def left_out(place: str, inside: list[str]) -> list[str]:
        result = {RESULT} if Path(place) == run.folder else set()  # what it was asked later has its own
        return [name for name in inside if name.startswith(".") or name in result]

    watch = Watch()
    while result_of(task) is None:
        with watch.claim(task.folder) as held:
            if held and result_of(task) is None:
                _empty(task.folder)
                shutil.copytree(run.folder, task.folder, ignore=left_out, dirs_exist_ok=True)
                row = {**read_record(run.folder / RESULT), "mixture_id": task.spec.mixture_id}
                held.check_now()
                write_json(task.folder / RESULT, row)
        if not held:
            time.sleep(_LOOK_INTERVAL_S)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in (RESULT, LOCK) and not path.name.startswith(LEASE):
            path.unlink()
    (folder / RESULT).unlink(missing_ok=True)
