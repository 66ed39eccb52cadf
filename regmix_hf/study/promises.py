"""What was predicted for the final mixtures beside what their models did: `7-evaluation/promises.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import ValidationError

from regmix_hf.errors import StudyError
from regmix_hf.quantities import NATS, Direction, Quantity
from regmix_hf.study.rounds import Bound, Facts, Finite


class Size(Facts):
    """How large models are and how long they train."""

    #: Parameters without embeddings, e.g. `1M`, or all, `1,234,567`, where the law counts them so; `None`
    #: where nobody said.
    scale: str | None
    num_train_tokens: int

    def __str__(self) -> str:
        tokens = f"{self.num_train_tokens:,} tokens"
        return f"{self.scale} parameters, {tokens}" if self.scale else tokens


class Promise(Facts):
    """One mixture; values of the target, in its unit.

    Attributes:
        mixture: Its name.
        predicted: For a proxy, with the bounds `lower` and `upper`, where they are known.
        measured: Mean over the seeds of the final models.
        deviation: Standard deviation over seeds; `None` for a single one.
        num_seeds: How many.
        promised_gain: By how much the chosen mixture's prediction is better than this one's; `None` where no
            mixture of that name was trained.
        measured_gain: The same of what was measured.
    """

    mixture: str
    predicted: Finite
    lower: Bound
    upper: Bound
    measured: Finite
    deviation: Finite | None
    num_seeds: int
    promised_gain: Finite | None
    measured_gain: Finite | None

    @property
    def difference(self) -> float:
        """Promised minus measured."""
        return self.predicted - self.measured

    @property
    def holds(self) -> bool:
        """Whether what was measured lies within the interval of what was promised."""
        return self.lower is not None and self.upper is not None and self.lower <= self.measured <= self.upper


class Promises(Facts):
    """The final mixtures of a study, in the recipe's order.

    Attributes:
        target: What was made good, in words.
        unit: Its unit; `None` where nobody says.
        direction: Which is better: `lower` or `higher`.
        estimator: The family that predicted it.
        coverage: Share of cases the intervals are made for.
        predicted_for: The proxies' size, which predictions speak of.
        measured_on: The final models' size.
        mixtures: One entry per final mixture whose models ended well.
        scores: Metric -> value over the mixtures; `None` where it does not exist (one mixture has no ranks).
    """

    target: str
    unit: str | None = NATS
    direction: Direction = "lower"
    estimator: str
    coverage: Finite
    predicted_for: Size
    measured_on: Size
    mixtures: tuple[Promise, ...]
    scores: dict[str, Finite | None]

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read what `regmix evaluate` wrote.

        Raises:
            StudyError: It is damaged.
        """
        try:
            return cls.model_validate_json(file.read_bytes())
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise StudyError(
                f"{file} cannot be read: {': '.join(filter(None, (place, first['msg'])))}.",
                "remove it and run `regmix evaluate` again",
            ) from error

    @property
    def quantity(self) -> Quantity:
        """The target with its unit and direction."""
        return Quantity(self.target, self.unit, self.direction)

    @property
    def same_size(self) -> bool:
        """Whether predictions speak of models like those that were measured."""
        return self.predicted_for == self.measured_on

    @property
    def sentences(self) -> list[str]:
        """How to read the table, and how the predictions did, as a person says it."""
        noun = self.quantity.noun
        if self.same_size:
            sizes = (
                f"Promised and measured is the {noun} of models of one size ({self.measured_on}), so a "
                "difference is the prediction's error and the noise between seeds."
            )
        else:
            sizes = (
                f"Predictions speak of proxies ({self.predicted_for}), measurements of final models "
                f"({self.measured_on}). A difference holds what the other size does to every {noun}, so "
                "it is no error of the law by itself; how mixtures rank, and by how much one is ahead, "
                "compares."
            )
        return [sizes, *filter(None, (self._agreement, self._regret))]

    @property
    def _agreement(self) -> str | None:
        rank = self.scores.get("spearman")
        if rank is None:
            return None
        # Several names may stand for one mixture.
        different = {(one.predicted, one.measured) for one in self.mixtures}
        return (
            f"Prediction and measurement rank the {len(different)} final mixtures with a Spearman "
            f"correlation of {100 * rank:.0f} %."
        )

    @property
    def _regret(self) -> str | None:
        regret = self.scores.get("chosen_regret")
        if regret is None:
            return None
        target = self.quantity
        if regret == 0:
            return f"No other final mixture measured {target.direction} than `chosen`."
        best = min(self.mixtures, key=lambda one: target.sign * one.measured)
        size = f"{regret:.4f} {target.unit or ''}".strip()
        return f"The regret of `chosen` is {size}: `{best.mixture}` measured {target.direction}."
