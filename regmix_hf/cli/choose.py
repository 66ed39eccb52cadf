"""`regmix choose`: stage 5 of a recipe, or the same on the folder of a fit on tables."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from regmix_hf.cli.arguments import OutputFormat
from regmix_hf.cli.console import Console, Format
from regmix_hf.cli.stages import run_one
from regmix_hf.errors import RecipeError, StudyError
from regmix_hf.recipe import RECIPE_FILE, Choice, Regression
from regmix_hf.recipe.load import read_section
from regmix_hf.recipe.section import Section
from regmix_hf.study import names
from regmix_hf.study.table_fit import TableFit

#: Ends of names that nobody gives a folder on purpose.
_FILE_ENDS = (".yaml", ".yml", ".json")
_UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


def choose(
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
        str | None, typer.Option(metavar="N", help="Of a fit of several sizes: of which model, e.g. 1B.")
    ] = None,
    num_tokens: Annotated[
        str | None, typer.Option(metavar="D", help="Of a fit on tables: how long that trains, e.g. 25B.")
    ] = None,
    available: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of a fit on tables: YAML of domains with all tokens there are."),
    ] = None,
    format: OutputFormat = Format.HUMAN,
) -> None:
    """Stage 5: choose the mixture with the best predicted target; also from a fit on tables."""
    if output is not None and (output.suffix.lower() in _FILE_ENDS or output.is_file()):
        raise RecipeError(
            f"--output {output} is called as a file is, and has to be a folder.",
            f"name one for {names.CHOSEN_MIXTURE} and its tables, e.g. --output {output.with_suffix('')}",
        )
    fit = TableFit.find(source)
    final = FinalRun.of(num_parameters, num_tokens, available)
    if fit is not None:
        _choose_from_fit(replace(fit, root=output or source), overrides or [], prior, final, Console(format))
    elif final != FinalRun():
        raise RecipeError(
            f"--num-parameters, --num-tokens and --available are for a fit on tables, and {source} is none.",
            "a recipe's fit speaks of its proxies, and its corpus says what text there is",
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


@dataclass(frozen=True)
class FinalRun:
    """What is told of the run that a mixture is chosen for.

    Attributes:
        num_parameters: Of its model; `None`: that of the runs.
        num_tokens: How long it trains; `None`: as long as the runs.
        available: The file that says how much text there is; `None`: nobody knows.
    """

    num_parameters: float | None = None
    num_tokens: float | None = None
    available: Path | None = None

    @classmethod
    def of(cls, num_parameters: str | None, num_tokens: str | None, available: Path | None) -> FinalRun:
        """Read what was typed.

        Raises:
            RecipeError: Something else that belongs to it is missing, or a number is none.
        """
        if num_tokens is None and (num_parameters is not None or available is not None):
            given = "--available" if num_parameters is None else "--num-parameters"
            raise RecipeError(f"{given} and --num-tokens belong together: give both.")
        if num_tokens is not None and num_parameters is None and available is None:
            raise RecipeError(
                f"--num-tokens {num_tokens} alone changes nothing: runs of one size speak of that one.",
                "give --num-parameters, too, to ask a law over sizes, or --available FILE, to count epochs",
            )
        return cls(
            None if num_parameters is None else _number("--num-parameters", num_parameters),
            None if num_tokens is None else _number("--num-tokens", num_tokens),
            available,
        )

    @property
    def words(self) -> list[str]:
        """As options of the command."""
        sizes = (("--num-parameters", self.num_parameters), ("--num-tokens", self.num_tokens))
        words = [word for option, size in sizes if size is not None for word in (option, f"{size:.15g}")]
        return words + (["--available", str(self.available)] if self.available else [])


def _number(option: str, text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?(?:e\d+)?)([kMBT]?)", text.replace("_", "").replace(",", ""))
    if not found or not float(found[1]):
        raise RecipeError(f"{option} {text!r} is no number above 0.", "write e.g. 60M, 1B or 25e9")
    return float(found[1]) * _UNITS[found[2]]


def _choose_from_fit(
    fit: TableFit, overrides: list[str], prior: Path | None, final: FinalRun, console: Console
) -> None:
    from regmix_hf.choice import FittedRuns, write_chosen
    from regmix_hf.choice.prior import read_available, read_prior
    from regmix_hf.cli.views import chosen_tables
    from regmix_hf.mixtures.final import choice_constraints

    choice, regression = _asked(overrides, final)
    target = regression.target if "target" in regression.model_fields_set else None
    fitted = FittedRuns.load(fit.regression, estimator=regression.estimator, target=target)
    if final.num_parameters is not None and final.num_tokens is not None:
        fitted = fitted.at(final.num_parameters, final.num_tokens)
    constraints = tokens = None
    if final.available is not None and final.num_tokens is not None:
        tokens = read_available(final.available, fitted.regressor.domains_)
        constraints = choice_constraints(choice, fitted.regressor.domains_, tokens, final.num_tokens)
        if fitted.regressor.knows_repetition:
            fitted = fitted.reading(tokens, final.num_tokens)
            console.note("predictions count what repeating costs, as often as that run reads each domain")
    given_prior = read_prior(prior, fitted.regressor.domains_) if prior else None
    chosen = fitted.problem(constraints=constraints, prior=given_prior, choice=choice).solve(console)
    epochs = None
    if tokens is not None and final.num_tokens is not None:
        epochs = {name: share * final.num_tokens / tokens[name] for name, share in chosen.weights.items()}
    write_chosen(chosen, fit.root, epochs=epochs)
    words = ["choose", str(fit.regression), *overrides, *(["--prior", str(prior)] if prior else [])]
    words += final.words
    words += ["--output", str(fit.root)] if fit.root != fit.regression else []
    fit.sign_choice(
        words,
        target=target,
        prior=str(prior) if prior else None,
        available=tokens,
        num_train_tokens=final.num_tokens,
        max_epochs=choice.max_epochs,
    )
    if fitted.is_judged_anew:
        console.note(str(fitted.verdict))
    for note in chosen.notes:
        console.note(note)
    if prior is None:
        console.note(
            "the prior is not known here (--prior FILE): the mean of the runs' mixtures stands in for it"
        )
    console.tables(chosen_tables(fit.mixture))
    console.note(f"Written to {fit.mixture}")
    console.next(shlex.join(["regmix", "report", str(fit.root)]))


class _Asked(Section):
    """What overrides of a fit may say."""

    choice: Choice = Choice()
    regression: Regression = Regression()


def _asked(overrides: list[str], final: FinalRun) -> tuple[Choice, Regression]:
    """Read what overrides of a fit say.

    Raises:
        RecipeError: One has no effect here, or says what no recipe may say.
    """
    asked = read_section(_Asked, overrides, name="overrides of a fit on tables")
    if "max_epochs" in asked.choice.model_fields_set and final.available is None:
        raise RecipeError(
            "choice.max_epochs has no effect on this fit: it does not know how much text there is.",
            "say it by --available FILE, or bound single domains, e.g. choice.max.NAME=0.3",
        )
    if said := asked.choice.model_fields_set & {"num_confirm", "num_rounds"}:
        raise RecipeError(
            f"choice.{min(said)} has no effect on a fit on tables: there is nothing to train here.",
            "`regmix fit` says what each family promised of the run that it predicted best",
        )
    if said := asked.regression.model_fields_set - {"estimator", "target"}:
        raise RecipeError(
            f"regression.{min(said)} has no effect on what is fitted already.",
            "`regmix fit` fits again; a choice takes regression.estimator and regression.target",
        )
    return asked.choice, asked.regression
