"""Proxies of several sizes as they are written: each entry says what it changes of the one before."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

#: What no entry has from the one before.
_OWN = ("num_mixtures", "scale")


def with_swarm(tree: Any) -> Any:
    """Return a recipe whose `proxies` are whole, the first of them under `proxy`, too.

    Args:
        tree: A recipe as it is written; what is no recipe is left to its schema.

    Raises:
        ValueError: It has both `proxy` and `proxies`.
    """
    entries = tree.get("proxies") if isinstance(tree, dict) else None
    if not isinstance(entries, list | tuple) or not entries:
        return tree
    if tree.get("proxy") is not None:
        raise ValueError("`proxy` and `proxies` are both there; `proxy` is the first entry of `proxies`")
    whole: list[Any] = []
    for entry in entries:
        before = whole[-1] if whole else {}
        if isinstance(entry, dict) and isinstance(before, dict):
            handed_on = {key: value for key, value in before.items() if key not in _OWN}
            entry = {**handed_on, **entry}
        whole.append(entry)
    swarm = whole[0]
    if isinstance(swarm, dict):
        swarm = {key: value for key, value in swarm.items() if key != "num_mixtures"}
    return {**tree, "proxies": whole, "proxy": swarm}


def as_written(words: dict[str, Any], rungs: Sequence[Any]) -> dict[str, Any]:
    """Return the words of a recipe so that `with_swarm` reads the same again.

    Args:
        words: Of all its sections; a default may be left out where it stands.
        rungs: Its `proxies`.
    """
    if not rungs:
        return {key: value for key, value in words.items() if key != "proxies"}
    for (before, entry), rung in zip(pairwise(words.get("proxies", ())), rungs[1:], strict=False):
        lost = before.keys() - entry.keys() - set(_OWN)
        entry.update({key: getattr(rung, key) for key in sorted(lost)})
    return {key: value for key, value in words.items() if key != "proxy"}
