"""Markdown from templates, and numbers the way all cards and the report write them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from functools import cache, lru_cache
from io import StringIO
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from ruamel.yaml import YAML

from regmix_hf.cards.tables import ScoreRow
from regmix_hf.readable import count_of, fixed, with_interval
from regmix_hf.recipe import Recipe


def render_template(name: str, **values: Any) -> str:
    """Fill in one of the templates that lie beside this module; a name that is missing is an error."""
    text = _environment().get_template(name).render(values)
    return re.sub(r"\n{3,}", "\n\n", text)  # parts that are left out leave their blank lines


@cache
def _environment() -> Environment:
    """What templates are read with; it keeps them compiled, which takes longer than to fill them in."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "code": "`{}`".format,
        "count": "{:,}".format,
        "count_of": count_of,
        "metric": _metric,
        "number": _number,
        "points": _points,
        "score": _score,
        "share": share,
    }
    return environment


def recipe_yaml(recipe: Recipe) -> str:
    """The recipe without defaults, and without where its results lie, are made or are published."""
    tree = recipe.model_dump(mode="json", exclude_defaults=True, exclude={"output_dir", "hub", "executor"})
    return as_yaml(json.dumps(tree))


@lru_cache(maxsize=16)
def as_yaml(tree: str) -> str:
    """JSON as YAML, which a writer in Python takes 10 ms for; all cards of a study hold the same recipe."""
    yaml = YAML()
    yaml.default_flow_style = False
    stream = StringIO()
    yaml.dump(json.loads(tree), stream)
    return stream.getvalue()


def share(value: float) -> str:
    """Write a share in percent."""
    if 0 < value < 0.0005:
        return "<0.1 %"
    return f"{100 * value:.1f} %"


def _points(value: float) -> str:
    return f"{100 * value:+.1f} points"


def _metric(row: Mapping[str, Any], name: str, factor: float = 1.0) -> str:
    value, low, high = (factor * row[column] for column in (name, f"{name}_low", f"{name}_high"))
    return with_interval(value, low, high, 1 if factor > 1 else 4)


def _number(value: float | None, digits: int, sign: str = "") -> str:
    return "-" if value is None or math.isnan(value) else fixed(value, f"{sign}.{digits}f")


def _score(row: ScoreRow, mixture: str) -> str:
    if mixture not in row.values:
        return "-"
    text = f"{row.values[mixture]:.4f}"
    return f"**{text}**" if row.best == mixture else text
