"""A fitted law as JSON, for `explorer/laws.js`, which computes with it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np

from regmix_hf.regression import MixtureRegressor, gaussian_process, power_law
from regmix_hf.regression.auto import Auto
from regmix_hf.regression.base import MixtureEstimator
from regmix_hf.regression.expert_tokens import LEAST, LEAST_LEFT
from regmix_hf.regression.experts import Experts
from regmix_hf.regression.experts_and_law import ExpertsAndLaw
from regmix_hf.regression.kriged_power_law import KrigedPowerLaw
from regmix_hf.regression.lightgbm import LightGBM
from regmix_hf.regression.scaled_curve import ScaledLayout
from regmix_hf.regression.scaled_law import ScaledLaw

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
    *("auto", "experts", "experts_and_law", "gaussian_process", "kriged_power_law", "lightgbm"),
    *("log_linear", "own_weight", "power_law", "ridge", "scaled_law"),
)


def law_state(regressor: MixtureRegressor) -> dict[str, Any]:
    """All that the predictions of a fitted regressor of `FAMILIES` follow from; arrays as `packed`."""
    state, repetition = _state(regressor.estimator, regressor.model), regressor.model.repetition_
    if repetition is None:
        return state
    harm = repetition.harm * np.exp(repetition.growth * repetition.at[0])[:, None]
    arrays = {"harm": harm, "threshold": repetition.threshold, "passes": repetition.passes}
    # A law from before they were kept knows no most epochs.
    arrays["most"] = np.full_like(repetition.rates, 1e300) if repetition.most is None else repetition.most
    return state | {"repetition": _packed(arrays)}


def packed(array: np.ndarray) -> dict[str, Any]:
    """`shape`, and `data`: the numbers as little-endian doubles, in base64."""
    return {"shape": list(array.shape), "data": _base64(array, "<f8")}


def _state(family: str, model: MixtureEstimator) -> dict[str, Any]:
    special: dict[str, Callable[[Any], dict[str, Any]]] = {
        "auto": _auto,
        "experts": _experts,
        "experts_and_law": _experts_and_law,
        "kriged_power_law": _kriged,
        "lightgbm": _lightgbm,
        "scaled_law": _scaled,
    }
    return {"family": family, **_CONSTANTS.get(family, {}), **special.get(family, _arrays)(model)}


def _arrays(model: MixtureEstimator) -> dict[str, Any]:
    return _packed({name: getattr(model, name) for name in model.arrays})


def _packed(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: packed(array) for name, array in arrays.items()}


def _auto(model: Auto) -> dict[str, Any]:
    members = []
    for name, member in model.members_.items():
        shares = model.shares_[:, list(model.members).index(name)]
        targets = np.flatnonzero(shares)
        law = _state(name, member)
        members.append({"law": law, "targets": targets.tolist(), "shares": shares[targets].tolist()})
    return {"members": members}


def _experts(model: Experts) -> dict[str, Any]:
    tokens = model.tokens_
    arrays = {"units": np.array(tokens.units), "shares": tokens.shares}
    return {
        **_arrays(model),
        **_packed(arrays),
        "least": LEAST,
        "least_left": LEAST_LEFT,
        "texts": [_base64(logs, "<f2") for logs in tokens.logs],
    }


def _experts_and_law(model: ExpertsAndLaw) -> dict[str, Any]:
    parts = {"experts": _experts(model.experts_), "law": _kriged(model.law_)}
    return parts | _packed({"share": model.shares})


def _kriged(model: KrigedPowerLaw) -> dict[str, Any]:
    return {"law": _state("power_law", model.law_), **_arrays(model)}


def _scaled(model: ScaledLaw) -> dict[str, Any]:
    """The law of the weights that is left at one size and length: a kriged power law, and what that costs."""
    at, raw = ScaledLayout(model.n_features_in_), model.raw_
    power = at.plain(raw, model.mean_, model.spread_)
    by_size, by_length, by_early = np.exp(raw[:, [at.by_size, at.by_length, at.by_early]]).T
    parameters, tokens = model.at_ - model.centre_
    lengths = np.logaddexp(-by_length * tokens, raw[:, at.early] - by_early * tokens)
    level, deviation = model.level_.T
    mixtures, kriged, left = model.at_one_size()
    arrays = {
        "by_domain_of_size": raw[:, at.sizes],
        "by_domain_of_length": raw[:, at.lengths],
        "log_size": raw[:, at.size] - by_size * parameters,
        "log_length": raw[:, at.length] + lengths,
        "joint": np.exp(raw[:, at.joint]),
        "spread": model.spread_,
        "totals": model.totals_,
        "lengths": model.lengths_,
        "offset": left.offset - left.slope * level / deviation,
        "slope": left.slope / deviation,
        "mixtures": mixtures,
        "kriged": kriged,
        "alike": left.alike,
        "own": left.own,
    }
    return {"law": _CONSTANTS["power_law"] | _packed(power), "length": left.length, **_packed(arrays)}


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
