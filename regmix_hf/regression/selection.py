"""Which of several fitted estimators to choose mixtures with: the one that ranks runs best."""

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
LAWS = ("auto", "experts", "experts_and_law", "kriged_power_law", "power_law", "scaled_law")
#: With fewer unseen runs than this a law is preferred to whatever is not clearly better.
FEW_RUNS = 32


@dataclass(frozen=True)
class Selection:
    """The estimator to choose mixtures with, and why.

    Attributes:
        estimator: Its name.
        test: The unseen runs it was judged on.
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
    best, why = _best_of(judged, candidates, target, random_state)
    if use is None:
        return Selection(best, judged.test, f"{best} is used: {why}.")
    unasked = "" if use == best else f"; unasked {best} would be"
    return Selection(use, judged.test, f"{use} is used, as was asked for{unasked}: {why}.")


def _best_of(
    judged: HeldOut, candidates: Sequence[str], target: Target, random_state: int
) -> tuple[str, str]:
    """The best family, and why."""
    quality = {name: measure(*judged.pair(name, target)) for name in candidates}
    ranked = sorted(
        candidates, key=lambda name: (-np.nan_to_num(quality[name]["spearman"], nan=-2), quality[name]["mae"])
    )
    best = ranked[0]
    laws = [name for name in ranked if name in LAWS]
    num_runs = judged.num_judging(target)
    is_few = num_runs < FEW_RUNS
    runs = f"{count_of(num_runs, 'run')} ({judged.test})"
    if is_few and laws and best not in LAWS and not _is_better(judged, best, laws[0], target, random_state):
        both = " and ".join(_percent(quality[name]["spearman"]) for name in (laws[0], best))
        preferred = f"a law is preferred to what so few runs cannot tell from it, here {best}"
        return laws[0], f"{preferred}, Spearman {both} on {target} over {runs}"
    score = f"Spearman {_percent(quality[best]['spearman'])} on {target} over {runs}"
    if len(ranked) == 1:
        return best, f"it is the only estimator, {score}"
    second = ranked[1]
    behind = f"{second} {_percent(quality[second]['spearman'])}"
    why = f"of all but the baseline it ranks runs best, {score}, {behind}"
    if not _is_better(judged, best, second, target, random_state):
        why += f"; {num_runs} runs are too few to tell the two apart"
    return best, why


def _is_better(judged: HeldOut, best: str, second: str, target: Target, random_state: int) -> bool:
    """Whether the 95 % interval of the difference of the two correlations lies above 0."""
    resamples = Resamples.draw(number_mixtures(judged.runs), generator(random_state, "bootstrap", "best two"))
    draws = [resamples.metrics(*judged.pair(name, target))["spearman"] for name in (best, second)]
    return interval(draws[0] - draws[1])[0] > 0


def _percent(correlation: float) -> str:
    return "undefined" if math.isnan(correlation) else f"{100 * correlation:.1f} %"
