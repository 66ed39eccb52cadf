"""`regmix keys`: what can stand in a recipe."""

from __future__ import annotations

import json
import shutil
import textwrap
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from regmix_hf.cli.console import Console, Format
from regmix_hf.errors import RecipeError, did_you_mean

#: Longer lines are hard to read.
_WIDEST = 100


class KeysFormat(StrEnum):
    """How keys are printed."""

    HUMAN = "human"
    JSON = "json"
    QUIET = "quiet"
    MARKDOWN = "markdown"
    SCHEMA = "schema"


def keys(
    section: Annotated[
        str | None, typer.Argument(metavar="[KEY]", help="Only those at and below it: sampling, proxy, ...")
    ] = None,
    printed_by: Annotated[
        str | None,
        typer.Option(metavar="VERB", help="Instead: the JSON schema of what VERB prints with --format json."),
    ] = None,
    format: Annotated[KeysFormat, typer.Option("--format", help="How to print them.")] = KeysFormat.HUMAN,
) -> None:
    """List the keys of a recipe with their values, defaults and meanings."""
    from regmix_hf.recipe.reference import SECTION, all_keys, json_schema, keys_below, markdown

    if printed_by is not None:
        from regmix_hf.cli.schema import VERBS, output_model

        if printed_by not in VERBS:
            raise RecipeError(
                f"--printed-by {printed_by!r} is no verb that prints JSON.", did_you_mean(printed_by, VERBS)
            )
        typer.echo(json.dumps(output_model(printed_by).model_json_schema(), indent=1))
    elif format is KeysFormat.MARKDOWN:
        typer.echo(markdown(), nl=False)
    elif format is KeysFormat.SCHEMA:
        typer.echo(json.dumps(json_schema(), indent=1))
    else:
        keys = keys_below(section) if section else all_keys()
        console = Console(Format(format.value))
        if format is KeysFormat.JSON:
            console.json({"keys": [asdict(key) for key in keys]})
        width = min(shutil.get_terminal_size().columns, _WIDEST)
        for key in keys:
            default = f", default {key.default}" if key.default else ""
            console.line(key.path)
            told = f"{key.type}{default}. {key.meaning}" if key.type != SECTION else key.meaning
            console.line(textwrap.fill(told, width, initial_indent="    ", subsequent_indent="    "))
