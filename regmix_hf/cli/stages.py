"""`regmix prepare|sample|proxies|train|evaluate|report`: one stage each."""

from __future__ import annotations

from collections.abc import Callable

import typer

from regmix_hf.cli.arguments import OutputFormat, Overrides, RecipePath, command, open_study
from regmix_hf.cli.console import Console, Format

#: What each verb does, as its help says it.
_HELP = {
    "prepare": "Stage 1: stream, tokenize and pack every domain into blocks.",
    "sample": "Stage 2: draw mixtures around the prior.",
    "proxies": "Stage 3: train one small model per mixture.",
    "train": "Stage 6: train the final models on the chosen and the baseline mixtures.",
    "evaluate": "Stage 7: losses and lm-eval tasks of the final models.",
    "report": "Write what was found, in pictures and words.",
}


def register(app: typer.Typer, *verbs: str) -> None:
    """Add verbs of stages that take a recipe and nothing else."""
    for verb in verbs:
        app.command(name=verb, help=_HELP[verb])(_command(verb))


def run_one(verb: str, recipe: RecipePath, overrides: list[str] | None, format: Format) -> None:
    """Do one stage and print what came of it."""
    study, console = open_study(recipe, overrides), Console(format)
    from regmix_hf import pipeline
    from regmix_hf.cli.views import stage_tables

    pipeline.begin(study, verb)
    pipeline.run_stage(study, verb, console)
    console.tables(stage_tables(study, verb, format))
    following = pipeline.next_verb(study, verb, pipeline.stages_of(study))
    if following:
        console.next(command(following, recipe, overrides))
    else:
        console.note(f"Read {study.page}")


def _command(verb: str) -> Callable[[RecipePath, Overrides, OutputFormat], None]:
    def run(recipe: RecipePath, overrides: Overrides = None, format: OutputFormat = Format.HUMAN) -> None:
        run_one(verb, recipe, overrides, format)

    return run
