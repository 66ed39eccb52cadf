"""The card of the chosen mixture: weights, what is promised, what it was compared with, what it costs."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field

import pandas as pd
from huggingface_hub import DatasetCardData

from regmix_hf.cards.choice_facts import ChoiceFacts
from regmix_hf.cards.facts import StudyFacts
from regmix_hf.cards.hub_card import TAGS, Card, configs, size_category
from regmix_hf.cards.pictures import target_words
from regmix_hf.cards.summary import scores_of, summarise
from regmix_hf.exports import TRAINERS
from regmix_hf.quantities import Quantity, by_kind

#: The folder, in the repository of the chosen mixture, of the files for other trainers.
EXPORTS = "exports"


@dataclass(frozen=True, eq=False)
class MixtureCard(Card):
    """What the card of a chosen mixture says.

    Attributes:
        facts: All that is known of it.
        choice: The part about the mixture.
        tables: File of each table in the repository, by config.
        pictures: File name of each picture that is there.
        explorer: File name of the page to explore the mixture with, where it is there.
        exports: Trainer -> its files, which lie in a folder of its name in `EXPORTS`.
    """

    facts: StudyFacts
    choice: ChoiceFacts
    tables: dict[str, str]
    pictures: dict[str, str]
    explorer: str | None = None
    exports: Mapping[str, Iterable[str]] = field(default_factory=dict)

    @property
    def metadata(self) -> DatasetCardData:
        """The block at the top of the card, which the Hub reads."""
        return DatasetCardData(
            license=self.facts.asked.license,
            pretty_name=f"{self.facts.asked.name}: data mixture for pre-training",
            tags=TAGS,
            size_categories=[size_category(len(self.choice.table))],
            configs=configs(self.tables, "mixture"),
        )

    def render(self, version: str) -> str:
        """Write the card as it is in the version that is called so."""
        facts, summary = self.facts, summarise(self.facts)
        scores = scores_of(facts)
        return self.written(
            "mixture_card.md.jinja",
            version,
            asked=facts.asked,
            recipe=facts.recipe,
            choice=self.choice,
            verdict=self.choice.verdict,
            promises=facts.promises,
            summary=summary,
            coverage=f"{100 * self.choice.coverage:.0f} %",
            target_words=target_words(facts),
            target=facts.target.quantity,
            trade_off=self._trade_off(),
            exported=[(TRAINERS[name], list(files)) for name, files in self.exports.items()],
            exports_folder=EXPORTS,
            scores=scores,
            mixture_names=list(dict.fromkeys(name for row in scores for name in row.values)),
            has_models=facts.final is not None,
        )

    def _trade_off(self) -> list[tuple[Quantity, list[dict[Hashable, object]]]]:
        """What is predicted, by unit and direction; what gains most first."""
        columns = ["prior_loss", "loss", "loss_lower", "loss_upper", "change"]
        tables = []
        for kind, rows in by_kind(self.choice.table):
            frame: pd.DataFrame = rows[columns].sort_values(
                "change", kind="stable", ascending=kind.direction == "lower"
            )
            tables.append((kind, frame.reset_index(names="domain").to_dict("records")))
        return tables
