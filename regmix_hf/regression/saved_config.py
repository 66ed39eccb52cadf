"""`config.json` of a saved regressor: what was fitted, with what, to what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from regmix_hf.errors import RegressionError
from regmix_hf.files import read_json
from regmix_hf.quantities import Quantity, read_name

#: Version of the saved folder, and those before that are read, which made every target small.
FORMAT, _BEFORE = 3, (2,)


def quantities_in(config: Mapping[str, Any], path: Path) -> dict[str, Quantity]:
    """What the targets are, by name; before format 3 all were losses, or taken for such.

    Raises:
        RegressionError: They cannot be read, or are not those of the targets.
    """
    if config["format"] in _BEFORE:
        found = [read_name(name, config["domains"]) or Quantity(name) for name in config["targets"]]
        return {one.name: replace(one, direction="lower") for one in found}
    try:
        known = {one.name: one for one in map(Quantity.from_plain, config["quantities"])}
    except (AttributeError, ValueError) as error:
        raise RegressionError(f"{path}: {error}.") from error
    if list(known) != config["targets"]:
        raise RegressionError(f"{path}: quantities are not those of the targets.")
    return known


def read_config(path: Path) -> dict[str, Any]:
    """Read it, checked.

    Raises:
        RegressionError: It is missing, of another format, or a key is not what it has to be.
    """
    kinds = {
        "estimator": str,
        "random_state": int,
        "params": dict,
        "domains": list,
        "targets": list,
        "num_runs": int,
        "num_dropped": dict,
    }
    if not path.is_file():
        raise RegressionError(f"{path} is missing: {path.parent} holds no saved regressor.")
    config = read_json(path)
    if not isinstance(config, dict) or config.get("format") not in (FORMAT, *_BEFORE):
        raise RegressionError(f"{path} is not of format {FORMAT}.", "save the regressor again")
    for key, kind in kinds.items():
        if not isinstance(config.get(key), kind):
            raise RegressionError(f"{path}: {key} is {config.get(key)!r}; expected a {kind.__name__}.")
    for key in ("domains", "targets"):
        names = config[key]
        if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names) or not names:
            raise RegressionError(f"{path}: {key} are no different names.")
    if config["format"] == FORMAT and not isinstance(config.get("quantities"), list):
        raise RegressionError(f"{path}: quantities is {config.get('quantities')!r}; expected a list.")
    if config["num_dropped"].keys() != set(config["targets"]):
        raise RegressionError(f"{path}: num_dropped does not count the targets.")
    return config
