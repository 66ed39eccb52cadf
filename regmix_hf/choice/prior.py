"""A prior that the user gives, for runs of which nobody knows what text there is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from regmix_hf.errors import MixtureError, did_you_mean
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
    known = list(domains)
    try:
        tree = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, YAMLError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise MixtureError(f"--prior {file} cannot be read: {reason}") from None
    while isinstance(tree, dict) and (found := [key for key in _SECTIONS if isinstance(tree.get(key), dict)]):
        tree = tree[found[0]]
    if not isinstance(tree, dict) or not tree:
        raise MixtureError(f"--prior {file} holds no domains.", "write DOMAIN: SHARE, one a line")
    for name, value in tree.items():
        if name not in known:
            raise MixtureError(f"--prior {file}: {name!r} is no domain; {did_you_mean(str(name), known)}")
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise MixtureError(f"--prior {file}: {name!r} has {value!r}.", "write a share, or tokens")
    return normalise(tree, known, name=f"--prior {file}")
