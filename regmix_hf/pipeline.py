"""The stages in order: which are done, which are stale, and doing what is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from regmix_hf.errors import RecipeError, UnfinishedError
from regmix_hf.files import read_json
from regmix_hf.jobs.base import base_task
from regmix_hf.jobs.census import Census, take_census
from regmix_hf.jobs.hub_jobs import UNDER_WAY, HubJobs
from regmix_hf.jobs.slurm import ArrayJob, Queue, worker_command
from regmix_hf.jobs.told import tell_recipe, told_recipe
from regmix_hf.jobs.turns import alone_in, beside_others_in
from regmix_hf.mixtures.final import num_final_mixtures
from regmix_hf.preflight import check_once, remember_checks
from regmix_hf.progress import Progress, Silent
from regmix_hf.stages import proxies
from regmix_hf.stages.choose import asked_for
from regmix_hf.study import Stage, State, Study, names
from regmix_hf.study.address import Address
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.study.folder import SWARM_VERBS, Standing

if TYPE_CHECKING:
    from regmix_hf.hub import Hub
    from regmix_hf.sharing.while_running import Publisher

#: Verbs in the order their stages run; `regmix_hf.stages.<verb>` holds each.
VERBS = ("prepare", "sample", "proxies", "fit", "choose", "train", "evaluate", "report")
#: Of these, those whose runs may be done elsewhere, and which places beside this machine do them.
PLACED = {"proxies": ("ray", "slurm", "jobs"), "train": ("slurm",), "evaluate": ("ray", "slurm")}
#: Why others do not, and what does.
_NOT_THERE = {
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
#: Stages whose runs several processes and machines share out among them; all others are for one at a time.
_SHARED = {"proxies", "train", "evaluate"}


@dataclass(frozen=True)
class StageStatus:
    """How far one stage of a study is.

    Attributes:
        verb: Of the stage.
        folder: Its folder under `output_dir`.
        standing: How far it is, seen together with the stages before it.
    """

    verb: str
    folder: str
    standing: Standing

    @property
    def state(self) -> State:
        """In a word."""
        return self.standing.state


def stage_of(verb: str) -> Stage:
    """The declaration of the stage `verb`: what it reads and writes."""
    stage: Stage = import_module(f"regmix_hf.stages.{verb}").STAGE
    return stage


def status(study: Study) -> list[StageStatus]:
    """Tell for every stage, in order, how far it is."""
    stages = [stage_of(verb) for verb in VERBS]
    standings = study.standings(stages)
    return [StageStatus(one.verb, one.folder, standings[one.verb]) for one in stages]


def census_of(study: Study, verb: str) -> Census | None:
    """Count the runs of the stage `verb`; `None` where it has none, or they are not known yet."""
    parts = censuses_of(study, verb)
    return None if parts is None else Census.total(parts)


def censuses_of(study: Study, verb: str) -> list[Census] | None:
    """Count them apart for each of the recipe's `rungs`, in order; final runs are all of one."""
    if verb not in ("proxies", "train") or CorpusFacts.find(study.corpus) is None:
        return None
    if not study.mixtures.exists() or (verb == "train" and not study.mixture.exists()):
        return None
    stage = stage_of(verb)
    if study.state(stage) is State.DONE:  # then the marker says it, and thousands of folders are left unread
        facts = read_json(study.marker(stage))
        if "num_ok" in facts:
            counted = facts.get("rungs", [facts])
            return [Census({"ok": one["num_ok"], "diverged": one["num_diverged"]}) for one in counted]
    tasks = import_module(f"regmix_hf.stages.{verb}").tasks_of(study)
    rungs = range(len(study.recipe.rungs) if verb == "proxies" else 1)
    parts = [[task for task in tasks if task.spec.rung == rung] for rung in rungs]
    return [take_census(part, study.root / stage.folder) for part in parts]


def array_job(study: Study, verb: str) -> ArrayJob:
    """The workers that the stage `verb` is submitted to Slurm as."""
    from regmix_hf.training.device import uses_cpu

    folder = study.root / stage_of(verb).folder
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


def is_left_to_others(study: Study, verb: str) -> bool:
    """Whether runs of the stage `verb` are open still: others are at them, or will be."""
    stage = stage_of(verb)
    if study.state(stage) is State.DONE:
        return False
    census = census_of(study, verb)
    if census is None:
        return not all((study.root / stage.folder / name).exists() for name in stage.outputs)
    return bool(census.running or census.num_left)


def to_come(study: Study, first: str) -> list[str]:
    """Verbs from `first` on whose stages are not done.

    Of a study that was pulled only `first`: what lies beyond was asked of the machines of others.
    """
    states = {stage.verb: stage.state for stage in status(study)}
    following = [verb for verb in stages_between(study, first, VERBS[-1]) if states[verb] is not State.DONE]
    return [verb for verb in following if verb == first] if study.is_pulled else following


def begin(study: Study, first: str) -> None:
    """Check all that can be checked of the stages from `first` on, then make the study's folder if need be.

    Where the recipe says `hub.corpus`, a corpus that was published is fetched before that: then the text need
    not be here.

    Raises:
        RegmixError: Something is wrong; nothing else was touched.
    """
    study.check_owner()
    if first == VERBS[0] and _shares_corpus(study) and study.state(stage_of(first)) is not State.DONE:
        study.open()
        _corpus_part().fetch_corpus(_hub(Silent()), study, _made_once(), Silent())
    verbs = to_come(study, first)
    check_once(study, verbs)
    study.open()
    remember_checks(study, verbs)


def run(
    study: Study, *, first: str = VERBS[0], last: str = VERBS[-1], progress: Progress | None = None
) -> None:
    """Do every stage from `first` to `last` that is not done with the inputs of now.

    Args:
        study: The study; its folder is created when missing.
        first: Verb of the stage to begin with; stages before it are taken as they are.
        last: Verb of the stage to end with.
        progress: Told which stage runs, and why again.

    Raises:
        RegmixError: Something in the recipe is wrong, of these stages or later ones; a stage cannot be done;
            or the recipe asks to publish and that cannot be done. What was finished stays.
    """
    progress = progress or Silent()
    begin(study, first)
    publisher = _publisher(study, progress)
    # The next stage needs all of a stage; who is submitted goes on alone, and need not wait.
    executor = study.recipe.executor.model_copy(update={"wait": True})
    staying = Study(study.recipe.model_copy(update={"executor": executor}))
    verbs = stages_between(study, first, last)
    verb = verbs[0] if verbs else None
    while verb is not None:
        run_stage(study if _is_submitted(study, verb) else staying, verb, progress)
        if verb in PLACED and is_left_to_others(staying, verb):
            raise UnfinishedError(
                f"the runs of `{verb}` are with others still, and the next stage needs them.",
                "`regmix status` says how far they are; then run the same command again",
            )
        verb = next_verb(study, verb, verbs)
    if publisher is not None:
        publisher.finish()


def stages_between(study: Study, first: str, last: str) -> list[str]:
    """Verbs from `first` to `last`, without those of the swarm when the recipe takes its runs from others."""
    left_out = SWARM_VERBS if study.recipe.runs else ()
    return [verb for verb in VERBS[VERBS.index(first) : VERBS.index(last) + 1] if verb not in left_out]


def stages_of(study: Study) -> list[str]:
    """All verbs that the study's recipe asks for, in order."""
    return stages_between(study, VERBS[0], VERBS[-1])


def next_verb(study: Study, verb: str, verbs: Sequence[str]) -> str | None:
    """The one of these stages, which stand in order, that comes after `verb`; `None`: it was the last.

    After `choose` that is `proxies`, where the choice is to be tried with more of them.
    """
    if verb == "choose" and "proxies" in verbs and asked_for(study):
        return "proxies"
    return next((later for later in verbs if VERBS.index(later) > VERBS.index(verb)), None)


def run_stage(study: Study, verb: str, progress: Progress) -> bool:
    """Do one stage unless it is done with the inputs of now.

    Where somebody else is in the study's folder, this waits, and says for whom; processes that share out the
    runs of a stage do not wait for each other.

    Returns:
        Whether there was anything to do.

    Raises:
        RegmixError: Something is known to be wrong by now, here or in a later stage; or it cannot be done.
    """
    if _is_done(study, verb, progress):
        return False
    begin(study, verb)
    turn = beside_others_in if verb in _SHARED else alone_in
    with turn(study.root, verb, progress):
        if _is_done(study, verb, progress):  # by whoever was waited for
            return False
        _do_stage(study, verb, progress)
    return True


def _is_done(study: Study, verb: str, progress: Progress) -> bool:
    """Whether the stage is done with the inputs of now; says so."""
    stage = stage_of(verb)
    is_done = study.state(stage) is State.DONE
    if is_done:
        progress.note(f"{verb}: done already, in {study.root / stage.folder}")
    return is_done


def _do_stage(study: Study, verb: str, progress: Progress) -> None:
    stage = stage_of(verb)
    state = study.state(stage)
    if state is State.STALE:
        changes = ", ".join(study.changes(stage))
        progress.note(f"{verb}: stale, because {changes} changed; doing again what that touches")
    elif damaged := _damaged(study, verb):
        progress.note(f"{verb}: {', '.join(damaged)} is not what was written; doing again what that touches")
        _discard(study, stage, damaged)
    elif state is State.PARTIAL:
        progress.note(f"{verb}: going on from what is done")
    else:
        progress.note(f"{verb}: starting")
    work: Callable[[Study, Progress], None] = import_module(f"regmix_hf.stages.{verb}").run
    start = time.monotonic()
    if _is_submitted(study, verb) and _has_open_runs(study, verb, progress):
        _submit(study, verb, progress)
        return
    if not_there := _NOT_THERE.get((verb, study.recipe.executor.place)):
        progress.note(f"{verb}: done on this machine; {not_there[0]}")
    with publishing(study, verb, progress):
        work(study, progress)
    if verb == "sample" and _shares_corpus(study):
        _share_corpus(study, progress)
    seconds = f"{time.monotonic() - start:.0f} s"
    if study.state(stage) is State.DONE:
        progress.note(f"{verb}: done in {seconds}")
    else:
        progress.note(f"{verb}: ended after {seconds} with some of it left; run it again for that")


def check_place(verb: str, place: str) -> None:
    """Refuse a place that does not do the runs of the stage `verb`.

    Raises:
        RecipeError: It does not.
    """
    if not_there := _NOT_THERE.get((verb, place)):
        raise RecipeError(f"`{verb}` is not done on {place}: {not_there[0]}.", f"use {not_there[1]}")


def _is_submitted(study: Study, verb: str) -> bool:
    """Whether the runs of a stage are for workers that are submitted."""
    place = study.recipe.executor.place
    return place in ("slurm", "jobs") and place in PLACED.get(verb, ())


def _has_open_runs(study: Study, verb: str, progress: Progress) -> bool:
    """Whether anything is left for workers; what jobs have published is fetched first."""
    if study.recipe.executor.place == "jobs":
        from regmix_hf.sharing.arriving_runs import bring_runs

        if count := bring_runs(_hub(progress), study):
            progress.note(f"fetched {count} runs that were published before")
    census = census_of(study, verb)
    return census is None or bool(census.num_left or census.running or census.failed)


def _submit(study: Study, verb: str, progress: Progress) -> None:
    """Hand a stage to workers elsewhere, which do it after this process has ended, unless some are at it."""
    if study.recipe.executor.place == "slurm":
        job = array_job(study, verb)
        if (queue := Queue.read(job.folder)) and queue.rows:
            progress.note(f"{verb}: {len(queue.rows)} workers of job {queue.job} are at it")
            return
        tell_recipe(study, job.folder)
        count = job.executor.num_workers
        progress.note(f"{verb}: submitted job {job.submit()}, {count} workers; logs in {job.folder}")
        return
    jobs, hub = hub_jobs(study, verb), _hub(progress)
    if at_it := [row for row in jobs.rows(hub) if row["state"] in UNDER_WAY]:
        progress.note(f"{verb}: {len(at_it)} jobs of {jobs.namespace} are at it")
        return
    if _shares_corpus(study):
        _share_corpus(study, progress)
    elif base_task(study) is not None:
        raise RecipeError(
            "proxy.model.pretrained: each job would train a model of its own for its proxies to start from.",
            "write hub.corpus: true; then it is trained here once, and every job fetches it",
        )
    for one in jobs.submit(hub, study.root / stage_of(verb).folder):
        progress.note(f"{verb}: started job {one} in {jobs.namespace}")
    count = study.recipe.executor.num_workers
    progress.note(
        f"{verb}: {count} jobs meet in {jobs.runs}; without `--on`, the same command fetches what they do"
    )


def hub_jobs(study: Study, verb: str) -> HubJobs:
    """The jobs that the stage `verb` is submitted to the Hub as.

    Raises:
        HubError: The recipe says nothing of the Hub.
        RecipeError: The stage needs what only this machine has.
    """
    check_place(verb, "jobs")
    return HubJobs(study.recipe, Address.of(study.recipe).runs)


def _hub(progress: Progress) -> Hub:
    from regmix_hf.hub import Hub

    return Hub(progress=progress)


def _shares_corpus(study: Study) -> bool:
    return study.recipe.hub is not None and bool(study.recipe.hub.corpus)


def _share_corpus(study: Study, progress: Progress) -> None:
    """Publish the corpus, the mixtures, and the model that proxies start from, first trained here."""
    executor = study.recipe.executor.model_copy(update={"place": "local", "shard": None})
    proxies.train_base(Study(study.recipe.model_copy(update={"executor": executor})), progress)
    _corpus_part().push_corpus(_hub(progress), study, _made_once(), progress)


def _made_once() -> list[Stage]:
    """What workers on other machines need not do again."""
    return [stage_of("prepare"), stage_of("sample")]


def _corpus_part() -> ModuleType:
    return import_module("regmix_hf.sharing.corpus_part")


def publishing(study: Study, verb: str, progress: Progress) -> AbstractContextManager[None]:
    """Publish what the stage `verb` finishes inside the block, where the recipe asks for it.

    Raises:
        HubError: It asks, and nobody is logged in.
    """
    publisher = _publisher(study, progress)
    return nullcontext() if publisher is None else publisher.around(verb)


def _publisher(study: Study, progress: Progress) -> Publisher | None:
    """What publishes while stages run, where the recipe asks for it."""
    if study.recipe.hub is None or not study.recipe.hub.push_to_hub:
        return None
    from regmix_hf.sharing.while_running import Publisher

    return Publisher(study, [stage_of(verb) for verb in VERBS], progress)


def _discard(study: Study, stage: Stage, damaged: list[str]) -> None:
    """Remove what a stage cannot go on from and writes anew.

    Blocks are looked at one by one by `prepare`, and mixtures that somebody gave nobody draws again.
    """
    kept = {"prepare": set(damaged) - {names.CORPUS_FACTS}, "sample": set(damaged)}.get(stage.verb, set())
    for name in set(damaged) - kept:
        (study.root / stage.folder / name).unlink(missing_ok=True)


def _damaged(study: Study, verb: str) -> list[str]:
    stage = stage_of(verb)
    return study.damaged(stage) if study.marker(stage).exists() else []
