"""`regmix run`: all stages, in order, that are not done yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from regmix_hf.cli.arguments import OutputFormat, Overrides, RecipePath, command, open_study
from regmix_hf.cli.console import Console, Format
from regmix_hf.errors import RecipeError, did_you_mean

if TYPE_CHECKING:
    from regmix_hf.study import Study


On = Annotated[
    str | None,
    typer.Option("--on", metavar="PLACE", help="Where: local, ray, slurm or jobs (executor.place)."),
]
Workers = Annotated[
    int | None, typer.Option("--workers", metavar="N", help="Workers to submit (executor.num_workers).")
]


def run(
    recipe: RecipePath,
    overrides: Overrides = None,
    first: Annotated[str, typer.Option("--from", metavar="VERB", help="Stage to begin with.")] = "prepare",
    last: Annotated[str, typer.Option("--to", metavar="VERB", help="Stage to end with.")] = "report",
    on: On = None,
    workers: Workers = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Touch nothing; say what it takes.")] = False,
    format: OutputFormat = Format.HUMAN,
) -> None:
    """Run all stages: from text to a chosen mixture and models trained on it."""
    overrides = [*(overrides or []), *executor_keys(on, workers)]
    study, console = open_study(recipe, overrides), Console(format)
    check_workers(study, workers)
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
    if following := pipeline.left_after(study, last):
        console.next(command(following, recipe, overrides))
    else:
        console.note(f"Read {study.page}")


def executor_keys(on: str | None, workers: int | None, **others: str | None) -> list[str]:
    """Overrides of the recipe's section `executor` that options of the command line stand for."""
    given = {"place": on, "num_workers": workers, **others}
    return [f"executor.{key}={value}" for key, value in given.items() if value is not None]


def check_workers(study: Study, workers: int | None) -> None:
    """Refuse a number of workers where none are submitted.

    Raises:
        RecipeError: They are asked for, and the place has other ones.
    """
    place = study.recipe.executor.place
    if workers is not None and place in ("local", "ray"):
        raise RecipeError(
            f"--workers {workers}: workers are submitted to Slurm or as jobs, and this is done on {place}.",
            "write --on slurm or --on jobs; on this machine proxy.num_workers counts"
            if place == "local"
            else "leave it out; Ray does as many runs at once as its nodes have room for",
        )


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
