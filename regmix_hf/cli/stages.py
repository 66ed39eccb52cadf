"""`regmix prepare|sample|proxies|train|evaluate`: one stage each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from regmix_hf.cli.arguments import OutputFormat, Overrides, RecipePath, command, open_study
from regmix_hf.cli.console import Console, Format
from regmix_hf.cli.run import On, Workers, check_workers, executor_keys, show_plan
from regmix_hf.errors import RecipeError

#: What each verb does, as its help says it.
_HELP = {
    "prepare": "Stage 1: stream, tokenize and pack every domain into blocks.",
    "sample": "Stage 2: draw mixtures around the prior.",
    "proxies": "Stage 3: train one small model per mixture.",
    "train": "Stage 6: train the final models on the chosen and the baseline mixtures.",
    "evaluate": "Stage 7: losses and lm-eval tasks of the final models.",
}


#: Stages that have options which are keys of `executor`.
_PLACED = ("proxies", "train", "evaluate")
_Shard = Annotated[
    str | None, typer.Option("--shard", metavar="K/N", help="Only this share of the runs (executor.shard).")
]
_Wait = Annotated[
    bool, typer.Option("--wait", help="Stay until others have ended their runs, and do those of the dead.")
]
_DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Touch nothing; say what it takes there: time, GPU hours, cost.")
]
_Print = Annotated[bool, typer.Option("--print", help="Print the script for Slurm, and submit nothing.")]


def register(app: typer.Typer, *verbs: str) -> None:
    """Add verbs of stages."""
    for verb in verbs:
        make = _placed_command if verb in _PLACED else _command
        app.command(name=verb, help=_HELP[verb])(make(verb))


def run_one(verb: str, recipe: RecipePath, overrides: list[str] | None, format: Format) -> None:
    """Do one stage and print what came of it."""
    study, console = open_study(recipe, overrides), Console(format)
    from regmix_hf import pipeline
    from regmix_hf.cli.views import stage_tables

    pipeline.begin(study, verb)
    pipeline.run_stage(study, verb, console)
    if verb in _PLACED and pipeline.is_left_to_others(study, verb):
        console.next(command("status", recipe, overrides))
        return
    console.tables(stage_tables(study, verb, format))
    if following := pipeline.left_after(study, verb):
        console.next(command(following, recipe, overrides))
    else:
        console.note(f"Read {study.page}")


def _command(verb: str) -> Callable[[RecipePath, Overrides, OutputFormat], None]:
    def run(recipe: RecipePath, overrides: Overrides = None, format: OutputFormat = Format.HUMAN) -> None:
        run_one(verb, recipe, overrides, format)

    return run


def _placed_command(verb: str) -> Callable[..., None]:
    def run(
        recipe: RecipePath,
        overrides: Overrides = None,
        on: On = None,
        workers: Workers = None,
        shard: _Shard = None,
        wait: _Wait = False,
        print_: _Print = False,
        dry_run: _DryRun = False,
        format: OutputFormat = Format.HUMAN,
    ) -> None:
        if shard is not None and verb != "proxies":
            raise RecipeError(
                f"--shard {shard}: only proxies are shared out so.", "leave it out; machines share the folder"
            )
        if on is not None:
            from regmix_hf.placement import check_place

            check_place(verb, on)
        if print_ and on not in (None, "slurm"):
            raise RecipeError(f"--print: only Slurm has a script, and {on} has none.", "write --on slurm")
        asked = [*(overrides or []), *executor_keys(on, workers, shard=shard, wait="true" if wait else None)]
        study = open_study(recipe, asked)
        if not print_:
            check_workers(study, workers)
        if print_:
            from regmix_hf.pipeline import stage_of
            from regmix_hf.placement import written_job

            typer.echo(written_job(study, stage_of(verb)).script, nl=False)
        elif dry_run:
            show_plan(study, Console(format), verb, verb)
        else:
            run_one(verb, recipe, asked, format)

    return run
