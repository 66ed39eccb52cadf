"""Stage 6, `train`: the final models on the chosen mixture and its baselines, under `accelerate launch`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from regmix_hf.choice import read_chosen
from regmix_hf.errors import TrainingError
from regmix_hf.jobs.base import train_base_once
from regmix_hf.jobs.devices import worker_slots
from regmix_hf.jobs.finals import FinalWork, final_tasks, give
from regmix_hf.jobs.later import LaterWork, later_tasks, measure_later
from regmix_hf.jobs.launch import AccelerateLaunch, Launcher, Launches
from regmix_hf.jobs.place import Place, place_of
from regmix_hf.jobs.pool import Pool
from regmix_hf.jobs.results import collect, done_once, is_failed, reason_of, result_of
from regmix_hf.jobs.tasks import Task
from regmix_hf.jobs.told import tell_recipe
from regmix_hf.mixtures.final import final_mixtures
from regmix_hf.progress import Progress
from regmix_hf.readable import count_of
from regmix_hf.study import Stage, Study, names
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.study.origin import require_accepted
from regmix_hf.training.device import uses_cpu
from regmix_hf.training.measured import missing_losses
from regmix_hf.training.spec import RunSpec, final_specs

STAGE = Stage(
    verb="train",
    folder=names.MODELS,
    keys=("seed", "context_length", "domains", "train", "baselines"),
    inputs=(
        f"{names.CORPUS}/{names.CORPUS_FACTS}",
        f"{names.MIXTURES}/{names.MIXTURES_TABLE}",
        f"{names.MIXTURE}/{names.CHOSEN_MIXTURE}",
    ),
    outputs=(names.RESULTS, names.TRAJECTORIES),
)


def run(
    study: Study,
    progress: Progress,
    start: Launcher = AccelerateLaunch.start,
    place: Place[LaterWork] | None = None,
) -> None:
    """Train every final model that is not finished, each run going on from its last checkpoint.

    Where only runs are left that others are at, they are left to these, unless the recipe says
    `executor.wait`. What is asked since a run ended is measured by its model.

    Args:
        study: With a corpus and, when `train.mixtures` names `chosen`, a chosen mixture.
        progress: Shown the tokens of all runs.
        start: What starts `accelerate launch`.
        place: Where models that are there are measured; by default where the recipe says.

    Raises:
        TrainingError: A launch failed; what it said is in the message. Finished runs stay. Or a model could
            not be measured.
    """
    require_accepted(study)
    tasks = tasks_of(study)
    num_open = sum(result_of(task) is None for task in tasks)
    if num_open < len(tasks):
        progress.note(f"{len(tasks) - num_open} of {len(tasks)} final runs are done already")
    if num_open:
        _warn_of_samples(study, tasks, progress)
        trained = {task.spec.run_id: task.spec.mixture_id for task in tasks}
        named = {task.spec.mixture_id: trained[task.spec.run_id] for task in _tasks_by_name(study)}
        for name, same in named.items():
            if name != same:
                progress.note(f"{name!r} is the same mixture as {same!r}: one model a seed is for both")
        recipe = tell_recipe(study, study.models)
        slots = worker_slots(1, use_cpu=uses_cpu(study.recipe.proxy.training_args))
        train_base_once(study, Pool(slots, study.models), progress)
        launches = Launches(study.recipe.train, study.models, start, stays=study.recipe.executor.wait)
        launches.run(tasks, FinalWork(study.corpus, recipe), progress)
    if later := later_tasks(tasks, CorpusFacts.load(study.corpus)):
        place = place or place_of(study.recipe.executor, study.models, study.recipe.train.training_args)
        measure_later(later, study.corpus, place, progress)
    if failed := next(filter(is_failed, later), None):
        raise TrainingError(
            f"the model {failed.name} could not be measured: {reason_of(failed)}",
            f"its last words are in {failed.folder / names.LOG}; `regmix train` tries again",
        )
    work: list[Task[Any]] = [*tasks, *later]
    if others := sum(result_of(task) is None for task in work):
        progress.note(
            f"{others} of {len(work)} final runs are left to others; the last of them ends the stage"
        )
        return
    conclude(study, progress)


def _warn_of_samples(study: Study, tasks: Sequence[Task[RunSpec]], progress: Progress) -> None:
    """Say it when the text of a final run is only a sample of what the recipe says there is."""
    samples = CorpusFacts.load(study.corpus).samples(study.recipe)
    epochs = {
        (task.spec.mixture_id, name): task.spec.weights.get(name, 0.0) * task.spec.num_train_tokens / count
        for task in tasks
        for name, count in samples.items()
    }
    if epochs:
        mixture, name = max(epochs, key=lambda pair: epochs[pair])
        progress.note(
            f"warning: final runs on samples: {len(samples)} of {len(study.recipe.training_domains)} sources "
            f"have fewer tokens than the recipe says; {mixture!r} reads {name!r} "
            f"{epochs[mixture, name]:.3g} times"
        )


def conclude(study: Study, progress: Progress) -> None:
    """Collect the tables of the stage and finish it, once all of its runs have a result.

    Where several names are one mixture each has a row and a folder, of the one run.
    """
    tasks = _tasks_by_name(study)
    runs = done_once(tasks)
    if later := later_tasks(list(runs.values()), CorpusFacts.load(study.corpus)):
        progress.note(f"{count_of(len(later), 'model')} can be asked more by now: `regmix train` measures it")
        return
    for task in tasks:
        give(task, runs[task.spec.run_id])
    in_place = [replace(task, folder=runs[task.spec.run_id].folder) for task in tasks]
    results, _ = collect(in_place, study.models)
    for missing in missing_losses(results.drop_duplicates("run_id"), tasks[0].spec.measured):
        progress.note(missing)
    for name in results.loc[results["status"] == "diverged", "mixture_id"]:
        progress.note(f"the final run on {name} diverged: its loss is not finite")
    if study.recipe.train.streaming:
        for row in results.to_dict("records"):
            epochs = {name: row[f"epochs/{name}"] for name in study.recipe.training_domains}
            if again := ", ".join(f"{name} ({count:.1f})" for name, count in epochs.items() if count > 1):
                progress.note(f"the final run on {row['mixture_id']} read more than once (times): {again}")
    study.finish(STAGE, {"num_models": len(results)})


def tasks_of(study: Study, mixtures: Collection[str] = ()) -> list[Task[RunSpec]]:
    """Return the study's final runs, in order, each with its folder under `6-models`.

    Names that stand for one mixture, as `chosen` and `prior` do where nothing better was found, are one run.

    Args:
        study: With a corpus and mixtures.
        mixtures: Names of those whose runs are asked for; none: all.

    Raises:
        StudyError: There is no corpus, or no mixture is chosen yet.
        MixtureError: A mixture is none over the domains of the study, or reads one too often.
    """
    tasks = _tasks_by_name(study)
    asked = {task.spec.run_id for task in tasks if not mixtures or task.spec.mixture_id in mixtures}
    return [task for name, task in done_once(tasks).items() if name in asked]


def _tasks_by_name(study: Study) -> list[Task[RunSpec]]:
    """One task for each name and seed."""
    facts = CorpusFacts.load(study.corpus)
    recipe = study.recipe
    mixtures = final_mixtures(
        recipe,
        facts.available_tokens(recipe),
        study.mixtures,
        lambda: read_chosen(study.mixture, recipe.training_domains),
    )
    return final_tasks(final_specs(recipe, facts, mixtures), study.models)
