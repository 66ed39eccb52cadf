"""`regmix validate`: check a recipe before anything runs."""

from __future__ import annotations

from typing import Annotated

import typer

from regmix_hf.cli.arguments import OutputFormat, Overrides, RecipePath, command, open_study
from regmix_hf.cli.console import Console, Format

Deep = Annotated[
    bool, typer.Option("--deep", help="Also compare all blocks with what was prepared, and read all results.")
]


def validate(
    recipe: RecipePath, overrides: Overrides = None, format: OutputFormat = Format.HUMAN, deep: Deep = False
) -> None:
    """Check a recipe: keys, names, models, training arguments, room for mixtures."""
    study, console = open_study(recipe, overrides), Console(format)
    from regmix_hf.preflight import check_study

    checked = check_study(study)
    if deep:
        from regmix_hf.corpus.corpus import Corpus
        from regmix_hf.jobs.results import check_whole

        checked += Corpus(study.corpus).check()
        checked += [check_whole(folder) for folder in (study.proxies, study.models) if folder.exists()]
    if format is Format.JSON:
        console.json({"recipe": str(recipe), "checked": checked})
    for item in checked:
        console.line(f"ok  {item}")
    console.next(command("run", recipe, overrides) + " --dry-run")
