"""YAML, JSON, CSV and Python text of exports."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from regmix_hf.exports.mixture import MixtureToTrain

if TYPE_CHECKING:
    from jinja2 import Environment


def yaml_text(tree: Mapping[str, Any], head: str) -> str:
    """Write a tree as YAML below a comment."""
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 4096  # a wrapped list of paths is no longer one to copy
    stream = io.StringIO()
    yaml.dump(dict(tree), stream)
    return "".join(f"# {line}\n" for line in head.splitlines()) + stream.getvalue()


def json_text(tree: Any) -> str:
    """Write a tree as JSON."""
    return json.dumps(tree, indent=2, allow_nan=False) + "\n"


def csv_text(key: str, names: Sequence[str], columns: Mapping[str, Mapping[str, float]]) -> str:
    """Write one row per name."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([key, *columns])
    writer.writerows([name, *(column[name] for column in columns.values())] for name in names)
    return stream.getvalue()


def python_text(template: str, mixture: MixtureToTrain) -> str:
    """Fill in one of the programs that lie in `templates`."""
    values = {"mixture": mixture, "shares": mixture.shares, "blocks": mixture.blocks}
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    """What templates are read with; it keeps them compiled."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["repr"] = repr
    return environment
