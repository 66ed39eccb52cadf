"""What can be checked of a study before anything runs, touching nothing."""

from __future__ import annotations

import platform
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from regmix_hf.corpus.survey import survey
from regmix_hf.errors import RecipeError, TrainingError
from regmix_hf.evaluation.metrics import check_metrics
from regmix_hf.evaluation.tasks import check_task_names
from regmix_hf.files import hash_file, hash_value, read_json, write_json
from regmix_hf.mixtures import Constraints
from regmix_hf.mixtures.budgets import largest_in_proxies
from regmix_hf.mixtures.final import (
    check_text,
    choice_constraints,
    final_constraints,
    known_mixtures,
    outside_bounds,
)
from regmix_hf.mixtures.repetition import matched_blocks
from regmix_hf.readable import count_of
from regmix_hf.recipe import Recipe
from regmix_hf.recipe.training import Training
from regmix_hf.stages.prepare import STAGE as PREPARE
from regmix_hf.study import State, Study, names
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.training.planned import known_facts, planned_model, planned_size, rehearse_runs
from regmix_hf.version import VERSION, installed

#: Packages by whose versions an argument may be known or not.
_DECISIVE_PACKAGES = ("torch", "transformers", "accelerate")


def check_study(study: Study, verbs: Collection[str] | None = None) -> list[str]:
    """Check what can be checked before anything runs; return what was.

    Args:
        study: The study; its folder need not be there.
        verbs: Stages to check for; `None`: all.

    Raises:
        RegmixError: At the first thing that is wrong.
    """
    wanted = _CHECKS if verbs is None else {verb: check for verb, check in _CHECKS.items() if verb in verbs}
    return [said for check in wanted.values() for said in check(study)]


def check_once(study: Study, verbs: Collection[str]) -> None:
    """Like `check_study`, unless this very study was found right the last time: some checks import torch.

    Raises:
        RegmixError: At the first thing that is wrong.
    """
    file = study.root / names.CHECKED
    found: Mapping[str, Any] = read_json(file) if file.exists() else {}
    if found.get("stamp") != _stamp(study) or not set(verbs) <= set(found["verbs"]):
        check_study(study, verbs)


def remember_checks(study: Study, verbs: Collection[str]) -> None:
    """Note in the study's folder that nothing was wrong, for `check_once`."""
    write_json(study.root / names.CHECKED, {"stamp": _stamp(study), "verbs": sorted(verbs)})


def _stamp(study: Study) -> str:
    """Hash all that a check depends on: recipe, corpus, machine and versions."""
    corpus = study.corpus / names.CORPUS_FACTS
    return hash_value(
        {
            "recipe": study.recipe.model_dump(mode="json", exclude={"executor"}),
            "corpus": hash_file(corpus) if corpus.exists() else None,
            "machine": platform.node(),
            "versions": [VERSION, *(installed(name) for name in _DECISIVE_PACKAGES)],
            "accelerate_config": _content(study.recipe.train.accelerate_config),
        }
    )


def _content(accelerate_config: str | None) -> str | None:
    is_file = accelerate_config is not None and Path(accelerate_config).is_file()
    return hash_file(Path(accelerate_config)) if accelerate_config and is_file else accelerate_config


#: Families that listen to experts.
_WEIGH_EXPERTS = ("auto", "experts", "experts_and_law")


def _check_prepare(study: Study) -> Iterator[str]:
    recipe = study.recipe
    yield f"{count_of(len(recipe.domains), 'domain')}, {len(recipe.training_domains)} trained on"
    yield from survey(recipe) if not study.is_pulled else ["not the text: the study was pulled without it"]


def _check_sample(study: Study) -> Iterator[str]:
    bounds = study.recipe.sampling
    Constraints(study.recipe.training_domains, bounds.min, bounds.max, {}, name="sampling")
    yield "sampling: its bounds leave room for a mixture"


def _check_proxies(study: Study) -> Iterator[str]:
    for section, rung in study.recipe.rungs.items():
        if rung.match_repetition and (tokens := _available_tokens(study)):
            matched_blocks(study.recipe, section, tokens)
            yield f"{section}.match_repetition: there is a block of every domain to repeat"
    if tasks := study.recipe.proxy.tasks:
        check_task_names(tasks, study.recipe.evaluation.include_path, "proxy.tasks")
        yield f"proxy.tasks: {len(tasks)} are known"
    if judged := study.recipe.proxy.judged:
        own = study.recipe.evaluation.include_path
        check_task_names(list(judged), own, "proxy.metrics")
        check_metrics(judged, own)
        yield f"proxy.metrics: {len(study.recipe.proxy.metrics)} are known"
    for section, rung in study.recipe.rungs.items():
        yield from _check_runs(study, section, rung)


def _check_fit(study: Study) -> Iterator[str]:
    from regmix_hf.regression.by_size import families_of
    from regmix_hf.regression.registry import estimator_class

    recipe = study.recipe
    families = families_of(recipe)
    for name in families:
        family = estimator_class(name)
        if family.needs_experts and not recipe.sampling.experts and recipe.runs is None:
            raise RecipeError(
                f"regression.estimators names {name!r}, and no experts are trained.",
                "write sampling.experts: true",
            )
        if family.needs_experts and len(recipe.rungs) > 1:
            _check_largest(recipe, name)
        needed = family.min_runs(len(recipe.training_domains))
        if recipe.runs is None and recipe.sampling.num_mixtures < needed:
            raise RecipeError(
                f"sampling.num_mixtures {recipe.sampling.num_mixtures} is too few to fit {name!r}.",
                f"write sampling.num_mixtures: {needed}, or leave {name!r} out of regression.estimators"
                + (": [experts] is fitted on none" if recipe.sampling.experts else ""),
            )
    _check_estimator(recipe, families)
    yield f"enough for {', '.join(families)}: {count_of(recipe.sampling.num_mixtures, 'mixture')}"
    if recipe.sampling.experts and not {*_WEIGH_EXPERTS} & {*families}:
        yield (
            f"not what experts say: {', '.join(families)} asks none; regression.estimators: "
            + ("[experts, scaled_law] does" if len(recipe.rungs) > 1 else "[experts] or [auto] does")
        )


def _check_estimator(recipe: Recipe, families: list[str]) -> None:
    """Refuse to choose by a family that is not fitted.

    Raises:
        RecipeError: It is none of them.
    """
    asked = recipe.regression.estimator
    if asked is None or asked in families:
        return
    if len(recipe.rungs) > 1:
        raise RecipeError(
            f"regression.estimator {asked!r} is not fitted on proxies of several sizes.",
            f"write {' or '.join(families)}, or leave it out",
        )
    raise RecipeError(
        f"regression.estimator {asked!r} is none of regression.estimators {families}.",
        "write one of them, or add it there and fit again",
    )


def _check_largest(recipe: Recipe, name: str) -> None:
    """Refuse a family that takes its scale from the runs of one size where the largest has too few.

    Raises:
        RecipeError: It has fewer than such runs are judged by.
    """
    from regmix_hf.regression.base import ENOUGH_TO_JUDGE

    count, section = recipe.proxies[-1].num_mixtures or 0, f"proxies.{len(recipe.proxies) - 1}"
    if count < ENOUGH_TO_JUDGE:
        raise RecipeError(
            f"{section}.num_mixtures {count}: {name!r} has its scale from the runs of the largest size, and "
            f"{count} are too few to judge it by.",
            f"write {section}.num_mixtures: {ENOUGH_TO_JUDGE}, or leave {name!r} out",
        )


def _check_choose(study: Study) -> Iterator[str]:
    from regmix_hf.regression.by_size import families_of

    _check_estimator(study.recipe, families_of(study.recipe))
    yield from _check_bounds(study.recipe, _available_tokens(study))
    facts, rungs = known_facts(study), list(study.recipe.rungs.values())
    if len(rungs) > 1 and not _speaks_of_final_models(study.recipe):
        yield (
            "not what final models will lose: experts rank mixtures, and speak of the largest proxies; "
            "regression.estimators: [experts, scaled_law] fits both"
        )
    elif len(rungs) > 1 and facts:
        trained = {planned_size(study.recipe, rung, facts)[0] for rung in rungs}
        asked = planned_size(study.recipe, study.recipe.train, facts)[0]
        if len(trained) == 1 and asked not in trained:
            raise RecipeError(
                f"proxies: all have {trained.pop():,} parameters and differ in length only: they do not tell "
                f"what train.model, which has {asked:,}, will lose.",
                "give one of them another model, or write `proxy`",
            )
        yield "proxies: a mixture can be chosen for the size and length of final models"


def _check_bounds(recipe: Recipe, tokens: Mapping[str, int] | None) -> Iterator[str]:
    """Check that a mixture can be chosen, and name the groups that must have more than proxies tell of."""
    bounds = choice_constraints(recipe.choice, recipe.training_domains)
    if tokens is not None:
        bounds = final_constraints(recipe, tokens)
    yield "choice: its bounds leave room for a mixture"
    if tokens is not None and bounds.groups:
        from regmix_hf.choice.reach import beyond_reach

        known = np.array(list(largest_in_proxies(recipe, tokens).values()))
        yield from (f"not what proxies can tell: {found}" for found in beyond_reach(bounds, known))


def _speaks_of_final_models(recipe: Recipe) -> bool:
    """Whether a family that is fitted on proxies of several sizes, and may choose, tells of other sizes."""
    from regmix_hf.regression.by_size import families_of
    from regmix_hf.regression.registry import estimator_class

    use = recipe.regression.estimator
    return any(estimator_class(name).takes_sizes for name in ([use] if use else families_of(recipe)))


def _check_train(study: Study) -> Iterator[str]:
    recipe = study.recipe
    if recipe.train.accelerate_config is not None:
        from regmix_hf.jobs.accelerate_config import check_config

        yield f"train.accelerate_config: {check_config(recipe.train.accelerate_config)}"
    if tokens := _available_tokens(study):
        known = known_mixtures(recipe, tokens)
        check_text(recipe, known, tokens)
        yield f"train: there is text enough for {', '.join(known) or 'what can be known before `choose`'}"
        if outside := outside_bounds(recipe, known, tokens):
            yield f"train: {', '.join(outside)}: outside the bounds of `choice`, so a comparison only"
    yield from _check_runs(study, "train", recipe.train)


def _check_evaluate(study: Study) -> Iterator[str]:
    tasks = study.recipe.evaluation.tasks
    check_task_names(tasks, study.recipe.evaluation.include_path)
    yield f"evaluation: {count_of(len(tasks), 'known task')}"


def _check_runs(study: Study, section: str, training: Training) -> Iterator[str]:
    """Check arguments and model of the runs that a section of the recipe asks for."""
    from regmix_hf.training.arguments import check_arguments

    check_arguments(training.training_args, section=section)
    try:
        facts = known_facts(study)
        rehearse_runs(study.recipe, section, training, facts)
        model = planned_model(study.recipe, training, facts) if facts else None
    except TrainingError as error:
        told = error.message if error.message.startswith(f"{section}.") else f"{section}: {error.message}"
        raise TrainingError(told, error.hint) from None
    yield f"{section}.training_args"
    if model is None:
        yield f"not {section}.model's size: {study.recipe.tokenizer!r} has its vocabulary after `prepare`"
    else:
        yield f"{section}.model: {model.num_parameters:,} parameters ({model.scale} without embeddings)"


#: What must be right for each stage; cheap checks first.
_CHECKS: dict[str, Callable[[Study], Iterator[str]]] = {
    "prepare": _check_prepare,
    "fit": _check_fit,
    "sample": _check_sample,
    "choose": _check_choose,
    "proxies": _check_proxies,
    "train": _check_train,
    "evaluate": _check_evaluate,
}


def _available_tokens(study: Study) -> dict[str, int] | None:
    """Tokens of every training domain, where known: counted in this very text, or declared for all."""
    facts = CorpusFacts.find(study.corpus)
    if facts is not None and study.state(PREPARE) is not State.STALE:
        return facts.available_tokens(study.recipe)
    return study.recipe.declared_tokens
