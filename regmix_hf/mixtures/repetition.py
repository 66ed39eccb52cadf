"""Whether there is text enough: how often final runs would read each domain, against what is allowed."""

from __future__ import annotations

from collections.abc import Mapping

from regmix_hf.errors import MixtureError
from regmix_hf.mixtures.constraints import EpochCap
from regmix_hf.readable import at_most

#: Chosen weights are rounded to a millionth, so one at its cap may lie this much above it.
_ROUNDING = 1e-6


def check_repetition(mixtures: Mapping[str, Mapping[str, float]], cap: EpochCap) -> None:
    """Refuse mixtures that would read a domain more often than allowed.

    Args:
        mixtures: Name -> domain -> share of training tokens.
        cap: What each domain holds, how long a run is, and how often a domain may be read.

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
