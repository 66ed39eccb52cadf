"""`regmix choose`: stage 5 of a recipe, or the same on the folder of a fit on tables."""

from __future__ import annotations

import re
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

#: Ends of names that nobody gives a folder on purpose.
_FILE_ENDS = (".yaml", ".yml", ".json")
_UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


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
    num_parameters: Annotated[
        str | None,
        typer.Option(metavar="N", help="Of a fit of several sizes: of which model, e.g. 1B."),
    ] = None,
    num_tokens: Annotated[
        str | None, typer.Option(metavar="D", help="Of a fit of several sizes: how long it trains, e.g. 25B.")
    ] = None,
    format: OutputFormat = Format.HUMAN,
) -> None:
    if output is not None and (output.suffix.lower() in _FILE_ENDS or output.is_file()):
        raise RecipeError(
            f"--output {output} is called as a file is, and has to be a folder.",
            f"name one for {names.CHOSEN_MIXTURE} and its tables, e.g. --output {output.with_suffix('')}",
        )
    fit = TableFit.find(source)
    size = _size(num_parameters, num_tokens)
    if fit is not None:
        _choose_from_fit(replace(fit, root=output or source), overrides or [], prior, size, Console(format))
    elif size is not None:
        raise RecipeError(
            f"--num-parameters and --num-tokens are for a fit on tables, and {source} is none.",
            "a recipe's fit speaks of its proxies",
        )
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


def _size(num_parameters: str | None, num_tokens: str | None) -> tuple[float, float] | None:
    if num_parameters is None and num_tokens is None:
        return None
    if num_parameters is None or num_tokens is None:
        raise RecipeError("--num-parameters and --num-tokens belong together: give both.")
    return _number("--num-parameters", num_parameters), _number("--num-tokens", num_tokens)


def _number(option: str, text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?(?:e\d+)?)([kMBT]?)", text.replace("_", "").replace(",", ""))
    if not found or not float(found[1]):
        raise RecipeError(f"{option} {text!r} is no number above 0.", "write e.g. 60M, 1B or 25e9")
    return float(found[1]) * _UNITS[found[2]]


def _choose_from_fit(
    fit: TableFit,
    overrides: list[str],
    prior: Path | None,
    size: tuple[float, float] | None,
    console: Console,
) -> None:
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
    if size is not None:
        fitted = fitted.at(*size)
    given_prior = read_prior(prior, fitted.regressor.domains_) if prior else None
    chosen = fitted.problem(prior=given_prior, choice=choice).solve(console)
    write_chosen(chosen, fit.root)
    words = ["choose", str(fit.regression), *overrides, *(["--prior", str(prior)] if prior else [])]
    if size is not None:
        words += ["--num-parameters", f"{size[0]:.15g}", "--num-tokens", f"{size[1]:.15g}"]
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
