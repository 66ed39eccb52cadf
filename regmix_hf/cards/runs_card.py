"""The card of the runs: what each table holds, what a weight means, how the runs were made, what failed."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import pandas as pd
from huggingface_hub import DatasetCardData

from regmix_hf.cards.hub_card import (
    TAGS,
    Card,
    configs,
    size_category,
    source_id,
    source_words,
    span,
)
from regmix_hf.cards.rendering import recipe_yaml
from regmix_hf.cards.swarm import SwarmFacts
from regmix_hf.quantities import BITS, BPB, Quantity, is_measured, read_name
from regmix_hf.recipe import Recipe
from regmix_hf.study import names
from regmix_hf.study.corpus_facts import CorpusFacts


@dataclass(frozen=True, eq=False)
class RunsCard(Card):
    """What the card of a repository of runs says.

    Attributes:
        recipe: That made the runs.
        corpus: What they were trained on.
        mixtures: The table `mixtures`.
        results: The table `results`, other people's runs included.
        num_points: Rows of the table `trajectories`.
        has_picture: Whether `effects.png` is there.
        sources: Datasets on the Hub that texts come from.
    """

    recipe: Recipe
    corpus: CorpusFacts
    mixtures: pd.DataFrame
    results: pd.DataFrame
    num_points: int
    has_picture: bool
    sources: Collection[str]

    @property
    def metadata(self) -> DatasetCardData:
        """The block at the top of the card, which the Hub reads."""
        sources = [source_id(domain, self.sources) for domain in self.recipe.domains.values()]
        return DatasetCardData(
            license=self.recipe.hub.license if self.recipe.hub else None,
            pretty_name=f"{self.recipe.name}: losses of small models by data mixture",
            tags=TAGS,
            task_categories=["tabular-regression"],
            size_categories=[size_category(len(self.results))],
            source_datasets=sorted({source for source in sources if source}) or None,
            configs=configs(
                {
                    "results": names.RESULTS,
                    "mixtures": names.MIXTURES_TABLE,
                    "trajectories": names.TRAJECTORIES,
                },
                "results",
            ),
        )

    def render(self, version: str) -> str:
        """Write the card as it is in the version that is called so."""
        return self.written(
            "runs_card.md.jinja",
            version,
            recipe=self.recipe,
            counts=SwarmFacts(self.results, len(self.results)).counts,
            splits=self.results["split"].value_counts().sort_index().to_dict(),
            domains=list(self._domains()),
            reading=list(self._reading()),
            benchmarks=list(self._benchmarks()),
            scales=_words(self.results["scale"]),
            tokens=_words(f"{int(count):,}" for count in self.results["num_train_tokens"]),
            num_seeds=self.results.groupby("mixture_id")["seed"].nunique().max(),
            environments=self._environments(),
            recipe_yaml=recipe_yaml(self.recipe),
        )

    def _domains(self) -> Iterable[dict[str, object]]:
        weights, losses = span(self.results, "weight", ".3f"), span(self.results, "loss", ".3f")
        prior = self.corpus.prior(self.recipe)
        for name, facts in self.corpus.domains.items():
            yield {
                "name": name,
                "source": source_words(self.recipe.domains[name], self.sources),
                "tokens": facts.train.num_tokens if facts.train else None,
                "prior": prior.get(name),
                "weights": weights.get(name, "-"),
                "losses": losses.get(name, "-"),
            }

    def _benchmarks(self) -> Iterable[dict[str, str]]:
        """What columns beside those of domains mean."""
        columns = [name for name in map(str, self.results.columns) if is_measured(name)]
        others = [name for name in columns if name.partition("/")[2] not in self.corpus.domains]
        if any(name.startswith(BPB) for name in others):
            yield {"name": "bpb/<task>", "note": BITS, "meaning": "of a benchmark's gold answers"}
        for name in others:
            if not name.startswith(BPB):
                note = (read_name(name) or Quantity(name)).note
                yield {"name": name, "note": note, "meaning": "as lm-eval measures it"}

    def _reading(self) -> Iterable[dict[str, object]]:
        """What each domain was read from, as far as that is known."""
        for name, facts in self.corpus.domains.items():
            if (read := facts.main_read) is not None:
                left_out = read.public_left_out
                yield {
                    "name": name,
                    "files": read.num_files,
                    "rows": read.num_rows,
                    "left_out": ", ".join(f"{count:,} {reason}" for reason, count in left_out.items()),
                    "documents": facts.main_split.num_documents,
                    "bytes": facts.main_split.num_bytes,
                }

    def _environments(self) -> list[str]:
        known = self.results.reindex(columns=["device", "versions"]).dropna()
        counts = known.groupby(["device", "versions"]).size()
        rows = counts.reset_index(name="count").to_dict("records")
        return [f"{row['count']} runs on {row['device']}: {row['versions']}" for row in rows]


def _words(values: Iterable[object]) -> str:
    return ", ".join(sorted({str(value) for value in values}))
