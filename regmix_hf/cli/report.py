"""`regmix report`: what a study found, or a fit on tables, in pictures and words."""

from __future__ import annotations

from regmix_hf.cli.arguments import OutputFormat, Overrides, RecipePath, quiet_libraries
from regmix_hf.cli.console import Console, Format
from regmix_hf.cli.stages import run_one
from regmix_hf.errors import RecipeError
from regmix_hf.study.table_fit import TableFit


def report(recipe: RecipePath, overrides: Overrides = None, format: OutputFormat = Format.HUMAN) -> None:
    """Write what was found, in pictures and words; also of a fit on tables."""
    if (fit := TableFit.find(recipe)) is None:
        run_one("report", recipe, overrides, format)
        return
    from regmix_hf.stages.report import report_fit

    if overrides:
        raise RecipeError(f"override {overrides[0]!r}: {recipe} is a fit on tables and holds no recipe.")
    quiet_libraries()
    console = Console(format)
    report_fit(fit, console)
    console.note(f"Read {fit.page}")
