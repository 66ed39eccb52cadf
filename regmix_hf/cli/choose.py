"""`regmix choose`: stage 5 of a recipe, or the same on the folder of a fit on tables."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from regmix_hf.cli.arguments import OutputFormat
from regmix_hf.cli.console import Console, Format
from regmix_hf.cli.stages import run_one
from regmix_hf.errors import RecipeError, StudyError, did_you_mean
from regmix_hf.recipe import RECIPE_FILE
from regmix_hf.study import names
from regmix_hf.study.table_fit import TableFit


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        name="choose",
        help="Stage 5: choose the mixture with the best predicted target; also from a fit on tables.",
    )(_choose)


def _choose(
    source: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe, or the folder of a fit.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key.path=value]...", help="Keys to change; for a fit `choice.KEY` and `regression.KEY`."
        ),
    ] = None,
    prior: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of a fit on tables: YAML of domains with shares or tokens."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Of a fit on tables: where the mixture goes; default: the fit's."),
    ] = None,
    format: OutputFormat = Format.HUMAN,
) -> None:
    fit = TableFit.find(source)
    if fit is not None:
        _choose_from_fit(replace(fit, root=output or source), overrides or [], prior, Console(format))
    elif prior is not None or output is not None:
        raise RecipeError(
            f"--prior and --output are for a fit on tables, and {source} is none.",
            "a recipe's prior is the text it has (domains.*.num_tokens), its folder is output_dir",
        )
    elif source.is_dir() and not (source / RECIPE_FILE).exists():
        raise StudyError(
            f"{source} holds neither a recipe nor a fit.",
            f"give a recipe, or fit first: regmix fit --mixtures A.csv --losses B.csv --output {source}",
        )
    else:
        run_one("choose", source, overrides, format)


def _choose_from_fit(fit: TableFit, overrides: list[str], prior: Path | None, console: Console) -> None:
    from regmix_hf.choice import FittedRuns, write_chosen
    from regmix_hf.choice.prior import read_prior
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
        if rest.startswith(("num_confirm", "num_rounds")):
            raise RecipeError(
                f"override {override!r} has no effect on a fit: there is nothing to train here.",
                "`regmix fit` says what each family promised of the run that it predicted best",
            )
        keys[section].append(rest)
    choice = read_section(Choice, keys["choice"], name="choice")
    regression = read_section(Regression, keys["regression"], name="regression")
    given = regression.model_fields_set
    target = regression.target if "target" in given else None
    fitted = FittedRuns.load(fit.regression, estimator=regression.estimator, target=target)
    given_prior = read_prior(prior, fitted.regressor.domains_) if prior else None
    chosen = fitted.problem(prior=given_prior, choice=choice).solve(console)
    write_chosen(chosen, fit.root)
    words = ["choose", str(fit.regression), *overrides, *(["--prior", str(prior)] if prior else [])]
    words += ["--output", str(fit.root)] if fit.root != fit.regression else []
    fit.sign_choice(words, target, str(prior) if prior else None)
    console.note(f"chosen: {chosen.reason}")
    console.note(f"predictions and intervals are those of a new run {chosen.speaks_of}")
    for warning in chosen.warnings:
        console.note(f"warning: {warning}")
    if prior is None:
        console.note(
            "the prior is not known here (--prior FILE): the mean of the runs' mixtures stands in for it"
        )
    console.tables(chosen_tables(fit.root / names.CHOSEN_TABLE))
    console.note(f"Written to {fit.mixture}")
    console.next(shlex.join(["regmix", "report", str(fit.root)]))
