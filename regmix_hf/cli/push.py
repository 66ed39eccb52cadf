"""`regmix push`: publish a study, or a fit on tables, on the Hub."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from regmix_hf.cli.arguments import OutputFormat, Overrides, RecipePath, command, open_study, quiet_libraries
from regmix_hf.cli.console import Console, Format
from regmix_hf.cli.tables import PUBLISHED, Table
from regmix_hf.errors import RecipeError
from regmix_hf.study.table_fit import TableFit

if TYPE_CHECKING:
    from regmix_hf.sharing.push import Push


def push(
    recipe: RecipePath,
    overrides: Overrides = None,
    namespace: Annotated[
        str | None, typer.Option(metavar="NS", help="User or organisation; default: hub.namespace.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make private repositories.")] = False,
    only: Annotated[
        str | None, typer.Option(metavar="PART,...", help="Of runs, regressor, mixture, model; default: all.")
    ] = None,
    license: Annotated[
        str | None, typer.Option(metavar="ID", help="Of all of it, e.g. apache-2.0; default: hub.license.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of a fit on tables; default: its folder's name.")
    ] = None,
    origin: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Of a fit on tables: where its runs come from.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    format: OutputFormat = Format.HUMAN,
) -> None:
    """Publish on the Hub what is finished, as one new version."""
    parts = only.split(",") if only else None
    if (fit := TableFit.find(recipe)) is not None:
        quiet_libraries()
        if overrides:
            raise RecipeError(f"override {overrides[0]!r}: {recipe} is a fit on tables and holds no recipe.")
        named = {"--namespace": namespace, "--license": license, "--origin": origin}
        _push_fit(fit, named, name or fit.name, private, parts, dry_run, Console(format))
        return
    if name is not None or origin is not None:
        raise RecipeError(
            f"--name and --origin are for a fit on tables, and {recipe} is none.",
            "a recipe says both itself: name=NAME, and where each domain comes from",
        )
    hub_keys = [f"hub.namespace={namespace}"] if namespace else []
    hub_keys += ["hub.private=true"] if private else []
    hub_keys += [f"hub.license={license}"] if license else []
    study, console = open_study(recipe, [*(overrides or []), *hub_keys]), Console(format)
    from regmix_hf import pipeline
    from regmix_hf.sharing import PART_NAMES, push_study

    stages = [pipeline.stage_of(verb) for verb in pipeline.VERBS]
    push = push_study(study, stages, only=parts or PART_NAMES, dry_run=dry_run, progress=console)
    _show(push, dry_run, console)
    if dry_run:
        console.next(command("push", recipe, [*(overrides or []), *hub_keys]))
        return
    study_name = f"{push.repositories[-1].namespace}/{study.recipe.name}"
    console.next(f"regmix pull {study_name}@{push.version} DIR, on any machine")


def _push_fit(
    fit: TableFit,
    named: dict[str, str | None],
    name: str,
    private: bool,
    only: list[str] | None,
    dry_run: bool,
    console: Console,
) -> None:
    """Publish a fit on tables, which says nothing of where to, under what licence, and from where."""
    from regmix_hf.recipe.load import read_section
    from regmix_hf.recipe.schema import PARTS, Hub
    from regmix_hf.sharing.push_fit import Terms, push_fit
    from regmix_hf.study.address import Address

    given = {option: value for option, value in named.items() if value}
    if missing := [option for option in named if option not in given]:
        raise RecipeError(
            f"a fit on tables does not say {', '.join(missing)}.",
            "write e.g. --namespace my-org --license cc-by-4.0 --origin "
            "'runs of our cluster, March 2026' (or the address they were taken from)",
        )
    keys = {"namespace": given["--namespace"], "license": given["--license"]}
    hub = read_section(Hub, [f"{key}={json.dumps(value)}" for key, value in keys.items()], name="push")
    terms = Terms(str(hub.license), given["--origin"], private)
    address = Address(hub.namespace, name)
    push = push_fit(fit, address, terms, only=only or PARTS, dry_run=dry_run, progress=console)
    _show(push, dry_run, console)
    if not dry_run:
        runs = f"{address.namespace}/{name}-runs@{push.version}"
        console.next(f"regmix fit --runs {runs}, or `runs: {runs}` in a recipe, on any machine")


def _show(push: Push, dry_run: bool, console: Console) -> None:
    from regmix_hf.hub import Hub

    hub = Hub()
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
    if push.collection:
        console.note(f"All of it: {push.collection}")
