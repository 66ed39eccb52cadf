"""What groups of domains have of a chosen mixture, beside their bounds: as it is recorded and shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from regmix_hf.files import damaged
from regmix_hf.recipe import Group

#: Chosen weights are rounded to a millionth, so a sum at its bound may lie this far from it.
_ROUNDING = 1.5e-6


@dataclass(frozen=True)
class GroupShare:
    """The sum of the weights of domains that are bounded together.

    Attributes:
        name: Of the group.
        domains: Which they are.
        prior: Their share of the available tokens.
        chosen: Their share of the training tokens in the chosen mixture.
        min: The least that they were to have.
        max: The most.
    """

    name: str
    domains: tuple[str, ...]
    prior: float
    chosen: float
    min: float
    max: float

    @classmethod
    def of(
        cls, groups: Mapping[str, Group], prior: Mapping[str, float], chosen: Mapping[str, float]
    ) -> tuple[Self, ...]:
        """Sum up what each group has of two mixtures."""
        return tuple(
            cls(
                name,
                tuple(group.domains),
                prior=sum(prior[one] for one in group.domains),
                chosen=sum(chosen[one] for one in group.domains),
                min=group.min,
                max=group.max,
            )
            for name, group in groups.items()
        )

    @classmethod
    def said_in(cls, record: Mapping[str, Any], file: Path) -> tuple[GroupShare, ...]:
        """Read what a `mixture.yaml` says; one without groups says nothing.

        Raises:
            StudyError: It cannot be read.
        """
        try:
            return TypeAdapter(tuple[GroupShare, ...]).validate_python(record.get("groups") or ())
        except ValidationError as error:
            raise damaged(file, "holds groups that cannot be read") from error

    @property
    def plain(self) -> dict[str, Any]:
        """As JSON and YAML have it."""
        return {**asdict(self), "domains": list(self.domains)}

    @property
    def held_at(self) -> str | None:
        """`min` or `max` where the chosen mixture lies at that bound; else `None`."""
        if self.chosen >= self.max - _ROUNDING:
            return "max"
        return "min" if self.min > 0 and self.chosen <= self.min + _ROUNDING else None
