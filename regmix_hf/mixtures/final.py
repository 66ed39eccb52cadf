"""The final runs' mixtures, by name: the chosen one, those known before it, the swarm's held-out ones.

`tokens` are the available tokens of every training domain, `sampled` is the table of sampled mixtures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from regmix_hf.errors import StudyError
from regmix_hf.mixtures.constraints import Constraints, EpochCap
from regmix_hf.mixtures.mixture import normalise, uniform
from regmix_hf.mixtures.repetition import check_repetition
from regmix_hf.mixtures.table import read_mixtures
from regmix_hf.recipe import Choice, Recipe
from regmix_hf.recipe.schema import CHOSEN, HOLDOUT
from regmix_hf.tables import by_domain

#: Weights are rounded to a millionth, and then divided by their sum: by so much a mixture may miss a bound.
_ROUNDING = 2e-6


def final_names(recipe: Recipe, sampled: Path) -> list[str]:
    """Return the names in `train.mixtures`, with those of the held-out mixtures in the place of `holdout`.

    The table is read only when held-out ones are asked for.

    Raises:
        StudyError: They are asked for and none are sampled yet, or one is called as a baseline is.
    """
    names: list[str] = []
    for name in recipe.train.mixtures:
        names += _held_out(sampled) if name == HOLDOUT else [name]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise StudyError(
            f"a mixture of the swarm and a baseline are both called {repeated[0]!r}.",
            f"give baselines.{repeated[0]} another name",
        )
    return names


def final_mixtures(
    recipe: Recipe, tokens: Mapping[str, int], sampled: Path, chosen: Callable[[], dict[str, float]]
) -> dict[str, dict[str, float]]:
    """Return all final mixtures: name -> domain -> share of training tokens, over all training domains.

    `chosen` reads the chosen mixture, and is called when it is asked for.

    Raises:
        StudyError: One is asked for that is not sampled or chosen yet.
        MixtureError: One is no mixture over the domains of the study, or reads a domain more often than the
            recipe allows.
    """
    names, known = final_names(recipe, sampled), known_mixtures(recipe, tokens)
    held_out = _held_out(sampled) if HOLDOUT in recipe.train.mixtures else {}
    mixtures = {
        name: known.get(name) or (chosen() if name == CHOSEN else normalise(held_out[name], tokens))
        for name in names
    }
    check_text(recipe, mixtures, tokens)
    return mixtures


def known_mixtures(recipe: Recipe, tokens: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """Return the final mixtures that are known before anything is sampled or chosen.

    Raises:
        MixtureError: One is no mixture over the domains of the study.
    """
    names = [name for name in recipe.train.mixtures if name not in (CHOSEN, HOLDOUT)]
    return {name: given_mixture(recipe, name, tokens) for name in names}


def num_final_mixtures(recipe: Recipe) -> int:
    """Count the final mixtures that a recipe asks for."""
    held_out = recipe.sampling.num_holdout - 1 if HOLDOUT in recipe.train.mixtures else 0
    return len(recipe.train.mixtures) + held_out


def largest_weights(
    recipe: Recipe, tokens: Mapping[str, int], drawn: Mapping[str, float]
) -> list[dict[str, float]]:
    """Return for every final mixture the largest weights that it can have, before it is known.

    `drawn` are the largest weights of the swarm's mixtures, beyond which none is chosen.

    Raises:
        MixtureError: The bounds of `choice` leave no mixture.
    """
    largest = list(known_mixtures(recipe, tokens).values())
    if HOLDOUT in recipe.train.mixtures:
        largest.append(dict(drawn))
    if CHOSEN in recipe.train.mixtures:
        allowed = final_constraints(recipe, tokens).largest
        largest.append({domain: min(weight, drawn[domain]) for domain, weight in allowed.items()})
    return largest


def final_constraints(recipe: Recipe, tokens: Mapping[str, int]) -> Constraints:
    """Return what the final run's mixture must meet: the recipe's bounds and its cap on epochs.

    Raises:
        MixtureError: No mixture meets them.
    """
    return choice_constraints(recipe.choice, tuple(tokens), tokens, recipe.train.num_train_tokens)


def choice_constraints(
    choice: Choice,
    domains: tuple[str, ...],
    available_tokens: Mapping[str, float] | None = None,
    num_train_tokens: float = 0.0,
) -> Constraints:
    """Return the bounds of domains and groups that `choice` gives, and `max_epochs` where the text is known.

    Args:
        choice: Bounds.
        domains: All of them.
        available_tokens: Of every domain; `None`: nobody knows, and epochs are not bounded.
        num_train_tokens: Of the run that is chosen for.

    Raises:
        MixtureError: No mixture meets them.
    """
    epochs = None
    if available_tokens is not None and choice.max_epochs is not None:
        epochs = EpochCap(choice.max_epochs, available_tokens, num_train_tokens)
    return Constraints(
        domains, choice.min, choice.max, choice.fixed, choice.groups, epochs=epochs, name="choice"
    )


def given_mixture(recipe: Recipe, name: str, tokens: Mapping[str, int]) -> dict[str, float]:
    """Return a final mixture that is known before any is sampled: `prior`, `uniform`, a key of `baselines`.

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

    Raises:
        MixtureError: A mixture does.
    """
    if recipe.choice.max_epochs is not None and not recipe.train.allow_repetition:
        check_repetition(mixtures, EpochCap(recipe.choice.max_epochs, tokens, recipe.train.num_train_tokens))


def outside_bounds(
    recipe: Recipe, mixtures: Mapping[str, Mapping[str, float]], tokens: Mapping[str, int]
) -> list[str]:
    """Name the mixtures that `choice` could not have chosen: they are there to be compared with.

    Raises:
        MixtureError: No mixture meets the bounds.
    """
    bounds = final_constraints(recipe, tokens)
    rows = np.array([[weights[name] for name in bounds.domains] for weights in mixtures.values()])
    away = np.abs(bounds.project(rows) - rows).max(axis=1) if len(rows) else rows
    return [name for name, distance in zip(mixtures, away, strict=True) if distance > _ROUNDING]


def _held_out(sampled: Path) -> dict[str, dict[str, float]]:
    """The weights of the swarm's held-out mixtures, by name."""
    if not sampled.exists():
        raise StudyError(f"{sampled} is not there yet.", "run `regmix sample` first")
    table = read_mixtures(sampled)
    table = table[table["split"] == HOLDOUT]
    rows = by_domain(table, "weight").to_dict("records")
    return {
        str(name): {str(domain): float(weight) for domain, weight in row.items()}
        for name, row in zip(table["mixture_id"], rows, strict=True)
    }
