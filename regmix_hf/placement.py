"""Where runs of a stage are done other than here: on Slurm, as jobs of the Hub, and what is carried there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regmix_hf.errors import RecipeError
from regmix_hf.jobs.base import base_task
from regmix_hf.jobs.hub_jobs import UNDER_WAY, HubJobs
from regmix_hf.jobs.slurm import ArrayJob, Queue, worker_command
from regmix_hf.jobs.told import tell_recipe, told_recipe
from regmix_hf.mixtures.final import num_final_mixtures
from regmix_hf.progress import Progress
from regmix_hf.readable import count_of
from regmix_hf.stages import prepare, proxies, sample
from regmix_hf.study import Stage, Study
from regmix_hf.study.address import Address

if TYPE_CHECKING:
    from regmix_hf.hub import Hub

#: Verbs of stages whose runs may be done elsewhere, and which places beside this machine do them.
PLACED = {"proxies": ("ray", "slurm", "jobs"), "train": ("slurm",), "evaluate": ("ray", "slurm")}
#: Why others do not, and what does.
NOT_THERE = {
    ("train", "ray"): (
        "a final model is one launch of `accelerate` over all GPUs of a machine",
        "`regmix train` on one of its machines, or on several that share the folder",
    ),
    ("train", "jobs"): (
        "checkpoints, by which a final run goes on, stay in a folder that a job does not keep",
        "`regmix train` on this machine, or `--on slurm`",
    ),
    ("evaluate", "jobs"): (
        "jobs have no final models",
        "`regmix evaluate` on this machine, `--on ray` or `--on slurm`",
    ),
}
#: What workers on other machines need not do again.
MADE_ONCE = [prepare.STAGE, sample.STAGE]


def check_place(verb: str, place: str) -> None:
    """Refuse a place that does not do the runs of the stage `verb`.

    Raises:
        RecipeError: It does not.
    """
    if not_there := NOT_THERE.get((verb, place)):
        raise RecipeError(f"`{verb}` is not done on {place}: {not_there[0]}.", f"use {not_there[1]}")


def is_submitted(study: Study, verb: str) -> bool:
    """Whether the runs of a stage are for workers that are submitted."""
    place = study.recipe.executor.place
    return place in ("slurm", "jobs") and place in PLACED.get(verb, ())


def array_job(study: Study, stage: Stage) -> ArrayJob:
    """The workers that a stage is submitted to Slurm as."""
    from regmix_hf.training.device import uses_cpu

    verb, folder = stage.verb, study.root / stage.folder
    command = worker_command(verb, told_recipe(folder))
    recipe, executor = study.recipe, study.recipe.executor
    section = "proxy" if verb == "proxies" else "train"
    training = recipe.proxy if verb == "proxies" else recipe.train
    on_cores = verb != "evaluate" and uses_cpu(training.training_args) and training.num_workers is None
    if verb != "proxies":  # a worker with nothing to do would wait in the queue for it
        most = num_final_mixtures(recipe) * recipe.train.num_seeds
        executor = executor.model_copy(update={"num_workers": min(executor.num_workers, most)})
    cores_key = f"{section}.num_workers" if on_cores else None
    return ArrayJob(f"{recipe.name}-{verb}", folder, command, executor, cores_key)


def written_job(study: Study, stage: Stage) -> ArrayJob:
    """The same, with the recipe beside it that its workers read: its script may be submitted by hand.

    Raises:
        StudyError: The folder is that of another study.
    """
    job = array_job(study, stage)
    study.check_owner()
    study.open()
    tell_recipe(study, job.folder)
    return job


def submit(study: Study, stage: Stage, progress: Progress) -> None:
    """Hand a stage to workers elsewhere, which do it after this process has ended, unless some are at it.

    Raises:
        RegmixError: The place does not do it, or refuses.
    """
    verb = stage.verb
    if study.recipe.executor.place == "slurm":
        if (queue := Queue.read(study.root / stage.folder)) and queue.rows:
            progress.note(f"{verb}: job {queue.job} is at it, with {count_of(len(queue.rows), 'worker')}")
            return
        job = written_job(study, stage)
        count = job.executor.num_workers
        progress.note(
            f"{verb}: submitted job {job.submit()}, {count_of(count, 'worker')}; logs in {job.folder}"
        )
        return
    jobs, hub = hub_jobs(study, verb), hub_client(progress)
    if at_it := [row for row in jobs.rows(hub) if row["state"] in UNDER_WAY]:
        progress.note(f"{verb}: {jobs.namespace} is at it, with {count_of(len(at_it), 'job')}")
        return
    if shares_corpus(study):
        share_corpus(study, progress)
    elif base_task(study) is not None:
        raise RecipeError(
            "proxy.model.pretrained: each job would train a model of its own for its proxies to start from.",
            "write hub.corpus: true; then it is trained here once, and every job fetches it",
        )
    for one in jobs.submit(hub, study.root / stage.folder):
        progress.note(f"{verb}: started job {one} in {jobs.namespace}")
    count = study.recipe.executor.num_workers
    progress.note(
        f"{verb}: {count_of(count, 'job')} for {jobs.runs}; without `--on`, the same command "
        "fetches what they do"
    )


def hub_jobs(study: Study, verb: str) -> HubJobs:
    """The jobs that the stage `verb` is submitted to the Hub as.

    Raises:
        HubError: The recipe says nothing of the Hub.
        RecipeError: The stage needs what only this machine has.
    """
    check_place(verb, "jobs")
    return HubJobs(study.recipe, Address.of(study.recipe).runs)


def hub_client(progress: Progress) -> Hub:
    """A connection that tells `progress` when it waits; what it takes is imported late."""
    from regmix_hf.hub import Hub

    return Hub(progress=progress)


def shares_corpus(study: Study) -> bool:
    """Whether the recipe has workers fetch the corpus from the Hub."""
    return study.recipe.hub is not None and bool(study.recipe.hub.corpus)


def share_corpus(study: Study, progress: Progress) -> None:
    """Publish the corpus, the mixtures, and the model that proxies start from, first trained here."""
    from regmix_hf.sharing.corpus_part import push_corpus

    executor = study.recipe.executor.model_copy(update={"place": "local", "shard": None})
    proxies.train_base(Study(study.recipe.model_copy(update={"executor": executor})), progress)
    push_corpus(hub_client(progress), study, MADE_ONCE, progress)
