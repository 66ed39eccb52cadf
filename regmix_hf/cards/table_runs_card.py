"""The card of runs that were read from tables: where they come from, what each column holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from huggingface_hub import DatasetCardData

from regmix_hf.cards.asked import Asked
from regmix_hf.cards.hub_card import TAGS, Card, configs, size_category, span
from regmix_hf.runs.sizes import scale_words
from regmix_hf.study import names
from regmix_hf.tables import SIZES


@dataclass(frozen=True, eq=False)
class TableRunsCard(Card):
    """What the card of such a repository says.

    Attributes:
        asked: What the fit was asked.
        origin: Where the runs come from, in the words of whoever publishes them.
        results: The table `results`.
        has_picture: Whether `effects.png` is there.
    """

    asked: Asked
    origin: str
    results: pd.DataFrame
    has_picture: bool

    @property
    def metadata(self) -> DatasetCardData:
        """The block at the top of the card, which the Hub reads."""
        return DatasetCardData(
            license=self.asked.license,
            pretty_name=f"{self.asked.name}: results of runs by data mixture",
            tags=TAGS,
            task_categories=["tabular-regression"],
            size_categories=[size_category(len(self.results))],
            configs=configs({"results": names.RESULTS, "mixtures": names.MIXTURES_TABLE}, "results"),
        )

    def render(self, version: str) -> str:
        """Write the card as it is in the version that is called so."""
        return self.written(
            "table_runs_card.md.jinja",
            version,
            asked=self.asked,
            origin=self.origin,
            num_mixtures=self.results["mixture_id"].nunique(),
            splits=self.results["split"].value_counts().sort_index().to_dict(),
            sizes=self._sizes(),
            domains=span(self.results, "weight", ".3f"),
            targets=dict(self._targets()),
        )

    def _sizes(self) -> list[str]:
        """How many runs there are of each size and length, the smallest first; nothing where nobody said."""
        if not set(SIZES) <= set(self.results):
            return []
        sizes, counts = np.unique(self.results[list(SIZES)].to_numpy(), axis=0, return_counts=True)
        return [f"{count} of {scale_words(*size)}" for size, count in zip(sizes, counts, strict=True)]

    def _targets(self) -> Iterable[tuple[str, str]]:
        """Lowest and highest value of every column that was measured."""
        for column in self.results.columns:
            if "/" in column and not column.startswith("weight/"):
                values = self.results[column].dropna()
                yield column, f"{values.min():.4g} to {values.max():.4g}"
