"""Whether a regression knows enough to choose a mixture by: one verdict, computed once, shown everywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import TypeAdapter

from regmix_hf.files import damaged
from regmix_hf.readable import count_of
from regmix_hf.regression.assessment import (
    BASELINE,
    CROSS_VALIDATION,
    MANY_TO_RANK,
    HeldOut,
    number_mixtures,
)
from regmix_hf.regression.metrics import LEAST_MIXTURES, Correlation, interval, measure
from regmix_hf.regression.selection import FEW_RUNS
from regmix_hf.regression.target import Target

TELLS, WEAKLY, CANNOT = "tells mixtures apart", "weakly", "cannot: keep the prior"
#: Correlations from which on a regression tells mixtures apart: the lower end of its interval.
_CLEAR = 0.5
#: Losses that differ between mixtures by fewer noises between seeds than this are weak evidence, or none.
_WEAK_SIGNAL, _NO_SIGNAL = 2.0, 1.0


@dataclass(frozen=True)
class Verdict:
    """What a regression is worth for a choice.

    Attributes:
        word: `TELLS`, `WEAKLY` or `CANNOT`.
        reasons: What speaks for it, in sentences without a full stop.
        spearman: Rank correlation of the target with its prediction over unseen runs; NaN if there is none.
        low: Lower end of its bootstrap 95 % interval.
        high: Upper end.
        baseline: The same correlation of the trivial baseline.
    """

    word: str
    reasons: tuple[str, ...]
    spearman: Correlation
    low: Correlation
    high: Correlation
    baseline: Correlation

    @classmethod
    def of(
        cls,
        judged: HeldOut,
        estimator: str,
        target: Target,
        noise: Mapping[str, float],
        random_state: int,
    ) -> Self:
        """Judge the estimator that a mixture would be chosen with.

        Args:
            judged: Runs that it was not fitted on, with its predictions and the baseline's.
            estimator: Its name.
            target: What the mixture is judged on.
            noise: Standard deviation between seeds of one mixture, where it was measured; per loss.
            random_state: Seed of the bootstrap.
        """
        true, predicted = judged.pair(estimator, target)
        nouns = target.quantity.nouns
        known = (name if name in judged.predictions else None for name in (estimator, BASELINE))
        spearman, trivial = (
            measure(*judged.pair(name, target))["spearman"] if name else math.nan for name in known
        )
        draws = judged.resamples(random_state).metrics(true, predicted)["spearman"]
        low, high = interval(draws) if not math.isnan(spearman) else (math.nan, math.nan)
        num_runs = judged.num_judging(target)
        is_few = judged.test == CROSS_VALIDATION and num_runs < FEW_RUNS
        pessimistic = ", pessimistic for so few" if is_few else ""
        where = f"over {count_of(num_runs, 'run')} ({judged.test}{pessimistic})"
        if num_runs < MANY_TO_RANK:
            low, high = math.nan, math.nan
            mixtures = number_mixtures(judged.runs)[~np.isnan(true)]
            is_noisy = len(set(mixtures)) < LEAST_MIXTURES and not target.weights.keys() <= noise.keys()
            word, reasons = _by_few(nouns, where, spearman, is_noisy=is_noisy)
        else:
            word, reasons = _by_correlation(nouns, where, spearman, low, high)
        if estimator != BASELINE and not math.isnan(trivial):
            reasons.append(f"the trivial baseline has {100 * trivial:.0f} %")
            if word == TELLS and trivial > high:
                word = WEAKLY
        if (signal := _signal(true, target, noise)) is not None:
            reasons.append(f"{nouns} differ {signal:.1f} times as much between mixtures as between seeds")
            word = (
                CANNOT if signal < _NO_SIGNAL else WEAKLY if signal < _WEAK_SIGNAL and word == TELLS else word
            )
        if (learnt := _learnt(true, target, judged.runs.token_entropy)) is not None:
            reasons.append(learnt[1])
            if learnt[0] <= 0 and word == TELLS:
                word = WEAKLY
        return cls(word, tuple(reasons), spearman, low, high, trivial)

    @classmethod
    def untried(cls) -> Self:
        """What there is to say of experts before any mixture was trained: they are taken at their word."""
        reason = "no run on a mixture has tried what the experts say: they rank mixtures, and promise no loss"
        return cls(WEAKLY, (reason,), *[math.nan] * 4)

    @classmethod
    def from_plain(cls, found: Mapping[str, Any]) -> Self:
        """Read what `plain` gave."""
        return TypeAdapter(cls).validate_python(found)

    @classmethod
    def said_in(cls, record: Mapping[str, Any], file: Path) -> Self | None:
        """Read it from what a file holds; `None` where version 0.1 wrote it and nobody judged.

        Raises:
            StudyError: It cannot be read.
        """
        try:
            return None if record.get("verdict") is None else cls.from_plain(record["verdict"])
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(file, "holds a verdict that cannot be read") from error

    @property
    def plain(self) -> dict[str, Any]:
        """The verdict as JSON has it: what is not a number is null."""
        return dict(TypeAdapter(Verdict).dump_python(self, mode="json"))

    @property
    def says(self) -> str:
        """The verdict without its reasons."""
        return {
            TELLS: "the regression tells mixtures apart",
            WEAKLY: "the regression tells mixtures apart only weakly",
        }.get(self.word, "the regression cannot tell mixtures apart: keep the prior")

    def __str__(self) -> str:
        """The verdict as one sentence."""
        return f"{self.says} ({'; '.join(self.reasons)})."


def _by_correlation(
    nouns: str, where: str, spearman: float, low: float, high: float
) -> tuple[str, list[str]]:
    if math.isnan(low):
        return CANNOT, [f"predicted and true {nouns} have no rank correlation {where}"]
    word = TELLS if low >= _CLEAR else WEAKLY if low > 0 else CANNOT
    found = f"rank correlation {100 * spearman:.0f} % [{100 * low:.0f}, {100 * high:.0f}] {where}"
    return word, [found]


def _by_few(nouns: str, where: str, spearman: float, *, is_noisy: bool) -> tuple[str, list[str]]:
    """Judge by fewer runs than a correlation needs: the order of what was tried is right, or it is not.

    Args:
        nouns: What was measured.
        where: Over which runs.
        spearman: Their rank correlation.
        is_noisy: Whether noise alone may have put them into this order: of two mixtures it does so in half of
            all cases, of three in a sixth, and no mixture was run with two seeds.
    """
    if math.isnan(spearman):
        return WEAKLY, [f"{nouns} of one mixture alone were measured {where}"]
    found = f"rank correlation {100 * spearman:.0f} % {where}, too few for an interval"
    if is_noisy:
        return WEAKLY, [f"{found}: noise alone may put so few mixtures into any order"]
    return WEAKLY if spearman > 0 else CANNOT, [found]


def _learnt(true: np.ndarray, target: Target, entropy: Mapping[str, float]) -> tuple[float, str] | None:
    """How far the median run is below what is reached by knowing how often each token occurs, and in words.

    In nats per token; `None` where it was not counted, for the worst of several, or in standard deviations.
    """
    if not target.is_linear or target.scales or not target.weights.keys() <= entropy.keys():
        return None
    bound = sum(share * entropy[name] for name, share in target.weights.items())
    median = float(np.nanmedian(true))
    learnt = float(bound - median)
    if learnt > 0:
        return learnt, f"the median run is {learnt:.2f} nats below the entropy of single tokens"
    return learnt, (
        f"the median run, {median:.2f} nats, is not below the entropy of single tokens, {bound:.2f}: it has "
        "learnt no more than how often they occur"
    )


def _signal(true: np.ndarray, target: Target, noise: Mapping[str, float]) -> float | None:
    """Spread of the target between runs, in noises between seeds; `None` where these were not measured.

    A mean of targets is taken to have the mean of their noises: one seed moves all of a run together.
    """
    if not target.weights.keys() <= noise.keys():
        return None
    noises = np.array([noise[name] for name in target.weights])
    floor = float(target.shares @ (noises / target.spreads))
    return float(np.nanstd(true)) / floor if floor > 0 else None
