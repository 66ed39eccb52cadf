"""The names of a study's repositories on the Hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from regmix_hf.errors import HubError
from regmix_hf.hub.repository import Kind, Repository
from regmix_hf.recipe import Recipe
from regmix_hf.recipe.schema import PARTS


@dataclass(frozen=True)
class Address:
    """Where the repositories of a study are.

    Attributes:
        namespace: User or organisation.
        name: Of the study.
    """

    namespace: str
    name: str

    @classmethod
    def of(cls, recipe: Recipe) -> Self:
        """Read it from a recipe.

        Raises:
            HubError: The recipe says nothing of the Hub.
        """
        if recipe.hub is None:
            raise HubError(
                "the recipe does not say where to publish.", "write hub.namespace=NAME, or give --namespace"
            )
        return cls(recipe.hub.namespace, recipe.name)

    @property
    def runs(self) -> Repository:
        """The swarm: mixtures, results and trajectories."""
        return self._repository("dataset", "runs")

    @property
    def corpus(self) -> Repository:
        """Prepared text and mixtures, for workers that share no folder."""
        return self._repository("dataset", "corpus")

    @property
    def regressor(self) -> Repository:
        """The fitted regressors."""
        return self._repository("model", "regressor")

    @property
    def mixture(self) -> Repository:
        """The chosen mixture and how the final models trained on it did."""
        return self._repository("dataset", "mixture")

    def model(self, mixture: str) -> Repository:
        """The final model that was trained on the mixture of this name.

        Raises:
            HubError: The name is that of another repository of the study, or none the Hub takes.
        """
        if mixture in PARTS:
            raise HubError(
                f"the model trained on the mixture {mixture!r} would be called "
                f"{self.namespace}/{self.name}-{mixture}, as another repository of the study is.",
                "give the mixture another name in `baselines` and `train.mixtures`",
            )
        return self._repository("model", mixture)

    def _repository(self, kind: Kind, suffix: str) -> Repository:
        return Repository(kind, f"{self.namespace}/{self.name}-{suffix}")
