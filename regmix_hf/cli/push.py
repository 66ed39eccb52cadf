"""`regmix push`: publish a study on the Hub."""

from __future__ import annotations

from typing import Annotated

import typer

from regmix_hf.cli.arguments import OutputFormat, Overrides, RecipePath, command, open_study
from regmix_hf.cli.console import Console, Format
from regmix_hf.cli.tables import PUBLISHED, Table


def register(app: typer.Typer) -> None:
    """Add the verb."""
    text = "Publish on the Hub what is finished, as one new version."
    app.command(name="push", help=text)(_push)


def _push(
    recipe: RecipePath,
    overrides: Overrides = None,
    namespace: Annotated[
        str | None, typer.Option(metavar="NS", help="User or organisation; default: hub.namespace.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make private repositories.")] = False,
    only: Annotated[
        str | None, typer.Option(metavar="PART,...", help="Of runs, regressor, mixture, model; default: all.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    format: OutputFormat = Format.HUMAN,
) -> None:
    hub_keys = [f"hub.namespace={namespace}"] if namespace else []
    hub_keys += ["hub.private=true"] if private else []
    study, console = open_study(recipe, [*(overrides or []), *hub_keys]), Console(format)
    from regmix_hf import pipeline
    from regmix_hf.hub import Hub
    from regmix_hf.sharing import PART_NAMES, push_study

    stages = [pipeline.stage_of(verb) for verb in pipeline.VERBS]
    parts, hub = only.split(",") if only else PART_NAMES, Hub()
    push = push_study(study, stages, only=parts, dry_run=dry_run, progress=console)
    rows = [
        {
            "repository": repository.id,
            "kind": repository.kind,
            "changed": push.summary(repository),
            "address": hub.address(repository),
        }
        for repository in push.repositories
    ]
    title = "would be published" if dry_run else f"version {push.version}"
    console.tables([Table(PUBLISHED, rows, title, {"version": None if dry_run else push.version})])
    if dry_run:
        console.next(command("push", recipe, [*(overrides or []), *hub_keys]))
        return
    if push.collection:
        console.note(f"All of it: {push.collection}")
    study_name = f"{push.repositories[-1].namespace}/{study.recipe.name}"
    console.next(f"regmix pull {study_name}@{push.version} DIR, on any machine")
