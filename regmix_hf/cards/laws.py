"""A fitted law as JSON, for `explorer/laws.js`, which computes with it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np

from regmix_hf.regression import MixtureRegressor, gaussian_process, power_law
from regmix_hf.regression.auto import Auto
from regmix_hf.regression.base import MixtureEstimator
from regmix_hf.regression.kriged_power_law import KrigedPowerLaw
from regmix_hf.regression.lightgbm import LightGBM

#: What a family adds to every weight before it takes roots or logarithms, and what it divides these by.
_CONSTANTS = {
    "power_law": {"offset": power_law.WEIGHT_OFFSET},
    "gaussian_process": {
        "offset": gaussian_process.WEIGHT_OFFSET,
        "log_offset": gaussian_process.LOG_OFFSET,
        "log_scale": gaussian_process.LOG_SCALE,
    },
}

#: Families whose formula `explorer/laws.js` has.
FAMILIES = (
    *("auto", "gaussian_process", "kriged_power_law", "lightgbm"),
    *("log_linear", "own_weight", "power_law", "ridge"),
)


def law_state(regressor: MixtureRegressor) -> dict[str, Any]:
    """All that the predictions of a fitted regressor of `FAMILIES` follow from; arrays as `packed`."""
    state, repetition = _state(regressor.estimator, regressor.model), regressor.model.repetition_
    if repetition is None:
        return state
    harm = repetition.harm * np.exp(repetition.growth * repetition.at[0])[:, None]
    arrays = {"harm": harm, "threshold": repetition.threshold, "passes": repetition.passes}
    return state | {"repetition": {name: packed(array) for name, array in arrays.items()}}


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
    arrays = {name: packed(getattr(model, name)) for name in model.arrays}
    return {"family": family, **_CONSTANTS.get(family, {}), **arrays, **own}


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
    return {"targets": [_trees(booster.model_to_string()) for booster in model.boosters_]}


def _trees(model: str) -> dict[str, Any]:
    """Splits, children and leaves of all trees of one target, tree after tree, from LightGBM's own text.

    A child is the number of a split in its tree, or ~leaf. Different splits are few and listed once.
    """
    known: dict[tuple[str, str], int] = {}
    splits: list[int] = []
    columns: dict[str, list[str]] = {"left_child": [], "right_child": [], "leaf_value": []}
    counts = []
    for tree in model.partition("end of trees")[0].split("\nTree=")[1:]:
        lines = dict(line.split("=", 1) for line in tree.splitlines() if "=" in line)
        features, thresholds = (lines.get(key, "").split() for key in ("split_feature", "threshold"))
        splits += [known.setdefault(split, len(known)) for split in zip(features, thresholds, strict=True)]
        for key, values in columns.items():
            values += lines.get(key, "").split()
        counts.append(int(lines["num_leaves"]))
    left, right, leaf = (np.array(values, dtype=np.float64) for values in columns.values())
    return {
        "split": _base64(np.array(splits), "<u2"),
        "left": _base64(left, "i1"),
        "right": _base64(right, "i1"),
        "leaf": _base64(leaf, "<f4"),
        "leaves": counts,
        "feature": [int(feature) for feature, _ in known],
        "threshold": _base64(np.array([float(threshold) for _, threshold in known]), "<f8"),
    }


def _base64(array: np.ndarray, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype=kind).tobytes()).decode()
