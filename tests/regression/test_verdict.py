"""The verdict by hand: losses and predictions are written down, and nothing is fitted."""

import numpy as np
import pandas as pd
import pytest

from regmix_hf.regression.assessment import BASELINE, CROSS_VALIDATION, HOLDOUT, HeldOut
from regmix_hf.regression.target import Target
from regmix_hf.regression.verdict import CANNOT, TELLS, WEAKLY, Verdict
from regmix_hf.runs.runs import Runs

RANKS = np.arange(20.0)


def verdict(predicted, *, baseline=-RANKS, noise=None, entropy=None, test="holdout"):
    """Judge predictions of as many losses: 3, 3.1, 3.2 nats and on, one of each."""
    losses = pd.DataFrame({"code": 3 + np.arange(len(predicted)) / 10})
    share = np.linspace(0.1, 0.9, len(losses))
    runs = Runs(
        pd.DataFrame({"a": share, "b": 1 - share}),
        losses,
        pd.Series("holdout", index=losses.index),
        token_entropy=entropy or {},
    )
    said = {"ridge": predicted, BASELINE: baseline}
    known = {name: pd.DataFrame({"code": told}) for name, told in said.items() if told is not None}
    return Verdict.of(
        HeldOut(test, runs, known), "ridge", Target.parse("code", runs.quantities), noise or {}, 0
    )


def swapped(ranks):
    """Ranks in which neighbours have changed places, two apart."""
    return ranks.reshape(-1, 4)[:, [2, 3, 0, 1]].ravel()


def test_predictions_in_the_right_order_tell_mixtures_apart():
    assert verdict(RANKS).word == TELLS
    assert verdict(swapped(RANKS)).word == TELLS
    assert verdict(-RANKS).word == CANNOT
    assert verdict(np.ones(20)).word == CANNOT


@pytest.mark.parametrize(
    ("count", "test", "is_said"),
    [(31, CROSS_VALIDATION, True), (32, CROSS_VALIDATION, False), (20, HOLDOUT, False)],
)
def test_folds_of_few_runs_are_said_to_be_pessimistic(count, test, is_said):
    found = verdict(np.arange(count), baseline=None, test=test)
    assert found.reasons[0].endswith(
        f"over {count} runs ({test}{', pessimistic for so few' if is_said else ''})"
    )


def test_what_the_trivial_baseline_does_clearly_better_is_weak():
    found = verdict(swapped(RANKS), baseline=RANKS)
    assert found.baseline == pytest.approx(1)
    assert found.high < 1
    assert (found.word, found.reasons[1]) == (WEAKLY, "the trivial baseline has 100 %")
    assert verdict(RANKS, baseline=swapped(RANKS)).word == TELLS


@pytest.mark.parametrize(("noise", "word"), [(0.1, TELLS), (0.4, WEAKLY), (0.7, CANNOT)])
def test_losses_that_differ_as_much_between_seeds_are_weak_evidence_or_none(noise, word):
    """Their standard deviation is 0.577 nats: 5.8, 1.4 and 0.8 noises."""
    assert verdict(RANKS, noise={"code": noise}).word == word


@pytest.mark.parametrize(("entropy", "word"), [(3.96, TELLS), (3.94, WEAKLY)])
def test_runs_that_have_learnt_no_more_than_how_often_tokens_occur_are_weak_evidence(entropy, word):
    """The median run has 3.95 nats."""
    assert verdict(RANKS, entropy={"code": entropy}).word == word


def test_few_runs_are_weak_evidence_at_best():
    nine = slice(0, 9)
    assert verdict(RANKS[nine], baseline=None).word == WEAKLY
    assert "too few for an interval" in verdict(RANKS[nine], baseline=None).reasons[0]
    assert verdict(-RANKS[nine], baseline=None).word == CANNOT
