"""A fitted law as JSON, for `explorer/laws.js`, which computes with it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from regmix_hf.regression import MixtureRegressor, gaussian_process, power_law
from regmix_hf.regression.auto import Auto
from regmix_hf.regression.base import MixtureEstimator
from regmix_hf.regression.kriged_power_law import KrigedPowerLaw
from regmix_hf.regression.lightgbm import LightGBM

#: What a family adds to every weight before it takes logarithms or roots.
_OFFSETS = {"power_law": power_law.WEIGHT_OFFSET, "gaussian_process": gaussian_process.WEIGHT_OFFSET}


#: Families whose formula `explorer/laws.js` has.
FAMILIES = (
    *("auto", "gaussian_process", "kriged_power_law", "lightgbm"),
    *("log_linear", "own_weight", "power_law", "ridge"),
)


def law_state(regressor: MixtureRegressor) -> dict[str, Any]:
    """All that the predictions of a fitted regressor of `FAMILIES` follow from; arrays as `packed`."""
    return _state(regressor.estimator, regressor.model)


def packed(array: np.ndarray) -> dict[str, Any]:
    """`shape`, and `data`: the numbers as little-endian doubles, in base64."""
    return {"shape": list(array.shape), "data": _base64(array, "<f8")}


def _state(family: str, model: MixtureEstimator) -> dict[str, Any]:
    special: dict[str, Callable[[Any], dict[str, Any]]] = {
        "auto": _auto,
        "kriged_power_law": _kriged,
        "lightgbm": _lightgbm,
    }
    own = special[family](model) if family in special else {}
    offset = {"offset": _OFFSETS[family]} if family in _OFFSETS else {}
    arrays = {name: packed(getattr(model, name)) for name in model.arrays}
    return {"family": family, **offset, **arrays, **own}


def _auto(model: Auto) -> dict[str, Any]:
    members = []
    for name, member in model.members_.items():
        shares = model.shares_[:, list(model.members).index(name)]
        targets = np.flatnonzero(shares)
        law = _state(name, member)
        members.append({"law": law, "targets": targets.tolist(), "shares": shares[targets].tolist()})
    return {"members": members, "num_targets": model.num_targets_}


def _kriged(model: KrigedPowerLaw) -> dict[str, Any]:
    return {"law": _state("power_law", model.law_)}


def _lightgbm(model: LightGBM) -> dict[str, Any]:
    return {"targets": [_trees(booster.dump_model()["tree_info"]) for booster in model.boosters_]}


def _trees(trees: list[dict[str, Any]]) -> dict[str, Any]:
    """Splits, children and leaves of all trees of one target, tree after tree.

    A child is the number of a split in its tree, or ~leaf. Different splits are few and listed once.
    """
    known: dict[tuple[int, float], int] = {}
    splits: list[int] = []
    left: list[int] = []
    right: list[int] = []
    leaves: list[float] = []
    for tree in trees:
        root = tree["tree_structure"]
        nodes = sorted(
            (node for node in _nodes(root) if not _is_leaf(node)), key=lambda one: one["split_index"]
        )
        for node in nodes:
            splits.append(known.setdefault((node["split_feature"], node["threshold"]), len(known)))
            left.append(_child(node["left_child"]))
            right.append(_child(node["right_child"]))
        ends = {node.get("leaf_index", 0): node["leaf_value"] for node in _nodes(root) if _is_leaf(node)}
        leaves += [ends[number] for number in range(len(ends))]
    return {
        "split": _base64(np.array(splits), "<u2"),
        "left": _base64(np.array(left), "i1"),
        "right": _base64(np.array(right), "i1"),
        "leaf": _base64(np.array(leaves), "<f4"),
        "leaves": [tree["num_leaves"] for tree in trees],
        "feature": [feature for feature, _ in known],
        "threshold": _base64(np.array([threshold for _, threshold in known]), "<f8"),
    }


def _is_leaf(node: dict[str, Any]) -> bool:
    return "leaf_value" in node


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    if not _is_leaf(node):
        yield from _nodes(node["left_child"])
        yield from _nodes(node["right_child"])


def _child(node: dict[str, Any]) -> int:
    return ~int(node["leaf_index"]) if _is_leaf(node) else int(node["split_index"])


def _base64(array: np.ndarray, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype=kind).tobytes()).decode()
