"""The target that was asked for, over what is there: a fit says it, or else the proxies of a study do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from regmix_hf.files import damaged, read_parquet, read_record
from regmix_hf.quantities import NATS, Quantity, measured, read_names
from regmix_hf.recipe.target import AskedTarget, TargetValue, is_pattern
from regmix_hf.regression.target import Target, scales_of
from regmix_hf.study import Study, names
from regmix_hf.tables import RESULTS


def target_of(study: Study) -> Target:
    """What a study's recipe asks for, as the fit counts it where that knows all that is named.

    Raises:
        RegressionError: It is in standard deviations or named by a pattern, and nothing is measured yet.
        StudyError: What the fit says is damaged.
    """
    recipe, file = study.recipe, study.regression / names.FIT_SUMMARY
    value = recipe.regression.target
    asked, results = AskedTarget.of(value), study.proxies / names.RESULTS
    bare = [name for name in asked.names if not is_pattern(name)]
    if file.exists() and "quantities" in (summary := read_record(file)):
        known, scales = _fitted(summary, file)
        if known.keys() >= {*bare}:  # else it was made before the recipe had the target
            return Target.parse(value, known, scales)
    values = pd.DataFrame()
    if results.exists():
        table = read_parquet(results, RESULTS)
        values = measured(table[table["status"] == "ok"])
    named = [*recipe.domains, *bare, *values.columns]
    return Target.parse(value, read_names(named, recipe.domains, asked.directions), scales_of(values))


def fitted_target(value: TargetValue, summary: Mapping[str, Any], file: Path) -> Target:
    """A target over what a fit's `summary.json` says it was made of; in version 0.1 that was losses only.

    Raises:
        RegressionError: The target is none of the fit's.
        StudyError: It is damaged.
    """
    return Target.parse(value, *_fitted(summary, file))


def _fitted(
    summary: Mapping[str, Any], file: Path
) -> tuple[dict[str, Quantity], dict[str, tuple[float, float]]]:
    """The targets of a fit, and mean and standard deviation of each."""
    try:
        plain = summary.get("quantities") or [Quantity(name, NATS).plain for name in summary["targets"]]
        known = {one.name: one for one in map(Quantity.from_plain, plain)}
        scales = {
            name: (float(mean), float(spread)) for name, (mean, spread) in summary.get("scales", {}).items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise damaged(file, "holds targets that cannot be read") from error
    return known, scales
