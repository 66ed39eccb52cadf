"""The sampler: RegMix's distribution where the bounds leave it alone, allowed mixtures everywhere."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from scipy.spatial.distance import pdist
from scipy.stats import beta, kstest

from regmix_hf.errors import MixtureError
from regmix_hf.mixtures import (
    AroundPrior,
    Constraints,
    count_zeros,
    sample_mixtures,
    sampling_constraints,
)
from regmix_hf.mixtures.sampling import NEAR
from regmix_hf.mixtures.table import append, without_copies
from regmix_hf.recipe import Group, Sampling
from regmix_hf.tables import by_domain
from tests.bounds import allowed

# About the token shares of RegMix's 17 domains, largest first.
SHARES = "237 185 113 102 80 67 51 46 39 27 16 12 8 8 3.9 3.7 1.8"
PILE = {f"d{i}": float(share) for i, share in enumerate(SHARES.split())}


def weights_of(table: pd.DataFrame) -> np.ndarray:
    return by_domain(table, "weight").to_numpy()


def test_the_table_has_ids_a_random_split_and_rows_that_sum_to_one():
    table = sample_mixtures(PILE, Sampling(num_mixtures=100, num_holdout=20))
    assert table["mixture_id"].tolist() == [f"m{i:04d}" for i in range(120)]
    assert table["split"].value_counts().to_dict() == {"fit": 100, "holdout": 20}
    held_out = np.flatnonzero(table["split"] == "holdout")
    assert held_out.min() < 60 < held_out.max()  # not just the last ones
    np.testing.assert_allclose(weights_of(table).sum(axis=1), 1.0, atol=1e-12)


def test_no_two_mixtures_are_near_duplicates_and_none_passes_regmix_cap():
    weights = weights_of(sample_mixtures(PILE))
    assert pdist(weights, "cityblock").min() / 2 >= NEAR
    prior = np.array(list(PILE.values())) / sum(PILE.values())
    assert (weights <= 15 * prior + 1e-9).all()


def test_weights_are_zero_or_at_least_the_floor():
    weights = weights_of(sample_mixtures(PILE, Sampling(min_weight=0.01)))
    assert (weights == 0).any()
    assert weights[weights > 0].min() >= 0.01


def test_a_larger_sample_begins_with_the_smaller_one_and_another_seed_is_another_sample():
    small = weights_of(sample_mixtures(PILE, Sampling(num_mixtures=16, num_holdout=4), random_state=5))
    large = weights_of(sample_mixtures(PILE, Sampling(num_mixtures=300, num_holdout=9), random_state=5))
    other = weights_of(sample_mixtures(PILE, Sampling(num_mixtures=16, num_holdout=4), random_state=6))
    np.testing.assert_array_equal(small, large[:20])
    assert not (small == other).all(axis=1).any()


@pytest.mark.parametrize("steps", [[300], [20, 40, 300], [150, 151, 300]])
def test_where_mixtures_come_near_each_other_steps_end_with_the_same_weights(steps):
    table = None
    for count in steps:
        sampling = Sampling(num_mixtures=count, num_holdout=count // 10)
        table = sample_mixtures({"a": 1.0, "b": 2.0}, sampling, existing=table)
    at_once = sample_mixtures({"a": 1.0, "b": 2.0}, Sampling(num_mixtures=300, num_holdout=30))
    np.testing.assert_array_equal(weights_of(table), weights_of(at_once))
    assert table["split"].value_counts().to_dict() == {"fit": 300, "holdout": 30}


def test_held_out_mixtures_stay_held_out_when_the_swarm_grows():
    tables = [None]
    for fit, holdout in [(20, 4), (40, 4), (41, 9), (30, 2)]:
        tables.append(
            sample_mixtures(PILE, Sampling(num_mixtures=fit, num_holdout=holdout), existing=tables[-1])
        )
    _, *tables, last = tables
    assert last["split"].value_counts().to_dict() == {"fit": 41, "holdout": 9}
    for table in tables:
        pd.testing.assert_frame_equal(last[: len(table)], table)


def test_without_bounds_the_weights_follow_the_dirichlet():
    # With one strength the weight of a domain is Beta(s * p, s * (1 - p)); temperature 0.5 makes p 1/3.
    everywhere = Constraints(("a", "b"))
    drawn = AroundPrior({"a": 0.2, "b": 0.8}, everywhere, 0.5, min_strength=3.0, max_strength=3.0)
    weights = next(drawn.chunks(np.random.default_rng(0), 15_000))[:, 0]
    assert kstest(weights, beta(1.0, 2.0).cdf).pvalue > 0.01


def test_upper_bounds_leave_the_distribution_of_what_they_allow():
    prior, rng = {"a": 0.3, "b": 0.5, "c": 0.2}, np.random.default_rng(1)
    free = next(AroundPrior(prior, Constraints(tuple(prior))).chunks(rng, 60_000))
    bound = next(AroundPrior(prior, Constraints(tuple(prior), maximum={"b": 0.4})).chunks(rng, 60_000))
    allowed = free[free[:, 1] <= 0.4]
    assert len(allowed) > 10_000
    for domain in range(3):
        assert kstest(bound[:, domain], allowed[:, domain]).pvalue > 0.01


def test_a_least_weight_is_set_aside_and_the_rest_shared_out_as_without_it():
    prior, rng = {"a": 0.5, "b": 0.5}, np.random.default_rng(2)
    free = next(AroundPrior(prior, Constraints(tuple(prior))).chunks(rng, 30_000))
    bound = next(AroundPrior(prior, Constraints(tuple(prior), {"a": 0.4})).chunks(rng, 30_000))
    assert bound[:, 0].min() >= 0.4
    assert kstest((bound[:, 0] - 0.4) / 0.6, free[:, 0]).pvalue > 0.01


def test_where_rejection_would_not_end_the_bounds_are_met_all_the_same():
    names = tuple(f"d{i}" for i in range(50))
    tight = Constraints(names, maximum=dict.fromkeys(names, 0.025), minimum={"d3": 0.01}, fixed={"d7": 0.02})
    prior = {name: 1.0 + i for i, name in enumerate(names)}
    table = sample_mixtures(prior, Sampling(num_mixtures=64, num_holdout=0), constraints=tight)
    weights = weights_of(table)
    assert allowed(tight, weights, tolerance=1e-12).all()
    np.testing.assert_allclose(weights[:, 7], 0.02)
    assert pdist(weights, "cityblock").min() / 2 >= NEAR


def test_excess_is_handed_on_in_proportion():
    # a stops at 0.5; b and c share the other half 3 to 1, as they were drawn.
    bounds = Constraints(("a", "b", "c"), maximum={"a": 0.5})
    around = AroundPrior({"a": 0.9, "b": 0.05, "c": 0.05}, bounds)
    filled = around._hand_on(np.log([[0.96, 0.03, 0.01], [0.2, 0.5, 0.3]]))
    np.testing.assert_allclose(filled, [[0.5, 0.375, 0.125], [0.2, 0.5, 0.3]], atol=1e-12)


def test_groups_leave_the_distribution_of_what_they_allow():
    prior, rng = {"a": 0.3, "b": 0.4, "c": 0.2, "d": 0.1}, np.random.default_rng(1)
    groups = {"few": Group(domains=("a", "d"), max=0.3), "many": Group(domains=("b", "c"), min=0.2, max=0.9)}
    free = next(AroundPrior(prior, Constraints(tuple(prior))).chunks(rng, 60_000))
    bounds = Constraints(tuple(prior), groups=groups)
    bound = next(AroundPrior(prior, bounds).chunks(rng, 60_000))
    meets = free[allowed(bounds, free)]
    assert len(free) / 2 > len(meets) > 5_000
    assert allowed(bounds, bound).all()
    for domain in range(4):
        assert kstest(bound[:, domain], meets[:, domain]).pvalue > 0.01


def test_where_groups_would_let_no_draw_through_their_weights_are_scaled_in_proportion():
    # b and c, drawn 0.6 and 0.3, must stop at 0.3 together; a and d share the rest, of which a may have 0.4.
    groups = {"few": Group(domains=("b", "c"), max=0.3)}
    bounds = Constraints(tuple("abcd"), maximum={"a": 0.4}, groups=groups)
    around = AroundPrior(dict.fromkeys("abcd", 0.25), bounds)
    filled = around._hand_on(np.log([[0.05, 0.6, 0.3, 0.05], [0.3, 0.1, 0.1, 0.5]]))
    np.testing.assert_allclose(filled, [[0.35, 0.2, 0.1, 0.35], [0.3, 0.1, 0.1, 0.5]], atol=1e-7)
    names = tuple(f"d{i}" for i in range(40))
    rare = {"rare": Group(domains=names[:2], min=0.6)}
    prior = {name: 1e-4 if name in names[:2] else 1.0 for name in names}
    tight = Constraints(names, groups=rare)
    weights = next(AroundPrior(prior, tight).chunks(np.random.default_rng(0), 600))
    assert len(weights) == 600
    assert allowed(tight, weights).all()
    assert len(np.unique(weights.round(6), axis=0)) > 500
    # One draw of sixteen lies between these: where fewer than a tenth do, none is thrown away either.
    close = Constraints(tuple("abcd"), groups={"few": Group(domains=("b", "c"), min=0.5, max=0.6)})
    weights = next(AroundPrior(dict.fromkeys("abcd", 0.25), close).chunks(np.random.default_rng(0), 600))
    assert len(weights) == 600
    assert allowed(close, weights).all()


def test_concentrations_that_underflow_give_mixtures_and_no_nan():
    # Gammas of shape 0.01 * 1e-3 underflow to 0 throughout; a plain Dirichlet divides 0 by 0.
    names = tuple(f"d{i}" for i in range(1000))
    prior = dict.fromkeys(names, 1e-3)
    around = AroundPrior(prior, Constraints(names), min_strength=0.01, max_strength=0.01)
    weights = next(around.chunks(np.random.default_rng(0), 150))
    assert np.isfinite(weights).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    assert len(set(weights.argmax(axis=1))) > 100  # spread over the domains, not piled on the first


def test_a_thousand_domains_can_be_sampled():
    prior = {f"d{i}": 1.0 / (i + 1) for i in range(1000)}
    weights = weights_of(sample_mixtures(prior, Sampling(num_mixtures=64, num_holdout=0)))
    assert allowed(sampling_constraints(Sampling(), prior), weights).all()


def test_two_domains_make_room_by_coming_nearer():
    weights = weights_of(sample_mixtures({"a": 1.0, "b": 2.0}, Sampling(num_mixtures=300, num_holdout=0)))
    assert len(np.unique(weights, axis=0)) == 300


def test_a_domain_without_tokens_is_never_drawn():
    weights = by_domain(sample_mixtures({"a": 1.0, "b": 2.0, "c": 0.0}, Sampling(num_mixtures=20)), "weight")
    assert (weights["c"] == 0).all()


def test_zero_weights_are_counted_over_the_mixtures_to_fit_on():
    table = pd.DataFrame(
        {
            "mixture_id": ["m0000", "m0001", "m0002"],
            "split": ["fit", "holdout", "fit"],
            "weight/a": [1.0, 0.5, 0.9],
            "weight/b": [0.0, 0.5, 0.1],
        }
    )
    assert count_zeros(table) == {"a": 0, "b": 1}


def test_the_cap_is_for_the_longer_of_a_proxy_run_and_one_over_all_tokens():
    tokens = {"a": 600.0, "b": 400.0}
    assert sampling_constraints(Sampling(max_epochs=1.2), tokens).upper.tolist() == pytest.approx(
        [0.72, 0.48]
    )
    longer = sampling_constraints(Sampling(max_epochs=2.4), tokens, num_train_tokens=2_000)
    assert longer.upper.tolist() == pytest.approx([0.72, 0.48])
    assert sampling_constraints(Sampling(max_epochs=None), tokens).upper.tolist() == [1.0, 1.0]


def test_too_little_room_for_the_asked_number_says_how_much_there_is():
    fixed = Constraints(("a", "b"), fixed={"a": 0.25})
    with pytest.raises(MixtureError, match=r"room for about 1 different mixtures.* ask for 12") as error:
        sample_mixtures({"a": 1.0, "b": 1.0}, Sampling(num_mixtures=10, num_holdout=2), constraints=fixed)
    assert error.value.hint is not None


def test_a_floor_that_leaves_nothing_is_refused():
    prior = {f"d{i}": 1.0 for i in range(50)}
    with pytest.raises(MixtureError, match=r"min_weight 0\.9"):
        sample_mixtures(prior, Sampling(min_weight=0.9, max=dict.fromkeys(prior, 0.5)))


def test_bounds_that_need_a_domain_without_tokens_are_refused():
    bounds = Constraints(("a", "b"), maximum={"a": 0.6})
    with pytest.raises(MixtureError, match=r"may have at most 0.6 together; 'b' has none"):
        sample_mixtures({"a": 1.0, "b": 0.0}, constraints=bounds)


@given(
    st.integers(2, 12),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 2e-4, 0.02]),
    st.sampled_from([1.05, 2.0, 15.0, None]),
)
def test_every_sample_meets_every_bound(number, seed, floor, max_epochs):
    rng = np.random.default_rng(seed)
    prior = {f"d{i}": float(share) for i, share in enumerate(rng.dirichlet(np.ones(number)) + 1e-4)}
    total = sum(prior.values())
    cap = 1.0 if max_epochs is None else max_epochs
    least = {"d0": 0.4 * min(1.0, cap * prior["d0"] / total)}
    sampling = Sampling(num_mixtures=8, num_holdout=2, min_weight=floor, max_epochs=max_epochs, min=least)
    bounds = sampling_constraints(sampling, prior)
    weights = weights_of(sample_mixtures(prior, sampling, random_state=seed))
    assert allowed(bounds, weights).all()
    assert ((weights >= floor - 1e-12) | (weights == bounds.lower)).all()


def test_no_more_mixtures_are_repeated_than_are_run_once():
    first = sample_mixtures({"a": 1.0, "b": 1.0}, Sampling(num_mixtures=5, num_holdout=1, num_repeats=4))
    assert first["origin"].value_counts().to_dict() == {"sampled": 4, "repeat": 2}
    more = Sampling(num_mixtures=8, num_holdout=1, num_repeats=4)
    grown = sample_mixtures({"a": 1.0, "b": 1.0}, more, existing=first)
    assert grown["origin"].value_counts().to_dict() == {"sampled": 5, "repeat": 4}
    fitted = grown[grown["split"] == "fit"]
    assert fitted.groupby(["weight/a", "weight/b"]).size().tolist() == [2] * 4


def test_mixtures_for_a_larger_size_are_some_of_the_swarm_that_lie_apart_and_stay_as_it_grows():
    prior = {"a": 3.0, "b": 2.0, "c": 1.0}
    table = sample_mixtures(prior, Sampling(num_mixtures=40, num_holdout=5), further=[8, 4])
    alone = sample_mixtures(prior, Sampling(num_mixtures=40, num_holdout=5))
    assert_frame_equal(table[:45], alone)
    assert table["rung"].tolist() == [0] * 45 + [1] * 8 + [2] * 4
    assert set(table["origin"][45:]) == {"ladder"}
    swarm, upper, top = (weights_of(table[table["rung"] == rung]) for rung in range(3))
    fitted = swarm[(alone["split"] == "fit").to_numpy()]
    assert len(np.unique(np.concatenate([fitted, upper]), axis=0)) == len(fitted)
    np.testing.assert_array_equal(top, upper[:4])  # what is largest is also at every size below
    by_chance = [pdist(fitted[start : start + 8], "cityblock").min() for start in range(0, 32, 8)]
    assert pdist(upper, "cityblock").min() > max(by_chance)
    grown = sample_mixtures(prior, Sampling(num_mixtures=60, num_holdout=5), existing=table, further=[10, 4])
    assert_frame_equal(grown[:57], table)
    assert grown["rung"][57:].value_counts().to_dict() == {0: 20, 1: 2}


def test_neither_a_choice_that_was_tried_nor_a_larger_size_makes_a_mixture_one_that_is_repeated():
    prior, sampling = {"a": 3.0, "b": 2.0}, Sampling(num_mixtures=6, num_holdout=0)
    table = sample_mixtures(prior, sampling, further=[6])
    tried = append(table, np.array([[0.123, 0.877]]), ["fit"], ["confirm"])
    more = Sampling(num_mixtures=9, num_holdout=0, num_repeats=3)
    grown = sample_mixtures(prior, more, existing=tried, further=[6])
    again = grown[grown["origin"] == "repeat"]
    assert len(again) == 3
    assert 0.123 not in again["weight/a"].tolist()
    assert set(again["weight/a"]) <= set(table["weight/a"][:6])


def test_rows_that_are_the_same_run_are_counted_once():
    rows = [  # the first comes again three times: as an expert, with another seed, and larger
        ("a", "fit", 0, "sampled", 0, 1.0),
        ("b", "fit", 0, "sampled", 0, 0.5),
        ("c", "expert", 1, "expert", 0, 1.0),
        ("d", "fit", 1, "confirm", 0, 1.0),
        ("e", "fit", 1, "ladder", 1, 1.0),
    ]
    table = pd.DataFrame(rows, columns=["mixture_id", "split", "round", "origin", "rung", "weight/web"])
    table["weight/code"] = 1 - table["weight/web"]
    assert list(without_copies(table)["mixture_id"]) == ["a", "b", "d", "e"]
