"""The card of the regressors: how well each predicts runs it never saw, and what they were fitted on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from huggingface_hub import EvalResult, ModelCardData

from regmix_hf.cards.facts import RegressionFacts, StudyFacts
from regmix_hf.cards.hub_card import TAGS, Card
from regmix_hf.cards.pictures import error_unit, target_words
from regmix_hf.quantities import Quantity

#: Metric -> its id among the Hub's metrics, where it has one, and its name on the page.
_METRICS = {
    "spearman": ("spearmanr", "Spearman correlation"),
    "pearson": ("pearsonr", "Pearson correlation"),
    "mse": ("mse", "Mean squared error"),
    "mae": ("mae", "Mean absolute error"),
    "regret": ("regret", "Regret"),
}


@dataclass(frozen=True, eq=False)
class RegressorCard(Card):
    """What the card of a repository of regressors says.

    Attributes:
        facts: All that is known of it.
        regression: The part about regressors.
        estimators: Families in the repository.
        pictures: File name of each picture that is there.
    """

    facts: StudyFacts
    regression: RegressionFacts
    estimators: tuple[str, ...]
    pictures: dict[str, str]

    @property
    def target(self) -> Quantity:
        """What a mixture is judged on."""
        return self.facts.target.quantity

    @property
    def others_measured(self) -> list[tuple[Quantity, list[str]]]:
        """What is predicted beside losses, by unit and direction."""
        kinds: dict[tuple[str, str], list[Quantity]] = {}
        for one in self.facts.target.quantities:
            if one.noun != "loss":
                kinds.setdefault((one.unit or "", one.direction), []).append(one)
        return [(found[0], [one.name for one in found]) for found in kinds.values()]

    @property
    def selected(self) -> str:
        """The family that chooses the mixture."""
        return str(self.regression.summary["estimator"])

    @property
    def fitted_on(self) -> list[str]:
        """Repositories of the runs, with their revision where it is another study's."""
        own = [self.address.runs.id] if self.facts.swarm is not None else []
        return own + list(self.facts.asked.fitted_on)

    @property
    def metadata(self) -> ModelCardData:
        """The block at the top of the card, with the selected regressor's quality on unseen runs."""
        results = list(self._eval_results())
        return ModelCardData(
            license=self.facts.asked.license,
            library_name="regmix_hf",
            pipeline_tag="tabular-regression",
            tags=TAGS,
            datasets=list(dict.fromkeys(name.partition("@")[0] for name in self.fitted_on)),
            metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
            model_name=f"{self.facts.asked.name} ({self.selected})",
            eval_results=results,
        )

    def render(self, version: str) -> str:
        """Write the card as it is in the version that is called so."""
        summary = self.regression.summary
        return self.written(
            "regressor_card.md.jinja",
            version,
            asked=self.facts.asked,
            summary=summary,
            verdict=self.regression.verdict,
            speaks_of=self.regression.speaks_of,
            fitted_on=self.regression.fitted_on(self.selected),
            best_predicted=self.regression.promises,
            quality=self.regression.quality.to_dict("records"),
            target_words=target_words(self.facts),
            target=self.target,
            error_unit=error_unit(self.target),
            others_measured=self.others_measured,
            others=[name for name in self.estimators if name != self.selected],
        )

    def _eval_results(self) -> Iterator[EvalResult]:
        for row in self.regression.quality.to_dict("records"):
            if row["estimator"] != self.selected:
                continue
            for column, (metric, name) in _METRICS.items():
                if not math.isnan(row[column]):
                    # The Hub puts results on one dataset together: what tells them apart is the name.
                    yield EvalResult(
                        task_type="tabular-regression",
                        task_name=f"Predict the {target_words(self.facts)}",
                        dataset_type=self.fitted_on[0].partition("@")[0],
                        dataset_name=f"Runs of {self.facts.asked.name}",
                        dataset_config="results",
                        metric_type=metric,
                        metric_name=f"{name}{self._unit(column)}, {row['test']}, {row['num_runs']} runs",
                        metric_value=round(float(row[column]), 6),
                    )

    def _unit(self, metric: str) -> str:
        if self.target.unit is None or metric in ("spearman", "pearson"):
            return ""
        return f" ({'square ' if metric == 'mse' else ''}{self.target.unit})"
