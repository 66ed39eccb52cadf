"""What was asked, by a recipe or by a fit on tables: all that a report or a card says of either."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from regmix_hf.files import damaged
from regmix_hf.recipe import Recipe
from regmix_hf.regression.target import TargetValue
from regmix_hf.study import names
from regmix_hf.study.table_fit import ChoiceRecord, TableFit

_OF_TEXT = "what the available text holds"
_OF_MEAN = "the mean of the runs' mixtures, which stands in for it because it is not known"


@dataclass(frozen=True)
class Asked:
    """What was asked.

    Attributes:
        name: Of the study, or of the folder of a fit.
        seed: Of all that is random.
        target: What is to be small, as it was written.
        domains: Those that may have a weight.
        validated_only: Targets that are none of them.
        prior: What the prior is, in words.
        available: Tokens that there are of each domain, where somebody said it who has no recipe.
        num_train_tokens: Of a final run; `None` where none is planned.
        max_epochs: Most times such a run may see a domain; `None`: any number.
        license: Of what is published, as the Hub calls it; `None`: nobody said.
        private: Whether only its owner sees what is published.
        fitted_on: Repositories of other people's runs.
        again: Commands that do it again, where there is no recipe to.
        tables: Names of the tables that runs were read from.
        notes: What was left out or changed when they were read.
    """

    name: str
    seed: int
    target: TargetValue
    domains: tuple[str, ...]
    validated_only: tuple[str, ...]
    prior: str = _OF_TEXT
    available: Mapping[str, float] | None = None
    num_train_tokens: float | None = None
    max_epochs: float | None = None
    license: str | None = None
    private: bool = False
    fitted_on: tuple[str, ...] = ()
    again: tuple[tuple[str, ...], ...] = ()
    tables: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def of_recipe(cls, recipe: Recipe) -> Self:
        """What a recipe asks."""
        return cls(
            name=recipe.name,
            seed=recipe.seed,
            target=recipe.regression.target,
            domains=recipe.training_domains,
            validated_only=tuple(name for name, domain in recipe.domains.items() if domain.validation_only),
            num_train_tokens=recipe.train.num_train_tokens,
            max_epochs=recipe.choice.max_epochs,
            license=recipe.hub.license if recipe.hub else None,
            private=recipe.hub is not None and recipe.hub.private,
            fitted_on=tuple(recipe.runs.repositories) if recipe.runs else (),
        )

    @classmethod
    def of_fit(cls, fit: TableFit, summary: Mapping[str, Any]) -> Self:
        """What a fit on tables with this `summary.json` was asked, and the choice from it.

        Raises:
            StudyError: The summary does not name domains and targets.
        """
        domains, targets = summary.get("domains"), summary.get("targets")
        if not isinstance(domains, list) or not isinstance(targets, list):
            raise damaged(fit.regression / names.FIT_SUMMARY, "does not name domains and targets")
        asked, choice = fit.asked, fit.choice or ChoiceRecord(fit="", fitted="")  # of which nothing is known
        return cls(
            name=fit.name,
            seed=asked.seed,
            target=summary["target_value"] if choice.target is None else choice.target,
            domains=tuple(map(str, domains)),
            validated_only=tuple(str(name) for name in targets if name not in domains),
            prior=_OF_MEAN if choice.prior is None else f"that of {Path(choice.prior).name}",
            available=choice.available,
            num_train_tokens=choice.num_train_tokens,
            max_epochs=choice.max_epochs,
            again=tuple(words for words in (asked.command, choice.command) if words),
            tables=tuple(Path(table).name for table in asked.tables),
            notes=asked.notes,
        )
