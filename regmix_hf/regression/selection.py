"""Which of several fitted estimators to choose mixtures with: the one that ranks unseen runs best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regmix_hf.readable import count_of
from regmix_hf.regression.assessment import BASELINE, HeldOut, number_mixtures
from regmix_hf.regression.metrics import Resamples, interval, measure
from regmix_hf.regression.target import Target
from regmix_hf.seeds import generator

#: Families that saturate, so that their optimum is no corner as a line's is.
LAWS = ("auto", "experts", "experts_and_law", "kriged_power_law", "power_law")
#: With fewer held-out runs than this a law is preferred to whatever is not clearly better.
_FEW_RUNS = 32


@dataclass(frozen=True)
class Selection:
    """The estimator to choose mixtures with, and why.

    Attributes:
        estimator: Its name.
        test: The held-out runs it was judged on.
        reason: Why, in a sentence or two.
    """

    estimator: str
    test: str
    reason: str


def select(
    judged: HeldOut, asked: Sequence[str], target: Target, random_state: int, *, use: str | None = None
) -> Selection:
    """Select the family with the highest Spearman correlation, then the lowest mean absolute error.

    Args:
        judged: Runs that none of the predictions was fitted on, and that are not reported as a test.
        asked: Estimators with predictions in `judged`; the baseline is taken only when there is no other.
        target: What the mixture will be judged on.
        random_state: Seed of the bootstrap that tells whether the best is better than the second.
        use: The one to take whatever ranks best, which is named all the same.
    """
    candidates = [name for name in asked if name != BASELINE] or asked
    found = _best_of(judged, candidates, target, random_state)
    return found if use is None else Selection(use, judged.test, f"{use} was asked for. {found.reason}")


def _best_of(judged: HeldOut, candidates: Sequence[str], target: Target, random_state: int) -> Selection:
    quality = {name: measure(*judged.pair(name, target)) for name in candidates}
    ranked = sorted(
        candidates, key=lambda name: (-np.nan_to_num(quality[name]["spearman"], nan=-2), quality[name]["mae"])
    )
    best = ranked[0]
    laws = [name for name in ranked if name in LAWS]
    num_runs = judged.num_judging(target)
    is_few = num_runs < _FEW_RUNS
    if is_few and laws and best not in LAWS and not _is_better(judged, best, laws[0], target, random_state):
        both = " and ".join(_percent(quality[name]["spearman"]) for name in (laws[0], best))
        reason = (
            f"{laws[0]} is preferred: {count_of(num_runs, 'run')} ({judged.test}) cannot tell it from {best}"
        )
        return Selection(laws[0], judged.test, f"{reason}, Spearman {both} on {target}.")
    where = f"{count_of(num_runs, 'run')} ({judged.test})"
    score = f"Spearman {_percent(quality[best]['spearman'])} on {target} over {where}"
    if len(ranked) == 1:
        return Selection(best, judged.test, f"{best} is the only estimator: {score}.")
    second = ranked[1]
    reason = f"{best} ranks unseen runs best: {score}; {second} {_percent(quality[second]['spearman'])}."
    if not _is_better(judged, best, second, target, random_state):
        reason += f" {num_runs} runs are too few to tell the two apart."
    return Selection(best, judged.test, reason)


def _is_better(judged: HeldOut, best: str, second: str, target: Target, random_state: int) -> bool:
    """Whether the 95 % interval of the difference of the two correlations lies above 0."""
    resamples = Resamples.draw(number_mixtures(judged.runs), generator(random_state, "bootstrap", "best two"))
    draws = [resamples.metrics(*judged.pair(name, target))["spearman"] for name in (best, second)]
    return interval(draws[0] - draws[1])[0] > 0


def _percent(correlation: float) -> str:
    return "undefined" if math.isnan(correlation) else f"{100 * correlation:.1f} %"
