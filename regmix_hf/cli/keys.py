"""`regmix keys`: what can stand in a recipe."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from regmix_hf.cli.console import Console, Format, Table


class KeysFormat(StrEnum):
    """How keys are printed."""

    HUMAN = "human"
    JSON = "json"
    MARKDOWN = "markdown"
    SCHEMA = "schema"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="keys", help="List the keys of a recipe with their values, defaults and meanings.")(
        _keys
    )


def _keys(
    section: Annotated[
        str | None, typer.Argument(metavar="[KEY]", help="Only those at and below it: sampling, proxy, ...")
    ] = None,
    format: Annotated[KeysFormat, typer.Option("--format", help="How to print them.")] = KeysFormat.HUMAN,
) -> None:
    from regmix_hf.recipe.reference import all_keys, json_schema, keys_below, markdown

    if format is KeysFormat.MARKDOWN:
        typer.echo(markdown(), nl=False)
    elif format is KeysFormat.SCHEMA:
        typer.echo(json.dumps(json_schema(), indent=1))
    else:
        keys = keys_below(section) if section else all_keys()
        rows = [
            {"key": key.path, "value": key.type, "default": key.default, "meaning": key.meaning}
            for key in keys
        ]
        Console(Format(format.value)).tables([Table("keys", rows)])
