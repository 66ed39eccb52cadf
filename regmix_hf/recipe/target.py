"""What `regression.target` may say: one target, the mean or the worst of several, weights and directions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from regmix_hf.errors import RegressionError, did_you_mean
from regmix_hf.quantities import Direction, Quantity, bare

#: Ways to combine the usual targets into one number, besides naming them.
TARGET_WORDS = ("mean", "worst")
_STRICT = ConfigDict(extra="forbid")
Takes = Literal["mean", "worst"]


class Share(TypedDict, total=False):
    """How one target counts."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]
    weight: Annotated[float, Field(ge=0.0, allow_inf_nan=False, description="Its share, beside the others'.")]
    maximize: Annotated[bool, Field(description="Whether more of it is better, where its name does not say.")]


Shares = dict[str, float | Share]


class Combined(TypedDict, total=False):
    """The weighted mean or the worst of several targets."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]
    mean_of: Annotated[
        list[str | Combined] | Shares,
        Field(description="Names, patterns (`bpb/mmlu_*`) or further means; or names with weights."),
    ]
    worst_of: Annotated[
        list[str] | Shares,
        Field(description="In place of a mean: names or patterns, or names with directions."),
    ]
    scale: Annotated[
        Literal["spread"],
        Field(
            description="Count each in standard deviations over the runs, less being better: the widest does "
            "not rule, and what is better when higher may stand beside losses. Default: as they are."
        ),
    ]


#: What a recipe, a command line or a caller may say.
TargetValue = str | Sequence[Any] | Mapping[str, Any]


@dataclass(frozen=True)
class AskedTarget:
    """What a target's value asks for, before anybody knows which targets there are.

    Attributes:
        takes: The mean or the worst of the members.
        members: Name, pattern or further mean, and its weight; `None` stands for the usual targets.
        is_scaled: Whether each counts in standard deviations over the runs.
        directions: Which way is better, where the value says so.
    """

    takes: Takes
    members: tuple[tuple[str | AskedTarget, float], ...] | None
    is_scaled: bool = False
    directions: Mapping[str, Direction] = field(default_factory=dict)

    @classmethod
    def of(cls, value: TargetValue) -> Self:
        """Read a value.

        Raises:
            RegressionError: It is none, or names nothing, a target twice, or weights that are none.
        """
        if value == "mean" or value == "worst":
            return cls("mean" if value == "mean" else "worst", None)
        takes, inner, is_scaled = _opened(value)
        members = tuple(_members([inner] if isinstance(inner, str) else inner))
        names = [bare(member) for member, _ in members if isinstance(member, str)]
        for name in names:
            if names.count(name) > 1:
                raise RegressionError(
                    f"target: {name!r} is named more than once.", "write {name: weight} instead"
                )
        if math.fsum(weight for _, weight in members) <= 0:
            raise RegressionError(f"target: {value!r} names nothing; name a target, `mean` or `worst`.")
        return cls(takes, members, is_scaled, dict(_directions(inner)))

    @property
    def names(self) -> tuple[str, ...]:
        """Bare names and patterns of all members, also of means within."""
        return tuple(name for name, _ in self._all_members())

    def among(self, names: Sequence[str]) -> list[str]:
        """Those of these bare names that take part, as far as names say it.

        The words `mean` and `worst` speak of all that is no score of a task, or else of all.
        """
        if self.members is None:
            return [name for name in names if "/" not in name] or list(names)
        return [name for name in names if any(name == one or fnmatchcase(name, one) for one in self.names)]

    def check_one_direction(self, used: Iterable[Quantity]) -> None:
        """Refuse a mean, or the worst, of what is better when higher and of what is better when lower.

        Args:
            used: The targets that take part.

        Raises:
            RegressionError: It is one, and not counted in spreads.
        """
        first: dict[str, str] = {}
        weightless = {name for name, weight in self._all_members() if weight == 0}
        for one in used:
            if one.name not in weightless:
                first.setdefault(one.direction, one.name)
        if not self.is_scaled and len(first) > 1:
            raise RegressionError(
                f"target: less of {first['lower']!r} is better, and more of {first['higher']!r}: their "
                f"{self.takes} says nothing.",
                f"name one kind, or write {{{self.takes}_of: [...], scale: spread}}: each in standard "
                "deviations over the runs",
            )

    def _all_members(self) -> Iterator[tuple[str, float]]:
        for member, weight in self.members or ():
            if isinstance(member, AskedTarget):
                yield from member._all_members()
            else:
                yield bare(member), weight


def checked_target(value: Any) -> Any:
    """The value itself, once it has been read.

    Raises:
        ValueError: It is no target.
    """
    try:
        AskedTarget.of(value)
    except RegressionError as error:
        hint = f"; {error.hint}" if error.hint else ""
        raise ValueError(error.message.removeprefix("target: ").removesuffix(".") + hint) from None
    return value


def is_pattern(name: str) -> bool:
    """Whether a name stands for all that match it."""
    return any(sign in name for sign in "*?[")


def _opened(value: Any) -> tuple[Takes, Any, bool]:
    """What is taken of what, and whether it is scaled first."""
    if isinstance(value, str | list | tuple):
        return "mean", value, False
    if not isinstance(value, Mapping):
        raise RegressionError(f"target: {value!r} is no target.", "write a name, a list or {name: weight}")
    words = [
        key for key in value if key in ("mean_of", "worst_of") and not isinstance(value[key], int | float)
    ]
    if not words:
        return "mean", value, False
    inner, takes = value[words[0]], "mean" if words[0] == "mean_of" else "worst"
    unknown = [key for key in value if key not in (words[0], "scale")]
    if unknown or value.get("scale", "spread") != "spread" or not isinstance(inner, list | tuple | Mapping):
        raise RegressionError(
            f"target: {dict(value)!r} is no target.",
            f"write {{{words[0]}: [...]}} or {{{words[0]}: [...], scale: spread}}",
        )
    return ("mean" if takes == "mean" else "worst"), inner, "scale" in value


def _members(value: Sequence[Any] | Mapping[str, Any]) -> Iterator[tuple[str | AskedTarget, float]]:
    if isinstance(value, Mapping):
        for name, share in value.items():
            yield name, _weight(name, share)
        return
    for member in value:
        if isinstance(member, str):
            yield member, 1.0
        elif isinstance(member, Mapping) and set(member) == {"mean_of"}:
            yield AskedTarget.of(member), 1.0
        else:
            raise RegressionError(f"target: {member!r} is no target.", "write a name, or {mean_of: [...]}")


def _weight(name: str, share: Any) -> float:
    if isinstance(share, Mapping):
        for key in share:
            if key not in Share.__annotations__:
                known = did_you_mean(str(key), Share.__annotations__)
                raise RegressionError(f"target: {name!r} has no key {key!r}; {known}")
        if not isinstance(share.get("maximize", False), bool):
            raise RegressionError(
                f"target: maximize of {name!r} is {share['maximize']!r}; write true or false."
            )
        share = share.get("weight", 1.0)
    if not isinstance(share, int | float) or not math.isfinite(share) or share < 0:
        raise RegressionError(f"target: the weight of {name!r} is {share!r}; write a number above 0.")
    return float(share)


def _directions(value: Any) -> Iterator[tuple[str, Direction]]:
    if isinstance(value, Mapping):
        for name, share in value.items():
            if isinstance(share, Mapping) and "maximize" in share:
                yield bare(name), "higher" if share["maximize"] else "lower"
    elif not isinstance(value, str):
        for member in value:
            if isinstance(member, Mapping):
                yield from _directions(member.get("mean_of"))
