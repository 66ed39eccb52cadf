"""`regmix pull`: rebuild a published study in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regmix_hf.cli.arguments import OutputFormat, quiet_libraries
from regmix_hf.cli.console import Console, Format
from regmix_hf.cli.tables import PULLED, Table


def pull(
    source: Annotated[
        str,
        typer.Argument(metavar="NAMESPACE/NAME[@VERSION]", help="Of the study; default: its newest version."),
    ],
    folder: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="Default: runs/NAME.")] = None,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="PART,...",
            help="Of runs, regressor, mixture, model; default: all but model, which is weights.",
        ),
    ] = None,
    accept_sources: Annotated[
        bool,
        typer.Option(
            "--accept-sources", help="Let the recipe read the files and addresses it names outside the Hub."
        ),
    ] = False,
    format: OutputFormat = Format.HUMAN,
) -> None:
    """Fetch a published study, to go on from without training."""
    quiet_libraries()
    console = Console(format)
    from regmix_hf import pipeline
    from regmix_hf.sharing import DEFAULT_PARTS, pull_study

    stages = [pipeline.stage_of(verb) for verb in pipeline.VERBS]
    parts = only.split(",") if only else DEFAULT_PARTS
    pulled = pull_study(source, stages, folder, only=parts, accept_sources=accept_sources, progress=console)
    rows = [
        {"repository": repository.id, "commit": commit[:10]} for repository, commit in pulled.commits.items()
    ]
    console.tables(
        [Table(PULLED, rows, f"version {pulled.version or 'none yet'}", {"version": pulled.version})]
    )
    for repository in pulled.missing:
        console.note(f"{repository} does not have this version: left out")
    done = {stage.verb for stage in pipeline.status(pulled.study) if stage.state == "done"}
    following = next((verb for verb in ("fit", "choose") if verb not in done), "report")
    console.next(f"regmix {following} {pulled.study.root}")
