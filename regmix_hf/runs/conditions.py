"""What tables say of runs beside weights and measurements: how large, how long, how often they read text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from regmix_hf.errors import DataError
from regmix_hf.runs.layout import SIZE_COLUMNS
from regmix_hf.runs.table_file import TableFile
from regmix_hf.tables import SIZES

#: What columns begin with that say how often a run read a domain, as in a study's results.
EPOCHS = "epochs/"


def epochs_in(names: Iterable[str]) -> list[str]:
    """Those of these columns that say how often runs read a domain."""
    return [name for name in names if name.startswith(EPOCHS)]


def sizes_of(table: TableFile) -> pd.DataFrame | None:
    """How large every run is and how long, where two columns say it.

    Raises:
        DataError: A number is not above 0.
    """
    found = {name: SIZE_COLUMNS[name] for name in map(str, table.cells.columns) if name in SIZE_COLUMNS}
    if sorted(found.values()) != sorted(SIZES):
        return None
    numbers, _ = table.numbers(found)
    sizes = numbers.rename(columns=found)[list(SIZES)]
    if not (np.isfinite(sizes) & (sizes > 0)).all(axis=None):
        raise DataError(f"{table.path}: a number of parameters or of tokens is not above 0.")
    return sizes


def epochs_of(table: TableFile, domains: Mapping[str, str]) -> pd.DataFrame | None:
    """How often every run read each domain, under the domains' names; `None` where no column says it.

    Args:
        table: The one with the weights.
        domains: Column of a domain's weights -> what the domain is called; `epochs/` stands before either.

    Raises:
        DataError: A domain has no such column, or a number is missing or below 0.
    """
    there = epochs_in(map(str, table.cells.columns))
    if not there:
        return None
    columns = {}
    for column, name in domains.items():
        found = [one for one in (f"{EPOCHS}{name}", f"{EPOCHS}{column}") if one in there]
        if not found:
            raise DataError(
                f"{table.path} has {there[0]!r}, but no column {EPOCHS + name!r}.",
                "say of every domain how often each run read it, or of none",
            )
        columns[found[0]] = name
    numbers, _ = table.numbers(columns)
    if not (np.isfinite(numbers) & (numbers >= 0)).all(axis=None):
        raise DataError(
            f"{table.path}: epochs are missing or below 0.",
            "write a run's tokens of a domain over the tokens there are",
        )
    return numbers.rename(columns=columns)
