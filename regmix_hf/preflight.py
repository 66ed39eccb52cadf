"""What can be checked of a study before anything runs, touching nothing."""

from __future__ import annotations

from collections.abc import Iterator

from regmix_hf.corpus.survey import survey
from regmix_hf.errors import RecipeError, TrainingError
from regmix_hf.evaluation.tasks import check_task_names
from regmix_hf.jobs.accelerate_config import check_config
from regmix_hf.mixtures import Constraints
from regmix_hf.mixtures.final import check_text, given_mixture
from regmix_hf.recipe import Choice
from regmix_hf.recipe.schema import HOLDOUT, Training
from regmix_hf.study import Study
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.training.arguments import check_arguments
from regmix_hf.training.planned import known_facts, planned_model


def check_study(study: Study) -> list[str]:
    """Check what can be checked before anything runs; return what was.

    Raises:
        RegmixError: At the first thing that is wrong.
    """
    return list(_checks(study))


def _checks(study: Study) -> Iterator[str]:
    from regmix_hf.regression.registry import estimator_class

    recipe = study.recipe
    yield f"{len(recipe.domains)} domains, {len(recipe.training_domains)} of them trained on"
    yield from survey(recipe) if not study.is_pulled else ["not the text: the study was pulled without it"]
    check_task_names(recipe.evaluation.tasks)
    for name in recipe.regression.estimators:
        needed = estimator_class(name).min_runs(len(recipe.training_domains))
        if recipe.runs is None and recipe.sampling.num_mixtures < needed:
            raise RecipeError(
                f"sampling.num_mixtures {recipe.sampling.num_mixtures} is too few to fit {name!r}.",
                f"write sampling.num_mixtures: {needed}, or leave {name!r} out of regression.estimators",
            )
    if recipe.regression.estimator not in (None, *recipe.regression.estimators):
        raise RecipeError(
            f"regression.estimator {recipe.regression.estimator!r} is none of "
            f"regression.estimators {recipe.regression.estimators}."
        )
    yield f"{recipe.sampling.num_mixtures} mixtures suffice for {', '.join(recipe.regression.estimators)}"
    for name in ("sampling", "choice"):
        bounds = getattr(recipe, name)
        fixed = bounds.fixed if isinstance(bounds, Choice) else {}
        Constraints(recipe.training_domains, bounds.min, bounds.max, fixed, name=name)
        yield f"{name}: its bounds leave room for a mixture"
    if recipe.train.accelerate_config is not None:
        yield f"train.accelerate_config: {check_config(recipe.train.accelerate_config)}"
    if tokens := _available_tokens(study):
        names = [name for name in recipe.train.mixtures if name not in ("chosen", HOLDOUT)]
        check_text(recipe, {name: given_mixture(recipe, name, tokens) for name in names}, tokens)
        yield f"train: there is text enough for {', '.join(names) or 'what can be known before `choose`'}"
    facts = known_facts(study)
    if facts is None:
        yield f"not the models: the vocabulary of {recipe.tokenizer!r} is known after `prepare`"
    for section in ("proxy", "train"):
        training: Training = getattr(recipe, section)
        check_arguments(training.training_args, section=section)
        yield f"{section}.training_args"
        if facts:
            try:
                model = planned_model(recipe, training, facts)
            except TrainingError as error:
                raise TrainingError(f"{section}: {error.message}", error.hint) from None
            yield f"{section}.model: {model.num_parameters:,} parameters ({model.scale} without embeddings)"


def _available_tokens(study: Study) -> dict[str, int] | None:
    """Tokens of every training domain, where that is known: counted, or all of them declared."""
    if (study.corpus / "corpus.json").exists():
        return CorpusFacts.load(study.corpus).available_tokens(study.recipe)
    return study.recipe.declared_tokens
