"""`regmix run`: all stages, in order, that are not done yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from regmix_hf.cli.arguments import OutputFormat, Overrides, RecipePath, command, open_study
from regmix_hf.cli.console import Console, Format
from regmix_hf.errors import RecipeError, did_you_mean

if TYPE_CHECKING:
    from regmix_hf.study import Study


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="run", help="Run all stages: from text to a chosen mixture and models trained on it.")(
        _run
    )


def _run(
    recipe: RecipePath,
    overrides: Overrides = None,
    first: Annotated[str, typer.Option("--from", metavar="VERB", help="Stage to begin with.")] = "prepare",
    last: Annotated[str, typer.Option("--to", metavar="VERB", help="Stage to end with.")] = "report",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Touch nothing; say what it takes.")] = False,
    format: OutputFormat = Format.HUMAN,
) -> None:
    study, console = open_study(recipe, overrides), Console(format)
    from regmix_hf import pipeline
    from regmix_hf.cli.views import stage_tables, summary_tables

    for option, verb in (("--from", first), ("--to", last)):
        if verb not in pipeline.VERBS:
            raise RecipeError(f"{option} {verb!r} is no stage; {did_you_mean(verb, pipeline.VERBS)}")
    if pipeline.VERBS.index(first) > pipeline.VERBS.index(last):
        raise RecipeError(f"--from {first!r} comes after --to {last!r}.")
    if dry_run:
        show_plan(study, console, first, last)
        console.next(command("run", recipe, overrides))
        return
    pipeline.run(study, first=first, last=last, progress=console)
    if last == "report":
        console.tables(summary_tables(study))
        console.note(f"Read {study.page}")
        return
    if last in pipeline.stages_between(study, first, last):
        console.tables(stage_tables(study, last, format))
    following = pipeline.next_verb(study, last, pipeline.stages_of(study))
    console.next(command(following or last, recipe, overrides))


def show_plan(study: Study, console: Console, first: str, last: str) -> None:
    """Print what stages would take, after all checks of them."""
    from regmix_hf import pipeline
    from regmix_hf.cli.views import plan_tables
    from regmix_hf.plan import make_plan
    from regmix_hf.preflight import check_once

    study.check_owner()
    check_once(study, pipeline.to_come(study, first))
    plan = make_plan(study, first=first, last=last)
    console.tables(plan_tables(plan))
    for note in plan.notes:
        console.note(note)
