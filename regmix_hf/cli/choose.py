"""`regmix choose`: stage 5 of a recipe, or the same on the folder of a fit on outside runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regmix_hf.cli.arguments import OutputFormat
from regmix_hf.cli.console import Console, Format
from regmix_hf.cli.stages import run_one
from regmix_hf.errors import RecipeError, StudyError, did_you_mean
from regmix_hf.recipe import RECIPE_FILE
from regmix_hf.study import names


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        name="choose",
        help="Stage 5: choose the mixture with the best predicted target; also from a fit on CSV files.",
    )(_choose)


def _choose(
    source: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe, or the folder of a fit.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key.path=value]...", help="Keys to change; for a fit `choice.KEY` and `regression.KEY`."
        ),
    ] = None,
    format: OutputFormat = Format.HUMAN,
) -> None:
    if (source / names.FIT_SUMMARY).is_file() and not (source / RECIPE_FILE).exists():
        _choose_from_fit(source, overrides or [], Console(format))
    elif source.is_dir() and not (source / RECIPE_FILE).exists():
        raise StudyError(
            f"{source} holds neither a recipe nor a fit.",
            f"give a recipe, or fit first: regmix fit --mixtures A.csv --losses B.csv --output {source}",
        )
    else:
        run_one("choose", source, overrides, format)


def _choose_from_fit(folder: Path, overrides: list[str], console: Console) -> None:
    from regmix_hf.choice import FittedRuns, write_chosen
    from regmix_hf.cli.views import chosen_tables
    from regmix_hf.recipe import Choice, Regression
    from regmix_hf.recipe.load import read_section

    keys: dict[str, list[str]] = {"choice": [], "regression": []}
    for override in overrides:
        section, _, rest = override.partition(".")
        if section not in keys:
            raise RecipeError(f"override {override!r} does not apply to a fit; {did_you_mean(section, keys)}")
        if rest.startswith("max_epochs"):
            raise RecipeError(
                f"override {override!r} has no effect on a fit: it does not know how much text there is.",
                "bound single domains instead, e.g. choice.max.NAME=0.3",
            )
        keys[section].append(rest)
    choice = read_section(Choice, keys["choice"], name="choice")
    regression = read_section(Regression, keys["regression"], name="regression")
    given = regression.model_fields_set
    fitted = FittedRuns.load(
        folder, estimator=regression.estimator, target=regression.target if "target" in given else None
    )
    chosen = fitted.problem(choice=choice).solve(console)
    write_chosen(chosen, folder)
    console.note(f"chosen: {chosen.reason}")
    console.note(f"predictions and intervals are those of a new run {chosen.speaks_of}")
    for warning in chosen.warnings:
        console.note(f"warning: {warning}")
    console.note("the prior is not known here: the mean of the runs' mixtures stands in for it")
    console.tables(chosen_tables(folder / names.CHOSEN_TABLE))
    console.note(f"Written to {folder / names.CHOSEN_MIXTURE}")
