"""Stage 3, `proxies`: one small model per mixture and seed, its losses on every domain over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from regmix_hf.errors import TrainingError
from regmix_hf.files import read_parquet
from regmix_hf.jobs.devices import Slot, worker_slots
from regmix_hf.jobs.pool import run_tasks
from regmix_hf.jobs.proxies import ProxyWork, proxy_tasks
from regmix_hf.jobs.results import collect, forget_failed, is_failed, reason_of
from regmix_hf.jobs.tasks import Task
from regmix_hf.progress import Progress
from regmix_hf.study import Stage, Study
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.tables import MIXTURES
from regmix_hf.training.spec import proxy_specs

STAGE = Stage(
    verb="proxies",
    folder="3-proxies",
    keys=("seed", "context_length", "proxy"),
    inputs=("1-corpus/corpus.json", "2-mixtures/mixtures.parquet"),
    outputs=("results.parquet", "trajectories.parquet"),
)


def run(study: Study, progress: Progress) -> None:
    """Train every proxy that has no result yet, one worker per GPU or core, and collect the tables.

    Runs that failed before are tried again. When some still fail, the tables are written and the stage stays
    unfinished, so that doing it again tries them again.

    Raises:
        TrainingError: Every run failed, or a key of the recipe stops all of them.
        OSError: The disk is full.
    """
    run_in(study, worker_slots(study.recipe.proxy.num_workers, use_cpu=uses_cpu(study)), progress)


def run_in(study: Study, slots: Sequence[Slot], progress: Progress) -> None:
    """Like `run`, with one worker in each of `slots`."""
    tasks = tasks_of(study)
    work = ProxyWork(study.corpus)
    if again := forget_failed(tasks):
        progress.note(f"trying {again} failed runs again")
    num_done = sum(work.status(task) is not None for task in tasks)
    if num_done:
        progress.note(f"{num_done} of {len(tasks)} runs are done already")
    counts = run_tasks(tasks, work, slots, logs=study.proxies / ".logs", progress=progress)
    failed = [task for task in tasks if is_failed(task)]
    if len(failed) == len(tasks):
        raise TrainingError(f"all {len(tasks)} runs failed, the first because {reason_of(failed[0])}")
    collect(tasks, study.proxies)
    if counts["diverged"]:
        progress.note(f"{counts['diverged']} of {len(tasks)} runs diverged; nothing is fitted on them")
    if failed:
        _complain(failed, progress)
    else:
        study.finish(STAGE, {"num_ok": counts["ok"], "num_diverged": counts["diverged"]})


def tasks_of(study: Study) -> list[Task]:
    """Return the study's proxy runs, in order.

    Raises:
        StudyError: There is no corpus, or there are no mixtures yet.
        TrainingError: The preset does not exist or the batch does not come out in whole blocks.
    """
    facts = CorpusFacts.load(study.corpus)
    mixtures = read_parquet(study.require(study.mixtures, "sample"), MIXTURES)
    return proxy_tasks(proxy_specs(study.recipe, facts, mixtures), study.proxies)


def uses_cpu(study: Study) -> bool:
    """Tell whether the recipe keeps proxies off the GPUs."""
    return bool(study.recipe.proxy.training_args.get("use_cpu", False))


def _complain(failed: Sequence[Task], progress: Progress) -> None:
    reasons: dict[str, list[Path]] = {}
    for task in failed:
        reasons.setdefault(reason_of(task), []).append(task.folder)
    for reason, folders in reasons.items():
        progress.note(f"{len(folders)} runs failed, {folders[0].name} the first: {reason}")
    progress.note("`regmix proxies` tries failed runs again")
