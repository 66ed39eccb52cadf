"""The stages in order: which are done, which are stale, and doing what is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from regmix_hf.progress import Progress, Silent
from regmix_hf.study import Stage, State, Study

if TYPE_CHECKING:
    from regmix_hf.sharing.while_running import Publisher

#: Verbs in the order their stages run; `regmix_hf.stages.<verb>` holds each.
VERBS = ("prepare", "sample", "proxies", "fit", "choose", "train", "evaluate", "report")


@dataclass(frozen=True)
class StageStatus:
    """How far one stage of a study is.

    Attributes:
        changes: Recipe keys and files that changed since a stale stage finished.
    """

    verb: str
    folder: str
    state: State
    changes: tuple[str, ...] = ()


def stage_of(verb: str) -> Stage:
    """The declaration of the stage `verb`: what it reads and writes."""
    stage: Stage = import_module(f"regmix_hf.stages.{verb}").STAGE
    return stage


def status(study: Study) -> list[StageStatus]:
    """Tell for every stage, in order, how far it is."""
    return [_status(study, verb) for verb in VERBS]


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
        RegmixError: A stage cannot be done, or the recipe asks to publish and that cannot be done; what was
            finished stays.
    """
    progress = progress or Silent()
    study.open()
    publisher = _publisher(study, progress)
    for verb in stages_between(study, first, last):
        run_stage(study, verb, progress)
    if publisher is not None:
        publisher.finish()


def stages_between(study: Study, first: str, last: str) -> list[str]:
    """Verbs from `first` to `last`, without those of the swarm when the recipe takes its runs from others."""
    left_out = {"sample", "proxies"} if study.recipe.runs else set()
    return [verb for verb in VERBS[VERBS.index(first) : VERBS.index(last) + 1] if verb not in left_out]


def run_stage(study: Study, verb: str, progress: Progress) -> bool:
    """Do one stage unless it is done with the inputs of now.

    Returns:
        Whether there was anything to do.
    """
    now = _status(study, verb)
    if now.state is State.DONE:
        progress.note(f"{verb}: done already, in {study.root / now.folder}")
        return False
    if now.state is State.STALE:
        progress.note(
            f"{verb}: stale, because {', '.join(now.changes)} changed; doing again what that touches"
        )
    elif names := _damaged(study, verb):
        progress.note(f"{verb}: {', '.join(names)} is not what was written; doing again what that touches")
    elif now.state is State.PARTIAL:
        progress.note(f"{verb}: going on from what is done")
    else:
        progress.note(f"{verb}: starting")
    work: Callable[[Study, Progress], None] = import_module(f"regmix_hf.stages.{verb}").run
    start = time.monotonic()
    with publishing(study, verb, progress):
        work(study, progress)
    seconds = f"{time.monotonic() - start:.0f} s"
    if _status(study, verb).state is State.DONE:
        progress.note(f"{verb}: done in {seconds}")
    else:
        progress.note(f"{verb}: ended after {seconds} with some of it left; run it again for that")
    return True


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


def _damaged(study: Study, verb: str) -> list[str]:
    stage = stage_of(verb)
    return study.damaged(stage) if study.marker(stage).exists() else []


def _status(study: Study, verb: str) -> StageStatus:
    stage = stage_of(verb)
    state = study.state(stage)
    changes = tuple(study.changes(stage)) if state is State.STALE else ()
    return StageStatus(verb=verb, folder=stage.folder, state=state, changes=changes)
