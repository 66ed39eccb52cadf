"""Rounds in which a choice was tried: what it promised of a few mixtures, and what proxies measured there.

They stand in `mixture.yaml` under `rounds`; the mixtures are rows of the table with the origin `confirm`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from regmix_hf.files import damaged
from regmix_hf.quantities import NATS

#: What a choice is tried at: the mixture that it chose, the prior, and one near the chosen mixture.
Kind = Literal["chosen", "prior", "near"]
Finite = Annotated[float, Field(allow_inf_nan=False)]


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


#: An end of an interval; `None`, as which NaN is read, where nothing is known of it.
Bound = Annotated[Finite | None, BeforeValidator(_known)]


class Facts(BaseModel):
    """What a file says; keys of earlier versions, and of later ones, are passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Trial(Facts):
    """One mixture that was tried; values of the target, of proxies.

    Attributes:
        mixture_id: Of its row in the table of mixtures.
        kind: What it was trained on.
        promised: Predicted before it was trained, with the bounds `lower` and `upper`; `None` where experts
            alone said it, which know no scale.
        measured: By each of its runs that ended well.
    """

    mixture_id: str
    kind: Kind
    promised: Finite
    lower: Bound
    upper: Bound
    measured: tuple[Finite, ...] = ()


@dataclass(frozen=True)
class Tried:
    """One mixture, over the seeds it was tried with; values of the target.

    Attributes:
        kind: Which mixture.
        promised: Predicted, with the bounds `lower` and `upper` of a new run, where they are known.
        measured: Mean over seeds.
        deviation: Standard deviation over seeds; `None` for a single one.
        num_seeds: How many.
        unit: Of the target; `None` where nobody says.
    """

    kind: Kind
    promised: float
    lower: float | None
    upper: float | None
    measured: float
    deviation: float | None
    num_seeds: int
    unit: str | None = NATS

    @property
    def difference(self) -> float | None:
        """Promised minus measured; `None` where experts alone said it, who promise no loss."""
        return None if self.lower is None else self.promised - self.measured

    @property
    def holds(self) -> bool:
        """Whether what was measured lies within the interval of what was promised; not without one."""
        return self.lower is not None and self.upper is not None and self.lower <= self.measured <= self.upper

    def __str__(self) -> str:
        """Both in words, with the noise."""
        noise = f" ± {self.deviation:.4f} over {self.num_seeds} seeds" if self.deviation is not None else ""
        if self.lower is None or self.upper is None or self.difference is None:
            unit = f" {self.unit}" if self.unit else ""
            return f"measured {self.measured:.4f}{noise}{unit}; experts alone had said nothing of the scale"
        where = "within" if self.holds else "outside"
        return (
            f"promised {self.promised:.4f} [{self.lower:.4f}, {self.upper:.4f}] and measured "
            f"{self.measured:.4f}{noise}, promised minus measured {self.difference:+.4f}"
            f"{f' {self.unit}' if self.unit else ''}, {where} the interval"
        )


class Round(Facts):
    """One round.

    Attributes:
        number: In the table of mixtures.
        target: What was to be made good, in words.
        unit: Its unit; `None` where nobody says.
        estimator: The family that promised.
        weights: The mixture that was chosen: share of the tokens of each domain.
        trials: What was trained.
        proxies: Hash of how proxies are trained and on what; `None`: not noted.
        speaks_of: What was trained, in words, where that is not what the mixture was chosen for.
        scales: Of targets in standard deviations over the runs: mean and standard deviation of each, by which
            was promised.
    """

    number: int
    target: str
    unit: str | None = NATS
    estimator: str
    weights: dict[str, Finite]
    trials: tuple[Trial, ...]
    proxies: str | None = None
    speaks_of: str | None = None
    scales: dict[str, tuple[Finite, Finite]] = Field(default_factory=dict)

    def is_of(self, target: str, proxies: str | None) -> bool:
        """Whether it asked for this target, of proxies that are trained like that."""
        return self.target == target and (self.proxies == proxies or None in (proxies, self.proxies))

    def differs_by(self, weights: Mapping[str, float]) -> float:
        """Share of the tokens by which a mixture differs from the one that was chosen then."""
        names = self.weights.keys() | weights.keys()
        return sum(abs(self.weights.get(name, 0.0) - weights.get(name, 0.0)) for name in names) / 2

    def measured_as(self, losses: Mapping[str, tuple[float, ...]]) -> Round:
        """Return the round with what was measured; `losses` by `mixture_id`, of runs that ended well."""
        trials = (
            trial.model_copy(update={"measured": losses.get(trial.mixture_id, ())}) for trial in self.trials
        )
        return self.model_copy(update={"trials": tuple(trials)})

    @property
    def tried(self) -> list[Tried]:
        """What was promised beside what was measured, the chosen mixture first; what was not is left out."""
        found = []
        for kind in dict.fromkeys(trial.kind for trial in self.trials):
            alike = [trial for trial in self.trials if trial.kind == kind]
            losses = [loss for trial in alike for loss in trial.measured]
            if losses:
                spread = statistics.stdev(losses) if len(losses) > 1 else None
                mean = statistics.fmean(losses)
                first = alike[0]
                promise = (first.promised, first.lower, first.upper)
                found.append(Tried(kind, *promise, mean, spread, len(losses), self.unit))
        return found

    @property
    def chosen(self) -> Tried | None:
        """The chosen mixture, where it was measured."""
        return next((one for one in self.tried if one.kind == "chosen"), None)


def rounds_in(record: Mapping[str, Any], file: Path) -> list[Round]:
    """Read the rounds from what `mixture.yaml` holds; version 0.1 wrote none.

    Raises:
        StudyError: They cannot be read.
    """
    try:
        return TypeAdapter(list[Round]).validate_python(record.get("rounds") or [])
    except ValidationError as error:
        raise damaged(file, "holds rounds that cannot be read") from error


def of_target(rounds: Sequence[Round], target: str) -> list[Round]:
    """Those that asked for this target: the values of others are of another quantity."""
    return [one for one in rounds if one.target == target]


def counted(rounds: Sequence[Round], target: str) -> list[Round]:
    """Those of this target, numbered from 1 as `choice.num_rounds` counts them.

    In the table of mixtures their numbers come after those of the swarm, of experts and of other targets.
    """
    return [one.model_copy(update={"number": n}) for n, one in enumerate(of_target(rounds, target), start=1)]


def last_measured(rounds: Sequence[Round], target: str) -> Round | None:
    """The last round whose chosen mixture was measured, of those that asked for this target."""
    return next((one for one in reversed(of_target(rounds, target)) if one.chosen is not None), None)
