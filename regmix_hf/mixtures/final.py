"""The final run's mixtures that are known before anything is chosen, and what every one of them must meet."""

from __future__ import annotations

from collections.abc import Mapping

from regmix_hf.mixtures.constraints import Constraints, EpochCap
from regmix_hf.mixtures.mixture import normalise, uniform
from regmix_hf.mixtures.repetition import check_repetition
from regmix_hf.recipe import Recipe


def final_constraints(recipe: Recipe, tokens: Mapping[str, int]) -> Constraints:
    """Return what the final run's mixture must meet: the recipe's bounds and its cap on epochs.

    Args:
        recipe: The recipe.
        tokens: Available tokens of every training domain.

    Raises:
        MixtureError: No mixture meets them.
    """
    epochs = None
    if recipe.choice.max_epochs is not None:
        epochs = EpochCap(recipe.choice.max_epochs, tokens, recipe.train.num_train_tokens)
    bounds = recipe.choice
    return Constraints(tuple(tokens), bounds.min, bounds.max, bounds.fixed, epochs=epochs, name="choice")


def given_mixture(recipe: Recipe, name: str, tokens: Mapping[str, int]) -> dict[str, float]:
    """Return the final mixture `name`, one that is known before anything is sampled or chosen.

    Args:
        recipe: The recipe.
        name: `prior`, `uniform`, or a key of `baselines`.
        tokens: Available tokens of every training domain.

    Raises:
        MixtureError: It is no mixture over the domains of the study.
    """
    match name:
        case "prior":
            return normalise(tokens, tokens, name="prior")
        case "uniform":
            return uniform(tokens)
        case _:
            return normalise(recipe.baselines[name], tokens, name=f"baselines.{name}")


def check_text(
    recipe: Recipe, mixtures: Mapping[str, Mapping[str, float]], tokens: Mapping[str, int]
) -> None:
    """Refuse final runs that read a domain more often than `choice.max_epochs`, unless the recipe allows it.

    Args:
        recipe: The recipe.
        mixtures: Name -> the mixture of a final run.
        tokens: Available tokens of every training domain.

    Raises:
        MixtureError: A mixture does.
    """
    if recipe.choice.max_epochs is not None and not recipe.train.allow_repetition:
        check_repetition(mixtures, EpochCap(recipe.choice.max_epochs, tokens, recipe.train.num_train_tokens))
