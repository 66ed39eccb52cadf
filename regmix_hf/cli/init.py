"""`regmix init`: a first recipe for a folder of text."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from regmix_hf.cli.arguments import OutputFormat, quiet_libraries
from regmix_hf.cli.console import Console, Format
from regmix_hf.cli.tables import FOUND_DOMAINS, Table
from regmix_hf.readable import duration
from regmix_hf.recipe import RECIPE_FILE


def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where the text lies.")] = Path(),
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The recipe. Default: recipe.yaml in DIR.")
    ] = None,
    format: OutputFormat = Format.HUMAN,
) -> None:
    """Write a first recipe for the folders and files of text in a folder."""
    quiet_libraries()
    from regmix_hf.draft import write_draft

    console = Console(format)
    draft = write_draft(folder, output or folder / RECIPE_FILE)
    rows = [
        {
            "domain": domain.name,
            "files": len(domain.files),
            "documents": domain.num_documents,
            "bytes": domain.num_bytes,
        }
        for domain in draft.findings.domains
    ]
    console.tables([Table(FOUND_DOMAINS, rows, "domains")])
    for line in draft.findings.left_out:
        console.note(f"left out: {line}")
    if draft.seconds:
        console.note(f"training takes about {duration(draft.seconds)} on this machine")
    console.note(f"written: {draft.file}")
    console.next(shlex.join(["regmix", "run", str(draft.file), "--dry-run"]))
