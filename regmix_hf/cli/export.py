"""`regmix export`: a mixture in the words of the trainer that is to train on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regmix_hf.cli.arguments import open_study, quiet_libraries
from regmix_hf.cli.console import Console
from regmix_hf.errors import RecipeError
from regmix_hf.study.table_fit import TableFit

if TYPE_CHECKING:
    from regmix_hf.exports import MixtureToTrain


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A recipe, the folder of a fit, or NAMESPACE/NAME-mixture[@VERSION]."
        ),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[key.path=value]...", help="Keys of the recipe to change.")
    ] = None,
    to: Annotated[
        str | None, typer.Option(metavar="TRAINER", help="Without it: which trainers there are.")
    ] = None,
    everything: Annotated[
        Path | None, typer.Option("--all", metavar="DIR", help="Write one folder per trainer into DIR.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the files there instead of to stdout.")
    ] = None,
    mixture: Annotated[
        str, typer.Option(metavar="NAME", help="Of a recipe: chosen, prior, a baseline, ...")
    ] = "chosen",
    location: Annotated[
        str | None, typer.Option(metavar="PATH", help="Where tokenized files lie, e.g. /data/{domain}.")
    ] = None,
    samples: Annotated[
        str | None, typer.Option(metavar="KIND", help="What a sample of yours is: blocks or documents.")
    ] = None,
    tokens_per_document: Annotated[
        list[str] | None, typer.Option(metavar="DOMAIN=N,...", help="Mean length, where it was not counted.")
    ] = None,
) -> None:
    """Write a mixture for another trainer: TRL, Megatron-LM, OLMo-core, ..."""
    quiet_libraries()
    from regmix_hf.exports import TRAINERS, render_export
    from regmix_hf.exports.mixture import parse_lengths, parse_samples

    console = Console()
    if to is None and everything is None:
        rows = [f"{t.name:<16}{t.title}: shares of {t.weighs}" for t in TRAINERS.values()]
        raise RecipeError("say for which trainer, with --to NAME, or --all DIR:", "\n  ".join(rows))
    described = _mixture(source, overrides, mixture)
    lengths = {**described.tokens_per_document, **parse_lengths(tokens_per_document or [])}
    described = replace(
        described, location=location, samples=parse_samples(samples), tokens_per_document=lengths
    )
    if left_out := [name for name, weight in described.weights.items() if not weight > 0]:
        console.note(f"left out, because their share is 0: {', '.join(left_out)}")
    if everything is not None:
        _write_all(described, everything, console)
    elif to is not None:
        files = render_export(described, to)
        if output is None:
            for name, text in files.items():
                typer.echo(text if len(files) == 1 else f"# ---- {name}\n{text}", nl=False)
        else:
            _write(files, output, console)


def _mixture(source: str, overrides: list[str] | None, name: str) -> MixtureToTrain:
    from regmix_hf.sharing.exporting import mixture_of_fit, mixture_of_repository, mixture_of_study

    path = Path(source)
    if (fit := TableFit.find(path)) is not None:
        return mixture_of_fit(fit.root)
    if not path.exists() and source.count("/") == 1 and not path.suffix:
        return mixture_of_repository(source)
    return mixture_of_study(open_study(path, overrides), name)


def _write_all(mixture: MixtureToTrain, folder: Path, console: Console) -> None:
    from regmix_hf.exports import render_every

    written, left_out = render_every(mixture)
    for name, files in written.items():
        _write(files, folder / name, console)
    for name, error in left_out.items():
        console.note(f"{name}: left out: {error}")


def _write(files: dict[str, str], folder: Path, console: Console) -> None:
    from regmix_hf.files import write_text

    for name, text in files.items():
        write_text(folder / name, text)
        console.note(f"written: {folder / name}")
