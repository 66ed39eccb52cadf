"""Stage 3, `proxies`: one small model per mixture and seed, its losses on every domain over time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from regmix_hf.errors import UnfinishedError
from regmix_hf.jobs.base import base_task, train_base_once
from regmix_hf.jobs.later import LaterWork, kept_in, later_tasks, measure_later
from regmix_hf.jobs.place import SharedPlace, place_of
from regmix_hf.jobs.proxies import ProxyWork, proxy_tasks
from regmix_hf.jobs.results import (
    collect,
    forget_failed,
    is_failed,
    reason_of,
    result_of,
    row_with_later,
    status_of,
)
from regmix_hf.jobs.tasks import Task, in_shard
from regmix_hf.mixtures.table import read_mixtures
from regmix_hf.progress import Progress
from regmix_hf.readable import count_of
from regmix_hf.recipe import Recipe
from regmix_hf.stages.sample import stamp_swarm
from regmix_hf.study import Stage, State, Study, names
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.training.later import KeptRun, asked_in_words
from regmix_hf.training.measured import missing_losses, not_measured
from regmix_hf.training.spec import RunSpec, proxy_specs

#: What would have spared that runs have no loss on something.
_KEEP = (
    "`proxy.keep_models: all` keeps the models of runs that are trained from now on: what is asked later is "
    "then measured without training"
)


STAGE = Stage(
    verb="proxies",
    folder=names.PROXIES,
    keys=("seed", "context_length", "proxy"),
    inputs=(f"{names.CORPUS}/{names.CORPUS_FACTS}", f"{names.MIXTURES}/{names.MIXTURES_TABLE}"),
    outputs=(names.RESULTS, names.TRAJECTORIES, f"*{names.EXPERTS}"),
    outside=stamp_swarm,
)


def run(study: Study, progress: Progress, place: SharedPlace[ProxyWork | LaterWork] | None = None) -> None:
    """Train every proxy that has no result yet, and collect the tables.

    Runs that failed before are tried again. When some still fail, the tables are written and the stage stays
    unfinished, so that doing it again tries them again. Where only runs are left that others are at, they are
    left to these, unless the recipe says `executor.wait`. What is asked since a run ended is measured by its
    model, where that was kept.

    Args:
        study: With a corpus and mixtures.
        progress: Shown the tokens of all runs, and told how they ended.
        place: Where they are trained; by default where the recipe says.

    Raises:
        UnfinishedError: So few runs ended well that nothing can be fitted on them.
        TrainingError: A key of the recipe stops all runs.
        OSError: The disk is full.
    """
    tasks = tasks_of(study)
    if again := forget_failed(tasks):
        progress.note(f"trying {count_of(again, 'failed run')} again")
    if num_done := sum(result_of(task) is not None for task in tasks):
        progress.note(f"{num_done} of {len(tasks)} runs are done already")
    executor = study.recipe.executor
    own = in_shard(tasks, *executor.own_shard)
    place = place or _place_of(study)
    train_base(study, progress, place)
    place.run(own, ProxyWork(study.corpus), progress)
    if later := later_of(study):
        measure_later(later, study.corpus, place, progress)
    counts = Counter(status for task in tasks if (status := status_of(task)))
    work: list[Task[Any]] = [*tasks, *later]
    if others := sum(status_of(task) is None for task in work):
        progress.note(f"{others} of {len(tasks)} runs are left to others; the last of them ends the stage")
        return
    failed = [task for task in work if is_failed(task)]
    if counts["failed"] < len(tasks):
        results, _ = collect(tasks, study.proxies)
        missing = list(missing_losses(results, tasks[0].spec.measured))
        for said in [*missing, *([_KEEP] if missing and study.recipe.proxy.keep_models is None else [])]:
            progress.note(said)
    if counts["diverged"]:
        progress.note(f"{counts['diverged']} of {len(tasks)} runs diverged; nothing is fitted on them")
    if failed:
        _complain(failed, len(tasks), progress)
    else:
        study.finish(STAGE, _counted(counts) | _by_rung(study.recipe, tasks))
    _check_enough(study.recipe, tasks, counts)


def _counted(counts: Counter[str]) -> dict[str, Any]:
    return {"num_ok": counts["ok"], "num_diverged": counts["diverged"]}


def _by_rung(recipe: Recipe, tasks: Sequence[Task[RunSpec]]) -> dict[str, Any]:
    """The same for proxies of each size and length, where they are of several."""
    if len(recipe.rungs) == 1:
        return {}
    ended = [Counter[str]() for _ in recipe.rungs]
    for task in tasks:
        ended[task.spec.rung][status_of(task) or ""] += 1
    return {"rungs": [_counted(counts) for counts in ended]}


def train_base(study: Study, progress: Progress, place: SharedPlace[ProxyWork] | None = None) -> None:
    """Train the model that proxies start from, where the recipe asks for one and it is not there.

    Raises:
        TrainingError: It failed or diverged.
    """
    task, executor = base_task(study), study.recipe.executor
    if task is not None and result_of(task) is None and executor.shard is not None:
        progress.note(
            "warning: each shard trains a model of its own for its proxies to start from; with "
            "`hub.corpus: true` `regmix sample` trains and publishes it, and `regmix prepare` fetches it"
        )
    train_base_once(study, place or _place_of(study), progress)


def _place_of(study: Study) -> SharedPlace[ProxyWork | LaterWork]:
    """Where the recipe says that proxies are trained: on this machine, one per GPU or core, or on Ray."""
    proxy = study.recipe.proxy
    return place_of(study.recipe.executor, study.proxies, proxy.training_args, proxy.num_workers)


def tasks_of(study: Study) -> list[Task[RunSpec]]:
    """Return the study's proxy runs, in order.

    Raises:
        StudyError: There is no corpus, or there are no mixtures yet.
        TrainingError: The preset does not exist or the batch does not come out in whole blocks.
    """
    facts = CorpusFacts.load(study.corpus)
    mixtures = read_mixtures(study.require(study.mixtures, "sample"))
    return proxy_tasks(proxy_specs(study.recipe, facts, mixtures), study.proxies)


def later_of(study: Study) -> list[Task[KeptRun]]:
    """Return what is left to measure of the study's finished runs by the models that they kept.

    Raises:
        StudyError: There is no corpus, or there are no mixtures yet.
    """
    return later_tasks(tasks_of(study), CorpusFacts.load(study.corpus))


def told_of_later(study: Study) -> Iterator[str]:
    """Say what finished runs were not asked, as far as it is known, and whose kept models will be."""
    kept, facts = kept_in(study.proxies), CorpusFacts.find(study.corpus)
    if kept:
        yield kept
    if facts is None or not study.mixtures.exists():
        return
    known = {*facts.domains, *facts.scored}
    if new := [name for name in (*study.recipe.domains, *study.recipe.proxy.scored) if name not in known]:
        if kept:
            yield (
                f"{asked_in_words(new)}: not prepared yet; where that leaves what runs train on as it is, "
                "kept models are asked about it, and nothing is trained again"
            )
        return
    if study.state(STAGE) is State.DONE:  # then all was asked, and thousands of folders are left unread
        return
    tasks = [task for task in tasks_of(study) if status_of(task) == "ok"]
    later = later_tasks(tasks, facts)
    lacking = [not_measured(row_with_later(task, result_of(task) or {}), task.spec) for task in tasks]
    if asked := {name: None for lacks in lacking for name in lacks}:
        count = sum(map(bool, lacking))
        yield (
            f"{asked_in_words(asked)}: {count} of {len(tasks)} finished runs were not asked about it; "
            f"{len(later)} of them kept their models, which `regmix proxies` asks; the others have no value "
            "of it unless their folders are removed, which trains them again"
        )


def _complain(failed: Sequence[Task[Any]], num_runs: int, progress: Progress) -> None:
    """Say how many runs failed, why the first of each kind did, and where it printed what."""
    reasons: dict[str, list[Task[Any]]] = {}
    for task in failed:
        reasons.setdefault(reason_of(task), []).append(task)
    for reason, alike in reasons.items():
        log = alike[0].folder / names.LOG
        progress.note(
            f"{len(alike)} of {num_runs} runs failed, {alike[0].name} the first: {reason}; see {log}"
        )
    progress.note("`regmix proxies` tries failed runs again")


def _check_enough(recipe: Recipe, tasks: Sequence[Task[RunSpec]], counts: Counter[str]) -> None:
    """Complain when so few runs ended well that an estimator of the recipe cannot be fitted on them.

    Raises:
        UnfinishedError: They are too few.
    """
    from regmix_hf.regression.by_size import families_of
    from regmix_hf.regression.registry import estimator_class

    if recipe.runs is not None:
        return  # those of others are fitted on, too
    to_fit = [task for task in tasks if task.spec.split == "fit"]
    num_ok = sum(status_of(task) == "ok" for task in to_fit)
    num_domains = len(recipe.training_domains)
    needed = max(estimator_class(name).min_runs(num_domains) for name in families_of(recipe))
    if num_ok >= needed or len(to_fit) < needed:
        return  # where there are not as many mixtures, it is the recipe that must be mended
    first = next((f", the first because {reason_of(task)}" for task in tasks if is_failed(task)), "")
    raise UnfinishedError(
        f"too few runs to fit on: {num_ok} of {len(to_fit)} ended well, {needed} are needed; "
        f"{counts['diverged']} diverged, {counts['failed']} failed{first}",
        "`regmix proxies` tries failed runs again"
        if counts["failed"]
        else "lower proxy.training_args.learning_rate, or warm up longer",
    )
