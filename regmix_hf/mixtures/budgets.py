"""How many tokens of each streaming domain a study can need: more of it is not read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from regmix_hf.errors import MixtureError
from regmix_hf.files import hash_value
from regmix_hf.mixtures.experts import expert_mixtures
from regmix_hf.mixtures.final import given_mixture, largest_weights
from regmix_hf.mixtures.repetition import longest_reading
from regmix_hf.mixtures.sampling import sampling_constraints
from regmix_hf.recipe import Recipe
from regmix_hf.recipe.model import Base

#: Beyond what a domain is expected to be drawn: standard deviations of the draw, and blocks.
_DEVIATIONS, _SPARE_BLOCKS = 8.0, 16


def token_budgets(recipe: Recipe) -> dict[str, int] | None:
    """Return the training tokens to read of each domain that need not be read to its end.

    A domain's budget is the largest weight that a run can give it, times the run's tokens, with room for
    chance. Proxies and the chosen mixture are taken at their bounds, not at what is drawn: a swarm that
    grows, or a mixture chosen anew, then still finds the blocks it trained on before. (With RegMix's settings
    the largest weights of 512 mixtures sum to 99 % of the bounds.) Final runs straight from the stream need
    nothing.

    Returns:
        Domain -> tokens, in whole blocks, for the streaming domains that have more than that; `None` when
        the recipe does not say how many tokens every training domain has, so that all must be counted.

    Raises:
        MixtureError: The bounds of `sampling` or `choice` leave no mixture.
    """
    tokens = recipe.declared_tokens
    if tokens is None:
        return None
    demands = list(_demands(recipe, tokens))
    needed = {
        name: max(_num_blocks(weights[name], recipe, length) for weights, length in demands)
        * recipe.context_length
        for name in tokens
    }
    return {
        name: needed[name]
        for name in tokens
        if recipe.domains[name].streaming and needed[name] < tokens[name]
    }


def stamp_budgets(recipe: Recipe) -> dict[str, str]:
    """Hash the budgets, for a corpus that has any: when they change, another part of the text is read."""
    if not any(recipe.domains[name].streaming for name in recipe.training_domains):
        return {}
    try:
        budgets = token_budgets(recipe)
    except MixtureError as error:
        return {"tokens to read": hash_value(error.message)}  # `prepare` will say it
    return {"tokens to read": hash_value(budgets)} if budgets else {}


def largest_in_proxies(recipe: Recipe, tokens: Mapping[str, int]) -> dict[str, float]:
    """Return the largest weight of each domain that the swarm's mixtures, or experts, can have.

    `tokens` are those that there are of every training domain.

    Raises:
        MixtureError: The bounds of `sampling` leave no mixture.
    """
    drawn = sampling_constraints(recipe.sampling, tokens, num_train_tokens=longest_reading(recipe))
    largest = dict(zip(drawn.domains, drawn.upper.tolist(), strict=True))
    if recipe.sampling.experts:
        experts = expert_mixtures(tokens, recipe.sampling.max_epochs, longest_reading(recipe))
        alone = zip(tokens, experts.max(axis=0).tolist(), strict=True)
        largest = {name: max(largest[name], weight) for name, weight in alone}
    return largest


def _demands(recipe: Recipe, tokens: Mapping[str, int]) -> Iterator[tuple[dict[str, float], int]]:
    """Largest weights in every kind of run, and the tokens of one."""
    largest = largest_in_proxies(recipe, tokens)
    for rung in recipe.rungs.values():
        yield largest, rung.num_train_tokens
    base = recipe.proxy.model.pretrained
    if isinstance(base, Base):
        yield given_mixture(recipe, base.mixture, tokens), base.num_train_tokens
    if recipe.train.streaming:
        return
    for weights in largest_weights(recipe, tokens, largest):
        yield weights, recipe.train.num_train_tokens


def _num_blocks(weight: float, recipe: Recipe, num_tokens: int) -> int:
    weight, blocks = min(weight, 1.0), num_tokens / recipe.context_length
    if weight == 0:
        return 0
    spare = _DEVIATIONS * math.sqrt(blocks * weight * (1 - weight)) + _SPARE_BLOCKS
    return math.ceil(blocks * weight + spare)
