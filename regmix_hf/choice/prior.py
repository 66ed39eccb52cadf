"""What the user says of the text that there is: a prior, or tokens, for runs of which nobody knows it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ruamel.yaml.error import YAMLError

from regmix_hf.errors import MixtureError, did_you_mean
from regmix_hf.files import parse_yaml
from regmix_hf.mixtures.mixture import normalise

#: Below which of these a file may hold the numbers: Olmix's `priors`, a `mixture.yaml` of ours.
_SECTIONS = ("priors", "token_counts", "relative_sizes", "prior", "weights")


def read_prior(file: Path, domains: Iterable[str]) -> dict[str, float]:
    """Read a share or a number of tokens for every domain from YAML or JSON, and scale them to sum to 1.

    Args:
        file: `{web: 0.7, code: 0.3}` or `{web: 7_000_000, code: 3_000_000}`, at the top or below `prior`,
            `weights`, or Olmix's `priors: {token_counts: ...}`.
        domains: Those of the runs; one that is not named has none.

    Raises:
        MixtureError: There is no such file, or it holds no such numbers, or names another domain.
    """
    return normalise(_numbers_in(file, known := list(domains), "--prior"), known, name=f"--prior {file}")


def read_available(file: Path, domains: Iterable[str]) -> dict[str, float]:
    """Read how many tokens there are of every domain, as `read_prior` reads a prior.

    Raises:
        MixtureError: As `read_prior`, or a domain has none.
    """
    known = list(domains)
    tokens = {str(name): float(count) for name, count in _numbers_in(file, known, "--available").items()}
    for name in known:
        if not tokens.get(name, 0.0) > 0:
            raise MixtureError(
                f"--available {file}: domain {name!r} has {tokens.get(name, 'no')} tokens.",
                "write how many there are of every domain, above 0",
            )
    return tokens


def _numbers_in(file: Path, known: list[str], option: str) -> dict[str, float]:
    """The numbers by domain of a file that an option names."""
    try:
        tree = parse_yaml(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, YAMLError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise MixtureError(f"{option} {file} cannot be read: {reason}") from None
    while isinstance(tree, dict) and (found := [key for key in _SECTIONS if isinstance(tree.get(key), dict)]):
        tree = tree[found[0]]
    if not isinstance(tree, dict) or not tree:
        raise MixtureError(f"{option} {file} holds no domains.", "write DOMAIN: NUMBER, one a line")
    for name, value in tree.items():
        if name not in known:
            raise MixtureError(f"{option} {file}: {name!r} is no domain; {did_you_mean(str(name), known)}")
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise MixtureError(
                f"{option} {file}: {name!r} has {value!r}, which is no number.",
                "write tokens, such as 25_000_000_000" + (", or a share" if option == "--prior" else ""),
            )
    return dict(tree)
