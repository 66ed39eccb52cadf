"""Final runs that would read a domain too often are refused with the numbers that say so."""

import pytest

from regmix_hf.errors import MixtureError
from regmix_hf.mixtures import EpochCap
from regmix_hf.mixtures.repetition import check_repetition, longest_reading, matched_blocks, stamp_matching
from regmix_hf.recipe import Recipe

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


def recipe_of(proxy_tokens: int, final_tokens: int, *, matches: bool = True) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "matched",
            "context_length": 10,
            "tokenizer": {"train": {"vocab_size": 300}},
            "domains": {"large": {"path": "json"}, "small": {"path": "json"}},
            "proxy": {
                "model": {"preset": "tiny"},
                "num_train_tokens": proxy_tokens,
                "match_repetition": matches,
            },
            "train": {"model": {"preset": "tiny"}, "num_train_tokens": final_tokens},
        }
    )


def test_a_proxy_reads_as_large_a_part_of_a_domain_as_it_is_shorter_than_a_final_run():
    tokens = {"large": 64_000, "small": 1_600}
    recipe = recipe_of(10_000, 160_000)
    blocks = matched_blocks(recipe, "proxy", tokens)
    assert blocks == {"large": 400, "small": 10}
    for name, count in blocks.items():  # epochs at any weight
        assert 10_000 / (10 * count) == 160_000 / tokens[name]
    assert matched_blocks(recipe_of(10_000, 160_000, matches=False), "proxy", tokens) is None


def test_a_part_of_less_than_a_block_is_refused_with_the_length_that_would_do():
    with pytest.raises(MixtureError, match=r"of domain 'small' a proxy would read 0\.062 of 40") as caught:
        matched_blocks(recipe_of(10_000, 160_000), "proxy", {"large": 64_000, "small": 40})
    assert "train proxies on 40k tokens or more" in caught.value.hint


def test_bounds_and_stages_follow_the_final_run_only_where_proxies_repeat_as_it_does():
    assert longest_reading(recipe_of(10_000, 160_000)) == 160_000
    assert longest_reading(recipe_of(10_000, 160_000, matches=False)) == 10_000
    assert stamp_matching(recipe_of(10_000, 160_000, matches=False)) == {}
    assert stamp_matching(recipe_of(10_000, 160_000)) != stamp_matching(recipe_of(10_000, 80_000))
