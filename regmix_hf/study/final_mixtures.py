"""The mixtures that final models are trained on, by name."""

from __future__ import annotations

from pathlib import Path

from regmix_hf.errors import StudyError
from regmix_hf.files import read_parquet
from regmix_hf.recipe import Recipe
from regmix_hf.recipe.schema import HOLDOUT
from regmix_hf.tables import MIXTURES


def final_mixtures(recipe: Recipe, sampled: Path) -> list[str]:
    """Return the names in `train.mixtures`, with the swarm's held-out mixtures in the place of `holdout`.

    Args:
        recipe: The recipe.
        sampled: The table of sampled mixtures; read only when held-out ones are asked for.

    Raises:
        StudyError: They are asked for and none are sampled yet, or one is called as a baseline is.
    """
    names: list[str] = []
    for name in recipe.train.mixtures:
        names += _held_out(sampled) if name == HOLDOUT else [name]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise StudyError(
            f"a mixture of the swarm and a baseline are both called {repeated[0]!r}.",
            f"give baselines.{repeated[0]} another name",
        )
    return names


def _held_out(sampled: Path) -> list[str]:
    if not sampled.exists():
        raise StudyError(f"{sampled} is not there yet.", "run `regmix sample` first")
    table = read_parquet(sampled, MIXTURES)
    return [str(name) for name in table.loc[table["split"] == "holdout", "mixture_id"]]
