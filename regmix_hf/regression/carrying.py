"""Which targets carry: how far mixtures lie apart on each, in noises."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from pydantic import TypeAdapter

from regmix_hf.errors import RegressionError
from regmix_hf.progress import Progress, Silent
from regmix_hf.recipe.target import AskedTarget, TargetValue
from regmix_hf.regression.assessment import seed_noise
from regmix_hf.regression.by_size import judged_runs
from regmix_hf.runs.runs import Runs

#: Below this, runs of different mixtures lie no farther apart than noise alone would put them.
WITHIN_NOISE = 1.0


@dataclass(frozen=True)
class Carry:
    """One target over the runs, in its unit.

    Attributes:
        target: Its name.
        unit: Of what follows; `None` where nobody says.
        spread: Standard deviation over the runs.
        noise: Of one run: the standard deviation between seeds of one mixture, or else the root mean square
            of the standard errors over documents, which models that read the same ones share in part; `None`
            where neither was measured.
        noise_from: Which of the two.
        spearman: Rank correlation of the selected estimator's predictions of unseen runs; `None` where nobody
            said, or there is none.
    """

    target: str
    unit: str | None
    spread: float
    noise: float | None
    noise_from: Literal["seeds", "standard errors"] | None
    spearman: float | None = None

    @property
    def signal(self) -> float | None:
        """Spread in noises; `None` where the noise is not known."""
        return self.spread / self.noise if self.noise else None

    @property
    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**self.__dict__, "signal": self.signal}

    @classmethod
    def from_plain(cls, found: Mapping[str, Any]) -> Self:
        """Read what `plain` gave, also of versions that said less.

        Raises:
            ValueError: It is none.
        """
        return TypeAdapter(cls).validate_python({"unit": None, "noise": None, "noise_from": None, **found})


def carries(runs: Runs) -> list[Carry]:
    """Say of every target how far the runs, of one size and length, lie apart, and how much is noise."""
    return list(_carries(runs)) if len(runs) else []


def _carries(runs: Runs) -> Iterator[Carry]:
    between_seeds = seed_noise(runs)
    for name, quantity in runs.quantities.items():
        spread = float(runs.losses[name].std(ddof=0))
        errors = runs.errors[name].dropna() if runs.errors is not None and name in runs.errors else ()
        if name in between_seeds:
            yield Carry(name, quantity.unit, spread, between_seeds[name], "seeds")
        elif len(errors):
            noise = float(np.sqrt(np.mean(np.square(errors))))
            yield Carry(name, quantity.unit, spread, noise, "standard errors")
        else:
            yield Carry(name, quantity.unit, spread, None, None)


def carrying(
    runs: Runs,
    min_signal: float | None,
    progress: Progress,
    *,
    estimators: Collection[str] = (),
    target: TargetValue = "mean",
) -> Runs:
    """Name the targets whose spread over mixtures is within their noise; leave out those below `min_signal`.

    Args:
        runs: The runs.
        min_signal: Least spread in noises; `None`: all stay. A target whose noise is not known stays.
        progress: Told what is left out, and what should be.
        estimators: Families to fit: they say which runs are judged, where there are several sizes.
        target: What is to be made good.

    Raises:
        RegressionError: None would be left, or nothing of a name that the target has.
    """
    judged, _ = judged_runs(runs, estimators, Silent())
    signals = {one.target: one.signal for one in carries(judged) if one.signal is not None}
    least = WITHIN_NOISE if min_signal is None else min_signal
    below = {name: signal for name, signal in signals.items() if signal < least}
    if not below:
        return runs
    named = ", ".join(f"{name} ({signal:.1f})" for name, signal in below.items())
    if min_signal is None:
        progress.note(
            f"mixtures differ by no more than noise on {named}; regression.min_signal leaves out such"
        )
        return runs
    left = [name for name in runs.targets if name not in below]
    if not left:
        raise RegressionError(
            f"no target carries: mixtures differ by less than {min_signal:g} noises on {named}.",
            "lower regression.min_signal, train longer proxies, or measure other targets",
        )
    for name in AskedTarget.of(target).names:
        meant = fnmatch.filter(runs.targets, name) or [name]
        if set(meant) <= below.keys():
            noises = ", ".join(f"{below[one]:.1f} on {one}" for one in meant)
            raise RegressionError(
                f"regression.min_signal {min_signal:g} leaves out the target {name!r} itself: mixtures "
                f"differ by fewer noises ({noises}).",
                "lower it, train longer proxies, or make another target good",
            )
    progress.note(f"left out, for mixtures differ by less than {min_signal:g} noises on them: {named}")
    return runs.of_targets(left, dropped=below)
