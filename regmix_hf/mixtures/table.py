"""The table of a study's mixtures. Rows are added and never changed: what was held out stays held out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from regmix_hf.errors import MixtureError, StudyError
from regmix_hf.files import read_parquet
from regmix_hf.tables import MIXTURES, by_domain

#: How a row came into the table: drawn by `sample`, given by somebody, a mixture of the swarm that is run
#: again, one that a choice is tried with, one of the swarm that is run at another size, too, or a single
#: domain. These last are also a split of their own: no regression is fitted on their losses, but on how well
#: their models predict each token.
Origin = Literal["sampled", "given", "repeat", "confirm", "ladder", "expert"]
SAMPLED, GIVEN, REPEAT, CONFIRM, LADDER, EXPERT = get_args(Origin)
#: What version 0.1 did not write: all its rows were drawn at once, for proxies of one size. A rung is the
#: number of a size and length among the recipe's `proxies`.
_FIRST = {"round": 0, "origin": SAMPLED, "rung": 0}
_NUMBERED = re.compile(r"m(\d+)")


def read_mixtures(path: Path) -> pd.DataFrame:
    """Read a table of mixtures, one of version 0.1 with the columns that it lacks."""
    return completed(read_parquet(path, MIXTURES))


def completed(mixtures: pd.DataFrame) -> pd.DataFrame:
    """Return the table with all its columns, those that earlier versions did not write as they were then.

    Raises:
        StudyError: The numbers of sizes are none.
    """
    table = mixtures.assign(**{name: value for name, value in _FIRST.items() if name not in mixtures})
    if len(table) and not pd.api.types.is_integer_dtype(table["rung"]):
        raise StudyError("the table of mixtures holds no whole numbers in its column 'rung'.")
    weights = [name for name in map(str, table.columns) if name.startswith("weight/")]
    return table[["mixture_id", "split", *_FIRST, *weights]]


def over(mixtures: pd.DataFrame, domains: Sequence[str]) -> pd.DataFrame:
    """Return the same mixtures as rows over `domains`, in their order; new domains have no weight in any.

    Raises:
        MixtureError: A mixture gives weight to another domain.
    """
    weights = by_domain(mixtures, "weight")
    for domain in weights.columns.difference(list(domains)):
        if count := int((weights[domain] > 0).sum()):
            raise MixtureError(
                f"{count} of {len(mixtures)} mixtures of the study give weight to {domain!r}, which is no "
                "training domain any more, and mixtures once written stay.",
                "give the recipe another output_dir, or remove its folder of mixtures to draw all anew",
            )
    weights = weights.reindex(columns=list(domains), fill_value=0.0)
    return pd.concat([mixtures[["mixture_id", "split", *_FIRST]], weights.add_prefix("weight/")], axis=1)


def append(
    mixtures: pd.DataFrame,
    weights: NDArray[np.float64],
    splits: Sequence[str],
    origins: Sequence[Origin],
    rungs: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Add rows as the table's next round, with new ids.

    Args:
        mixtures: What is there, over the domains of `weights`.
        weights: New rows, `(n, d)`.
        splits: `fit`, `holdout` or `expert` for each.
        origins: How each came about.
        rungs: Of which size and length of proxies each is; default: all of the first.
    """
    if not len(weights):
        return mixtures
    numbers = [int(match[1]) for name in mixtures["mixture_id"] if (match := _NUMBERED.fullmatch(name))]
    first = max(numbers, default=-1) + 1
    width = max(4, len(str(first + len(weights) - 1)))
    facts = {
        "mixture_id": [f"m{first + row:0{width}d}" for row in range(len(weights))],
        "split": splits,
        "round": int(mixtures["round"].max()) + 1 if len(mixtures) else 0,
        "origin": origins,
        "rung": 0 if rungs is None else rungs,
    }
    shares = pd.DataFrame(weights, columns=by_domain(mixtures, "weight").columns).add_prefix("weight/")
    new = pd.DataFrame(facts).join(shares)
    return pd.concat([mixtures, new], ignore_index=True) if len(mixtures) else new


def further_runs(mixtures: pd.DataFrame) -> list[int | None]:
    """Number the rows that are run with seeds of their own, from 0; `None` for those that share the swarm's.

    Rows are never removed, so a row keeps its number.
    """
    is_further = mixtures["origin"].isin([REPEAT, CONFIRM])
    return [
        int(number) if further else None
        for further, number in zip(is_further, is_further.cumsum() - 1, strict=True)
    ]


def without_copies(mixtures: pd.DataFrame) -> pd.DataFrame:
    """Leave out rows that are the run of one before: its mixture at its size, with the seeds of the swarm."""
    shares_seeds = mixtures[[number is None for number in further_runs(mixtures)]]
    weights = [name for name in map(str, mixtures.columns) if name.startswith("weight/")]
    copies = shares_seeds.index[shares_seeds[["rung", *weights]].duplicated()]
    return mixtures.drop(index=copies)


def empty(domains: Sequence[str]) -> pd.DataFrame:
    """The table before anything is drawn."""
    return pd.DataFrame(columns=["mixture_id", "split", *_FIRST, *(f"weight/{name}" for name in domains)])
