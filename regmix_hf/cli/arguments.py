"""Arguments that verbs share, and how they become a study and a console."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regmix_hf.cli.console import Format
from regmix_hf.errors import RecipeError

if TYPE_CHECKING:
    from regmix_hf.study import Study

RecipePath = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="A recipe.yaml, or the folder that holds it.")
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[key.path=value]...", help="Keys of the recipe to change.")
]
OutputFormat = Annotated[Format, typer.Option("--format", help="How to print data; notes go to stderr.")]

#: The quiet the libraries keep while our own notes and bars speak.
_QUIET_LIBRARIES = {
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DATASETS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


def quiet_libraries() -> None:
    """Keep the libraries' own bars and warnings off the terminal; to be called before they are imported."""
    for name, value in _QUIET_LIBRARIES.items():
        os.environ.setdefault(name, value)


def open_study(recipe: Path, overrides: list[str] | None) -> Study:
    """Read the recipe and name its study; touches nothing on disk."""
    from regmix_hf.recipe import load_recipe
    from regmix_hf.study import Study
    from regmix_hf.study.table_fit import TableFit

    quiet_libraries()
    if TableFit.find(recipe) is not None:
        raise RecipeError(
            f"{recipe} is a fit on tables and holds no recipe.",
            "such a folder has `regmix choose`, `report`, `status`, `export` and `push`",
        )
    return Study(load_recipe(recipe, overrides or ()))


def command(verb: str, recipe: Path, overrides: list[str] | None) -> str:
    """Write the command line of `verb` on the same recipe, for `Next:` lines."""
    return shlex.join(["regmix", verb, str(recipe), *(overrides or ())])
