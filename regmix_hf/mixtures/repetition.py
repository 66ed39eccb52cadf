"""Whether there is text enough: how often final runs would read each domain, against what is allowed."""

from __future__ import annotations

from collections.abc import Mapping

from regmix_hf.errors import MixtureError
from regmix_hf.files import hash_value
from regmix_hf.mixtures.constraints import EpochCap
from regmix_hf.readable import at_most, short
from regmix_hf.recipe import Recipe

#: Chosen weights are rounded to a millionth, so one at its cap may lie this much above it.
_ROUNDING = 1e-6


def longest_reading(recipe: Recipe) -> int:
    """Tokens of the run over all text there is that reads each domain as often as the longest proxy does."""
    if recipe.proxy.match_repetition:
        return recipe.train.num_train_tokens
    return max(rung.num_train_tokens for rung in recipe.rungs.values())


def stamp_matching(recipe: Recipe) -> dict[str, str]:
    """Hash what proxies that repeat as final runs do depend on beside their own keys; else nothing."""
    if not recipe.proxy.match_repetition:
        return {}
    lengths = [recipe.proxy.num_train_tokens, recipe.train.num_train_tokens]
    return {"how often final runs repeat": hash_value(lengths)}


def matched_blocks(recipe: Recipe, section: str, available: Mapping[str, int]) -> dict[str, int] | None:
    """Blocks of each domain that a proxy reads, so that it repeats them as often as a final run all of them.

    A proxy of `p` tokens with the weight `w` on a domain of `a` tokens reads it `w p / a` times, a final run
    of `f` tokens `w f / a` times. Of `a p / f` tokens a proxy reads as many epochs as the final run of all.

    Domain -> blocks, for a section of the recipe's `rungs`; `None`: a proxy reads what there is.

    Raises:
        MixtureError: A domain's part is less than one block.
    """
    proxy, train = recipe.rungs[section], recipe.train
    if not proxy.match_repetition:
        return None
    share = proxy.num_train_tokens / train.num_train_tokens
    blocks = {name: round(count * share / recipe.context_length) for name, count in available.items()}
    if scarce := [name for name, count in blocks.items() if count < 1]:
        least = min(scarce, key=lambda name: available[name])
        needed = train.num_train_tokens * recipe.context_length / available[least]
        raise MixtureError(
            f"{section}.match_repetition: of domain {least!r} a proxy would read {share:.2g} of "
            f"{at_most(available[least])} tokens, less than one block of {recipe.context_length}.",
            f"train proxies on {short(needed)} tokens or more, give the domain more text, or leave it or "
            f"{section}.match_repetition out",
        )
    return blocks


def check_repetition(mixtures: Mapping[str, Mapping[str, float]], cap: EpochCap) -> None:
    """Refuse mixtures that would read a domain more often than allowed.

    Raises:
        MixtureError: One would; the message names the worst case with its numbers, and how many there are.
    """
    excesses = {
        (name, domain): weight / cap.weight(domain)
        for name, weights in mixtures.items()
        for domain, weight in weights.items()
        if weight > cap.weight(domain) + _ROUNDING
    }
    if not excesses:
        return
    name, domain = max(excesses, key=lambda pair: excesses[pair])
    length, available = cap.num_train_tokens, cap.available_tokens[domain]
    wanted = mixtures[name][domain] * length
    others = f"; this is the worst case of {len(excesses)}" if len(excesses) > 1 else ""
    raise MixtureError(
        f"train: the mixture {name!r} would read domain {domain!r} {wanted / available:.3g} times: it is to "
        f"give {at_most(wanted)} of a run's {at_most(length)} tokens and has "
        f"{at_most(available)}; choice.max_epochs is {cap.max_epochs:g}{others}.",
        f"train on at most {at_most(length / excesses[name, domain])} tokens, raise choice.max_epochs, "
        "give the domain more text, or write train.allow_repetition: true",
    )
