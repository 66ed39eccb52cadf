"""Final runs that would read a domain too often are refused with the numbers that say so."""

import pytest

from regmix_hf.errors import MixtureError
from regmix_hf.mixtures import EpochCap
from regmix_hf.mixtures.repetition import check_repetition

#: A run of 1,000 tokens may take 4 x 100 = 400 of `small`.
CAP = EpochCap(4.0, {"large": 10_000, "small": 100}, 1_000)


def test_a_mixture_at_its_cap_passes():
    check_repetition({"even": {"large": 0.6, "small": 0.4}}, CAP)


def test_a_chosen_weight_that_was_rounded_up_passes():
    check_repetition({"chosen": {"large": 0.5999995, "small": 0.4000005}}, CAP)


def test_a_mixture_above_its_cap_is_refused_with_its_numbers():
    with pytest.raises(MixtureError) as caught:
        check_repetition({"even": {"large": 0.5, "small": 0.5}}, CAP)
    assert caught.value.message == (
        "train: the mixture 'even' would read domain 'small' 5 times: it is to give 500 of a run's 1000 "
        "tokens and has 100; choice.max_epochs is 4."
    )
    assert "train on at most 800 tokens" in caught.value.hint  # 4 x 100 / 0.5
    assert "train.allow_repetition: true" in caught.value.hint


def test_the_worst_case_is_named_and_the_others_are_counted():
    mixtures = {"even": {"large": 0.5, "small": 0.5}, "all": {"large": 0.0, "small": 1.0}}
    with pytest.raises(MixtureError, match=r"'all' would read domain 'small' 10 times.*worst case of 2"):
        check_repetition(mixtures, CAP)
