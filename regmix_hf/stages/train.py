"""Stage 6, `train`: the final models on the chosen mixture and its baselines, under `accelerate launch`."""

from __future__ import annotations

import json
from collections.abc import Sequence

from regmix_hf.choice import read_chosen
from regmix_hf.files import read_parquet, write_text
from regmix_hf.jobs.launch import AccelerateLaunch, Launch, Launcher, log_path, places, watch
from regmix_hf.jobs.results import collect, result_of
from regmix_hf.jobs.tasks import Task
from regmix_hf.mixtures.final import check_text, given_mixture
from regmix_hf.mixtures.mixture import normalise
from regmix_hf.progress import Progress
from regmix_hf.recipe.schema import BUILT_IN_MIXTURES
from regmix_hf.study import Stage, Study
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.study.origin import require_accepted
from regmix_hf.tables import MIXTURES, by_domain
from regmix_hf.training.spec import final_specs

STAGE = Stage(
    verb="train",
    folder="6-models",
    keys=("seed", "context_length", "domains", "train", "baselines"),
    inputs=("1-corpus/corpus.json", "2-mixtures/mixtures.parquet", "5-mixture/mixture.yaml"),
    outputs=("results.parquet", "trajectories.parquet"),
)


def run(study: Study, progress: Progress, start: Launcher = AccelerateLaunch.start) -> None:
    """Train every final model that is not finished, each run going on from its last checkpoint.

    Args:
        study: With a corpus and, when `train.mixtures` names `chosen`, a chosen mixture.
        progress: Shown the tokens of all runs.
        start: What starts `accelerate launch`.

    Raises:
        TrainingError: A launch failed; what it said is in the message. Finished runs stay.
    """
    require_accepted(study)
    tasks = tasks_of(study)
    num_open = sum(result_of(task) is None for task in tasks)
    if num_open < len(tasks):
        progress.note(f"{len(tasks) - num_open} of {len(tasks)} final runs are done already")
    if num_open:
        _warn_of_samples(study, tasks, progress)
        recipe = study.models / ".recipe.yaml"  # overrides included: what is launched reads this very recipe
        write_text(recipe, json.dumps(study.recipe.model_dump(mode="json"), indent=2))
        launches = [
            Launch(flags, "regmix_hf.train", (str(recipe),), environment, log_path(study.models / ".logs", k))
            for k, (flags, environment) in enumerate(places(study.recipe.train, num_open))
        ]
        watch(launches, tasks, start=start, progress=progress)
    conclude(study, tasks, progress)


def _warn_of_samples(study: Study, tasks: Sequence[Task], progress: Progress) -> None:
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


def conclude(study: Study, tasks: list[Task], progress: Progress) -> None:
    """Collect the tables of the stage and finish it, once all of its runs have a result."""
    results = collect(tasks, study.models)
    for name in results.loc[results["status"] == "diverged", "mixture_id"]:
        progress.note(f"the final run on {name} diverged: its loss is not finite")
    if study.recipe.train.streaming:
        for row in results.to_dict("records"):
            epochs = {name: row[f"epochs/{name}"] for name in study.recipe.training_domains}
            if again := ", ".join(f"{name} ({count:.1f})" for name, count in epochs.items() if count > 1):
                progress.note(f"the final run on {row['mixture_id']} read more than once (times): {again}")
    study.finish(STAGE, {"num_models": len(results)})


def tasks_of(study: Study) -> list[Task]:
    """Return the study's final runs, in order, each with its folder under `6-models`.

    Raises:
        StudyError: There is no corpus, or no mixture is chosen yet.
        MixtureError: A mixture is none over the domains of the study, or reads one too often.
    """
    facts = CorpusFacts.load(study.corpus)
    mixtures = {name: mixture_named(study, name, facts) for name in study.final_mixtures}
    check_text(study.recipe, mixtures, facts.available_tokens(study.recipe))
    return [
        Task(name, study.models / name, spec.num_tokens, spec)
        for name, spec in final_specs(study.recipe, facts, mixtures)
    ]


def mixture_named(study: Study, name: str, facts: CorpusFacts) -> dict[str, float]:
    """Return the final mixture `name`: domain -> share of training tokens, over all training domains.

    Raises:
        StudyError: It is the chosen one, and none is chosen yet.
        MixtureError: It is no mixture over the domains of the study.
    """
    recipe = study.recipe
    if name == "chosen":
        return read_chosen(study.mixture, recipe.training_domains)
    if name in (*BUILT_IN_MIXTURES, *recipe.baselines):
        return given_mixture(recipe, name, facts.available_tokens(recipe))
    sampled = read_parquet(study.require(study.mixtures, "sample"), MIXTURES).set_index("mixture_id")
    weights = by_domain(sampled, "weight").loc[name].to_dict()
    return normalise({str(key): float(value) for key, value in weights.items()}, recipe.training_domains)
