"""Trees in LightGBM's text format that strangers wrote: LightGBM itself follows whatever index they hold."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from regmix_hf.errors import RegressionError

#: What must stand above the trees, with its value where there is but one: LightGBM allocates by some of it.
_HEAD = {
    "version": "v4",
    "num_class": "1",
    "num_tree_per_iteration": "1",
    "label_index": "0",
    "max_feature_idx": None,
    "objective": "regression",
    "feature_names": None,
    "feature_infos": None,
    "tree_sizes": None,
}
_END = "end of trees"


def check_trees(path: Path) -> None:
    """Check that every tree of the file is one: finite leaves, and children that lie within it and below.

    Raises:
        RegressionError: One is not, or it splits on categories, which weights are none of, or what stands
            above the trees is not what LightGBM writes above those of one regression.
    """
    try:
        text = path.read_text(encoding="utf-8")
        head, *trees = text.partition(f"\n{_END}")[0].split("\nTree=")
        above = _fields(head.removeprefix("tree\n"))
        if above.keys() != _HEAD.keys() or any(_HEAD[name] not in (None, above[name]) for name in _HEAD):
            raise RegressionError(f"{path.name} holds no trees of one regression by LightGBM.")
        num_features = int(above["max_feature_idx"]) + 1
        for number, tree in enumerate(trees):
            if (wrong := _mistake(_fields(tree.partition("\n")[2]), num_features)) is not None:
                raise RegressionError(f"{path.name}, tree {number}: {wrong}.")
        sizes = [len(f"Tree={tree}\n".encode()) for tree in trees]
        if [int(size) for size in above["tree_sizes"].split()] != sizes:
            raise RegressionError(f"{path.name} holds no trees of LightGBM: tree_sizes are others.")
    except RegressionError:
        raise
    except (KeyError, ValueError, OverflowError) as error:
        raise RegressionError(f"{path.name} holds no trees of LightGBM: {error}.") from None


def _fields(block: str) -> dict[str, str]:
    lines = [line.partition("=") for line in block.splitlines() if line]
    fields = {name: value for name, equals, value in lines if equals}
    if len(fields) != len(lines):
        raise ValueError("a line is no NAME=VALUE, or a name stands there twice")
    return fields


def _mistake(fields: dict[str, str], num_features: int) -> str | None:
    """What is wrong with a tree, in words."""
    num_leaves, nodes = int(fields["num_leaves"]), int(fields["num_leaves"]) - 1
    if int(fields["num_cat"]) != 0 or int(fields.get("is_linear", "0")) != 0:
        return "it is none of plain splits"
    leaves = np.array(fields["leaf_value"].split(), dtype=np.float64)
    if num_leaves < 1 or leaves.shape != (num_leaves,) or not np.isfinite(leaves).all():
        return f"it needs {num_leaves} finite leaves"
    if not math.isfinite(float(fields["shrinkage"])):
        return "its shrinkage is no number"
    if nodes == 0:
        return None
    splits = {name: np.array(values, dtype=np.int64) for name, values in _splits(fields)}
    thresholds = np.array(fields["threshold"].split(), dtype=np.float64)
    if any(values.shape != (nodes,) for values in [*splits.values(), thresholds]):
        return f"it needs {nodes} splits"
    features, kinds = splits["split_feature"], splits["decision_type"]
    if features.min() < 0 or features.max() >= num_features or (kinds & 1).any():
        return f"it splits on something else than the {num_features} domains"
    children = np.concatenate([splits["left_child"], splits["right_child"]])
    # Inner nodes have a number above their parent's; leaves count down from -1. Each is a child once.
    expected = np.sort(np.concatenate([np.arange(1, nodes), -1 - np.arange(num_leaves)]))
    is_below = (children < 0) | (children > np.tile(np.arange(nodes), 2))
    if not is_below.all() or not np.array_equal(np.sort(children), expected):
        return "its nodes do not form a tree"
    return None


def _splits(fields: dict[str, str]) -> Iterator[tuple[str, list[str]]]:
    for name in ("split_feature", "decision_type", "left_child", "right_child"):
        yield name, fields[name].split()
