"""Trees in LightGBM's text format that strangers wrote: LightGBM itself follows whatever index they hold."""

from __future__ import annotations

import math
from pathlib import Path

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
#: What each inner node of a tree has one number of.
_SPLITS = ("split_feature", "decision_type", "left_child", "right_child")


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
    """What is wrong with a tree, in words. Trees are small: arrays take longer than lists."""
    (num_leaves,), (shrinkage,) = _integers(fields["num_leaves"]), _numbers(fields["shrinkage"])
    nodes = num_leaves - 1
    if fields["num_cat"] != "0" or fields.get("is_linear", "0") != "0":
        return "it is none of plain splits"
    leaves = _numbers(fields["leaf_value"])
    if num_leaves < 1 or len(leaves) != num_leaves or not all(map(math.isfinite, leaves)):
        return f"it needs {num_leaves} finite leaves"
    if not math.isfinite(shrinkage):
        return "its shrinkage is no number"
    if nodes == 0:
        return None
    features, kinds, left, right = (_integers(fields[name]) for name in _SPLITS)
    if any(
        len(of_nodes) != nodes for of_nodes in (features, kinds, left, right, _numbers(fields["threshold"]))
    ):
        return f"it needs {nodes} splits"
    if min(features) < 0 or max(features) >= num_features or any(kind & 1 for kind in kinds):
        return f"it splits on something else than the {num_features} domains"
    # Inner nodes have a number above their parent's; leaves count down from -1. Each is a child once.
    is_below = all(child < 0 or child > node for side in (left, right) for node, child in enumerate(side))
    if not is_below or sorted(left + right) != [*range(-num_leaves, 0), *range(1, nodes)]:
        return "its nodes do not form a tree"
    return None


def _integers(value: str) -> list[int]:
    return [int(word) for word in _words(value)]


def _numbers(value: str) -> list[float]:
    return [float(word) for word in _words(value)]


def _words(value: str) -> list[str]:
    """The words of a value, none of which Python reads otherwise than LightGBM, to whom `1_0` is not 10."""
    if "_" in value or not value.isascii():
        raise ValueError(f"{value[:20]!r} holds something else than numbers")
    return value.split()
