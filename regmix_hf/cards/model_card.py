"""The card of a final model: its mixture, its data, its losses, its scores, and how it was trained."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
from huggingface_hub import EvalResult, ModelCardData

from regmix_hf.cards.facts import StudyFacts
from regmix_hf.cards.hub_card import TAGS, Card, source_id, source_words
from regmix_hf.cards.rendering import recipe_yaml
from regmix_hf.recipe import Recipe


@dataclass(frozen=True, eq=False)
class ModelCard(Card):
    """What the card of a final model says.

    Attributes:
        facts: All that is known of it.
        mixture: Name of the mixture it was trained on.
        run: Its row of the table of final results.
        num_parameters: All of them; `None` where nobody counted.
        picture: File name of the loss curves, if they are there.
        sources: Datasets on the Hub that texts come from.
    """

    facts: StudyFacts
    mixture: str
    run: dict[str, Any]
    num_parameters: int | None
    picture: str | None
    sources: Collection[str]

    @property
    def _recipe(self) -> Recipe:
        """Final models are those of a recipe."""
        assert self.facts.recipe is not None
        return self.facts.recipe

    @property
    def weights(self) -> dict[str, float]:
        """Share of training tokens of every domain, the largest first."""
        pairs = [
            (name.removeprefix("weight/"), float(value))
            for name, value in self.run.items()
            if name.startswith("weight/")
        ]
        return dict(sorted(pairs, key=lambda pair: -pair[1]))

    @property
    def metadata(self) -> ModelCardData:
        """The block at the top of the card, with losses and lm-eval results in the model index."""
        recipe = self._recipe
        trained_on = [name for name, weight in self.weights.items() if weight > 0]
        sources = [source_id(recipe.domains[name], self.sources) for name in trained_on]
        mixture = [self.address.mixture.id] if self.facts.choice is not None else []
        return ModelCardData(
            license=self.facts.asked.license,
            library_name="transformers",
            pipeline_tag="text-generation",
            tags=TAGS,
            datasets=[*dict.fromkeys(source for source in sources if source), *mixture] or None,
            model_name=self.address.model(self.mixture).id.split("/")[1],
            eval_results=list(self._eval_results()),
        )

    def render(self, version: str) -> str:
        """Write the card as it is in the version that is called so."""
        recipe = self._recipe
        return self.written(
            "model_card.md.jinja",
            version,
            recipe=recipe,
            repository=self.address.model(self.mixture),
            rows=list(self._rows()),
            others=[name for name in self.facts.final_mixtures if name != self.mixture],
            scores=self._scores().to_dict("records"),
            training_args=recipe.train.training_args,
            recipe_yaml=recipe_yaml(recipe),
        )

    def _rows(self) -> Iterator[dict[str, Any]]:
        weights = self.weights
        for name in [*weights, *(n for n in self._recipe.domains if n not in weights)]:
            yield {
                "domain": name,
                "weight": weights.get(name),
                "epochs": self.run.get(f"epochs/{name}"),
                "source": source_words(self._recipe.domains[name], self.sources),
                "loss": self.run.get(f"loss/{name}"),
                "bpb": self.run.get(f"bpb/{name}"),
            }

    def _scores(self) -> pd.DataFrame:
        """Rows of the table of scores that are of this model and say what its run does not.

        Without validation, which is the run's own losses again, and perplexities, which are other rows again.
        """
        scores = self.facts.scores
        if scores is None:
            return pd.DataFrame()
        own = scores[scores["run_id"].eq(self.run["run_id"]) & scores["mixture_id"].eq(self.mixture)]
        said = own["task"].eq("validation") | own["metric"].str.contains("perplexity")
        return own[own["value"].notna() & ~said]

    def _eval_results(self) -> Iterator[EvalResult]:
        for name, domain in self._recipe.domains.items():
            loss, source = self.run.get(f"loss/{name}"), source_id(domain, self.sources)
            if loss is not None and math.isfinite(loss):
                # The Hub puts results on one dataset together: what tells them apart is the metric's name.
                yield EvalResult(
                    task_type="text-generation",
                    dataset_type=source or name,
                    dataset_name=source or name,
                    dataset_config=domain.name if source else None,
                    dataset_revision=domain.revision if source else None,
                    metric_type="loss",
                    metric_name=f"Loss on held-out text of {name} (nats per token)",
                    metric_value=round(float(loss), 6),
                )
        for row in self._scores().to_dict("records"):
            part = row["domain"] if isinstance(row["domain"], str) else None
            yield EvalResult(
                task_type="text-generation",
                dataset_type=row["task"],
                dataset_name=f"{row['task']} ({part})" if part else row["task"],
                dataset_config=part,
                metric_type=row["metric"],
                metric_name=f"{row['metric']} (lm-eval, {row['num_fewshot']}-shot)",
                metric_value=round(float(row["value"]), 6),
            )
