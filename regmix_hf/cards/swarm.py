"""What is known of the runs that a law is fitted on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from regmix_hf.mixtures.table import CONFIRM, EXPERT, GIVEN, LADDER, REPEAT, SAMPLED
from regmix_hf.quantities import BPB, Quantity, measured
from regmix_hf.tables import SIZES, by_domain

#: What runs of each origin are for.
_SPENT_ON = {
    EXPERT: "experts of one domain each",
    SAMPLED: "sampled mixtures",
    GIVEN: "given mixtures",
    REPEAT: "mixtures run again",
    LADDER: "mixtures at further sizes",
    CONFIRM: "tries of a choice",
}


@dataclass(frozen=True, eq=False)
class SwarmFacts:
    """The proxy runs.

    Attributes:
        results: The table `results`.
        num_planned: Runs that were asked for.
        quantities: What they are measured on.
        origins: Id of each mixture -> how it came about, as the table of mixtures says; empty: not known.
    """

    results: pd.DataFrame
    num_planned: int
    quantities: tuple[Quantity, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def spent(self) -> list[tuple[str, int, float]]:
        """What runs were for, how many there are, and their share of the tokens; nothing without experts."""
        origin = self.results["mixture_id"].map(self.origins) if self.origins else pd.Series(dtype=object)
        if EXPERT not in set(origin):
            return []
        tokens = self.results["num_train_tokens"].groupby(origin).agg(["size", "sum"])
        total = float(tokens["sum"].sum())
        return [
            (word, int(tokens.loc[name, "size"]), float(tokens.loc[name, "sum"]) / total)
            for name, word in _SPENT_ON.items()
            if name in tokens.index
        ]

    @property
    def counts(self) -> dict[str, int]:
        """Runs per status."""
        return {
            status: int((self.results["status"] == status).sum()) for status in ("ok", "diverged", "failed")
        }

    @property
    def num_missing(self) -> int:
        """Runs that were asked for and are not in the table."""
        return max(0, self.num_planned - len(self.results))

    @cached_property
    def usable(self) -> pd.DataFrame:
        """Rows of the runs that ended well, of several sizes and lengths those that most are of."""
        ended = self.results[self.results["status"] == "ok"]
        said = [name for name in ("scale", *SIZES) if name in ended]
        if not said or ended.empty:
            return ended
        size = ended.groupby(said, dropna=False, sort=False).ngroup()
        return ended[size == size.mode().iloc[0]]

    @cached_property
    def effects(self) -> pd.DataFrame:
        """Spearman's correlation of every domain's weight (rows) with every target (columns).

        Over all runs that ended well; what is better when higher counts as its negative. NaN where a weight
        or a target is the same in all of them. A domain's bits per byte are left out: they are its loss.
        """
        weights, values = by_domain(self.usable, "weight"), measured(self.usable)
        again = [f"{BPB}{name}" for name in by_domain(self.usable, "loss")]
        signs = {one.name: one.sign for one in self.quantities}
        columns = {}
        for name, column in values.drop(columns=again, errors="ignore").items():
            small = signs.get(str(name), 1.0) * column.to_numpy(dtype=float)
            columns[str(name)] = _rank_correlation(weights.to_numpy(dtype=float), small)
        return pd.DataFrame(columns, index=weights.columns)


def _rank_correlation(weights: np.ndarray, losses: np.ndarray) -> np.ndarray:
    known = ~np.isnan(losses)
    x = rankdata(weights[known], axis=0)
    y = rankdata(losses[known])
    x, y = x - x.mean(axis=0), y - y.mean()
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(x.T @ y / np.sqrt((x**2).sum(axis=0) * (y**2).sum()))
