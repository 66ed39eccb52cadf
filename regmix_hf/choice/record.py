"""The chosen mixture on disk: `mixture.yaml` for people and recipes, `mixture.parquet` for tables."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from regmix_hf.choice.choose import COVERAGE
from regmix_hf.choice.chosen import ChosenMixture
from regmix_hf.errors import StudyError
from regmix_hf.files import read_yaml, write_parquet, write_text
from regmix_hf.mixtures import check_mixture
from regmix_hf.study import names
from regmix_hf.study.rounds import Round
from regmix_hf.tables import SIZES

_HEADER = """\
# The chosen mixture: shares of training tokens, largest first. Copy `weights` into the `baselines` of
# another recipe to train on it there. `loss` is the target in its unit, distances are shares of the tokens.
"""
#: Decimals of losses and distances in the file.
_DECIMALS = 6


def write_chosen(
    chosen: ChosenMixture,
    folder: Path,
    *,
    name: str = "chosen",
    epochs: Mapping[str, float] | None = None,
    rounds: Sequence[Round] = (),
) -> None:
    """Write `mixture.parquet` (`ChosenMixture.table`) and then `mixture.yaml` into `folder`, made if missing.

    `rounds` are those in which this choice and earlier ones were tried.
    """
    write_parquet(folder / names.CHOSEN_TABLE, chosen.table(epochs))
    text = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 110
    tried = {"rounds": [one.model_dump(mode="json") for one in rounds]} if rounds else {}
    # What is not rounded: a prior that is chosen is the final mixture `prior`, one run for both.
    exactly = {"weights": _largest_first(chosen.weights), "prior": _largest_first(chosen.prior)}
    yaml.dump(_plain(_tree(chosen, name) | tried) | exactly, text)
    write_text(folder / names.CHOSEN_MIXTURE, _HEADER + text.getvalue())


def read_chosen(file: Path, domains: tuple[str, ...] | None = None) -> dict[str, float]:
    """Read the weights of a `mixture.yaml`, over all `domains`; default: over those that it names.

    Raises:
        StudyError: The file is missing, no YAML, or holds no weights.
        MixtureError: The weights are no mixture over the domains.
    """
    if not file.exists():
        raise StudyError(f"{file} is not there yet.", "run `regmix choose` first")
    tree = read_yaml(file)
    if not isinstance(tree, dict) or not isinstance(tree.get("weights"), dict):
        raise StudyError(f"{file} holds no `weights`.", "run `regmix choose` again")
    return check_mixture(tree["weights"], domains or tree["weights"], name=str(file))


def _tree(chosen: ChosenMixture, name: str) -> dict[str, Any]:
    size = {"size": dict(zip(SIZES, chosen.size, strict=True))} if chosen.size else {}
    return {
        "name": name,
        "weights": chosen.weights,
        "prior": chosen.prior,
        "target": chosen.target,
        "unit": chosen.quantity.unit,
        "direction": chosen.quantity.direction,
        "estimator": chosen.estimator,
        "method": chosen.method,
        "reason": chosen.reason,
        "kl_strength": chosen.kl_strength,
        **({"groups": [one.plain for one in chosen.groups]} if chosen.groups else {}),
        "predicted": {
            "coverage": COVERAGE,
            "speaks_of": chosen.speaks_of,
            **size,
            "chosen": asdict(chosen.predicted),
            "prior": asdict(chosen.prior_predicted),
            "is_better_than_prior": chosen.is_better_than_prior,
        },
        "candidates": {
            candidate.method: {
                "predicted": asdict(candidate.predicted),
                "distance_to_nearest_run": candidate.distance,
                "weights": _largest_first(candidate.weights),
            }
            for candidate in chosen.candidates
        },
        "widest_gap_between_runs": chosen.widest_gap,
        "warnings": list(chosen.warnings),
        "verdict": chosen.verdict.plain if chosen.verdict else None,
    }


def _largest_first(weights: Mapping[str, float]) -> dict[str, float]:
    return dict(sorted(weights.items(), key=lambda item: -item[1]))


def _plain(value: Any) -> Any:
    """Round numbers, and write what is not known as null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return round(value, _DECIMALS) if math.isfinite(value) else None
    return value
