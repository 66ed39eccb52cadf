"""Proxies of several sizes as they are written: each entry says what it changes of the one before."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Any

#: What no entry has from the one before.
_OWN = ("num_mixtures", "scale")
#: Of it an entry has what it does not say itself from the one before; `null` takes an argument away.
_MERGED = "training_args"
_ABSENT = object()


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
            entry = {**handed_on, **entry, **_merged(before, entry)}
        whole.append(entry)
    swarm = whole[0]
    if isinstance(swarm, dict):
        swarm = {key: value for key, value in swarm.items() if key != "num_mixtures"}
    return {**tree, "proxies": whole, "proxy": swarm}


def _merged(before: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """The arguments of an entry that says some of them, under their key."""
    said, known = entry.get(_MERGED), before.get(_MERGED)
    if not isinstance(said, dict) or not isinstance(known, dict):
        return {}
    rest = {key: value for key, value in known.items() if key not in said}
    return {_MERGED: rest | {key: value for key, value in said.items() if value is not None}}


def with_section(entries: Any, keys: Sequence[str]) -> None:
    """Write into an entry the section that an override reaches into, where it is as in an entry before.

    Else `proxies.1.model.revision=main` would leave the entry that key alone. Arguments are merged anyway.

    Args:
        entries: `proxies` as they are written; changed.
        keys: Of the override, from the number of the entry on.
    """
    if not isinstance(entries, list) or len(keys) < 3 or not keys[0].isdecimal():
        return
    number, section = int(keys[0]), keys[1]
    if section == _MERGED:
        return
    for entry in reversed(entries[: number + 1] if number < len(entries) else []):
        if isinstance(entry, dict) and section in entry:
            entries[number] |= {section: deepcopy(entry[section])}
            return


def as_written(words: dict[str, Any], rungs: Sequence[Any]) -> dict[str, Any]:
    """Return the words of a recipe so that `with_swarm` reads the same again, and overrides are handed on.

    Args:
        words: Of all its sections; a default may be left out where it stands.
        rungs: Its `proxies`.
    """
    if not rungs:
        return {key: value for key, value in words.items() if key != "proxies"}
    entries = words.get("proxies", [])
    changes = [_changes(*pair, rung) for pair, rung in zip(pairwise(entries), rungs[1:], strict=False)]
    rest = {key: value for key, value in words.items() if key != "proxy"}
    return {**rest, "proxies": [*entries[:1], *changes]} if entries else rest


def _changes(before: dict[str, Any], entry: dict[str, Any], rung: Any) -> dict[str, Any]:
    """What an entry says that the one before does not, its defaults included."""
    lost = before.keys() - entry.keys() - set(_OWN)
    said = {key: value for key, value in entry.items() if key in _OWN or before.get(key, _ABSENT) != value}
    changes = {**said, **{key: getattr(rung, key) for key in sorted(lost)}}
    if _MERGED in changes:
        known, asked = before.get(_MERGED, {}), entry.get(_MERGED, {})
        new = {key: value for key, value in asked.items() if known.get(key, _ABSENT) != value}
        changes[_MERGED] = new | dict.fromkeys(sorted(known.keys() - asked.keys()))
    return changes
