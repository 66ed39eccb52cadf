"""The stages in order: which are done, which are stale, and doing what is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from regmix_hf.errors import UnfinishedError
from regmix_hf.files import read_json
from regmix_hf.jobs.census import Census, take_census
from regmix_hf.jobs.results import status_of
from regmix_hf.jobs.tasks import Task
from regmix_hf.jobs.turns import alone_in, beside_others_in
from regmix_hf.placement import (
    MADE_ONCE,
    NOT_THERE,
    PLACED,
    hub_client,
    is_submitted,
    share_corpus,
    shares_corpus,
    submit,
)
from regmix_hf.preflight import check_once, remember_checks
from regmix_hf.progress import Progress, Silent
from regmix_hf.stages.choose import asked_for
from regmix_hf.study import Stage, State, Study, names
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.study.folder import SWARM_VERBS, Standing
from regmix_hf.training.later import KeptRun

if TYPE_CHECKING:
    from regmix_hf.sharing.while_running import Publisher

#: Verbs in the order their stages run; `regmix_hf.stages.<verb>` holds each.
VERBS = ("prepare", "sample", "proxies", "fit", "choose", "train", "evaluate", "report")
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


def kept_to_measure(study: Study, verb: str) -> list[Task[KeptRun]]:
    """What is left to measure of a stage's runs by the models that they kept; none of the failed."""
    if verb != "proxies" or CorpusFacts.find(study.corpus) is None or not study.mixtures.exists():
        return []
    later: list[Task[KeptRun]] = import_module("regmix_hf.stages.proxies").later_of(study)
    return [task for task in later if status_of(task) != "failed"]


def is_left_to_others(study: Study, verb: str) -> bool:
    """Whether runs of the stage `verb` are open still: others are at them, or will be."""
    stage = stage_of(verb)
    if study.state(stage) is State.DONE:
        return False
    census = census_of(study, verb)
    if kept_to_measure(study, verb):
        return True
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
    if first == VERBS[0] and shares_corpus(study) and study.state(stage_of(first)) is not State.DONE:
        from regmix_hf.sharing.corpus_part import fetch_corpus

        study.open()
        fetch_corpus(hub_client(Silent()), study, MADE_ONCE, Silent())
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
        run_stage(study if is_submitted(study, verb) else staying, verb, progress)
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


def left_after(study: Study, verb: str) -> str | None:
    """The first stage after `verb` that is not done with the inputs of now; `None`: all are."""
    following = next_verb(study, verb, stages_of(study))
    states = {stage.verb: stage.state for stage in status(study)}
    later = stages_between(study, following, VERBS[-1]) if following else []
    return next((one for one in later if states[one] is not State.DONE), None)


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
        if (study.root / names.UNPUBLISHED / verb).exists():
            with publishing(study, verb, progress):
                pass  # it is done, but what published it then did not
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
    elif study.marker(stage).exists() and (damaged := study.damaged(stage)):
        progress.note(f"{verb}: {', '.join(damaged)} is not what was written; doing again what that touches")
        _discard(study, stage, damaged)
    elif state is State.PARTIAL:
        progress.note(f"{verb}: going on from what is done")
    else:
        progress.note(f"{verb}: starting")
    work: Callable[[Study, Progress], None] = import_module(f"regmix_hf.stages.{verb}").run
    start = time.monotonic()
    if is_submitted(study, verb) and _has_open_runs(study, verb, progress):
        submit(study, stage, progress)
        return
    if not_there := NOT_THERE.get((verb, study.recipe.executor.place)):
        progress.note(f"{verb}: done on this machine; {not_there[0]}")
    with publishing(study, verb, progress):
        work(study, progress)
    if verb == "sample" and shares_corpus(study):
        share_corpus(study, progress)
    seconds = f"{time.monotonic() - start:.0f} s"
    if study.state(stage) is State.DONE:
        progress.note(f"{verb}: done in {seconds}")
    else:
        progress.note(f"{verb}: ended after {seconds} with some of it left; run it again for that")


def _has_open_runs(study: Study, verb: str, progress: Progress) -> bool:
    """Whether anything is left for workers; what jobs have published is fetched first."""
    if study.recipe.executor.place == "jobs":
        from regmix_hf.sharing.arriving_runs import bring_runs

        if came := str(bring_runs(hub_client(progress), study)):
            progress.note(came)
    census = census_of(study, verb)
    if census is None and verb != "evaluate" and study.recipe.executor.place == "slurm":
        import_module(f"regmix_hf.stages.{verb}").tasks_of(study)  # says what every worker would stumble over
    if census is None or census.num_left or census.running or census.failed:
        return True
    return bool(kept_to_measure(study, verb))


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
