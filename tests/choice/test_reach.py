"""How far a choice may go from the runs, where domains are bounded together, too."""

import numpy as np
import pandas as pd
import pytest

from regmix_hf import choose_mixture
from regmix_hf.choice.choose import _round
from regmix_hf.choice.reach import beyond_reach, unknown_shares, within_reach
from regmix_hf.mixtures import Constraints
from regmix_hf.recipe import Choice, Group, Sampling

NAMES = tuple("abcd")
#: Most that runs had of each.
KNOWN = np.array([0.1, 0.2, 0.9, 0.9])


def together(*domains, **bounds):
    return Constraints(NAMES, maximum={"b": 0.35}, groups={"few": Group(domains=domains, **bounds)})


def test_a_group_that_must_have_more_than_runs_had_gets_it_in_their_proportions_and_no_more():
    bounds = within_reach(together("a", "b", min=0.45), KNOWN, {})
    np.testing.assert_allclose(bounds.upper, [0.15, 0.3, 0.9, 0.9], atol=1e-7)
    # b may have 0.35 whatever runs had, so the rest is a's.
    bounds = within_reach(together("a", "b", min=0.6), KNOWN, {})
    np.testing.assert_allclose(bounds.upper, [0.25, 0.35, 0.9, 0.9], atol=1e-7)
    np.testing.assert_allclose(within_reach(together("a", "b", max=0.2), KNOWN, {}).upper, KNOWN)


def test_domains_that_never_varied_give_way_to_their_group():
    asked = together("a", "b", max=0.2)
    bounds = within_reach(asked, KNOWN, {"a": 0.1, "b": 0.15})
    np.testing.assert_allclose(bounds.lower, [0.08, 0.12, 0, 0], atol=1e-7)
    assert asked.allows(bounds.project(np.eye(4))).all()


def test_a_choice_beyond_the_swarm_for_a_group_says_so(runs, fitted):
    sampling, prior = Sampling(max={"a": 0.1, "b": 0.2}), {"a": 0.1, "b": 0.1, "c": 0.8}
    choice = Choice(num_candidates=500, groups={"few": Group(domains=("a", "b"), min=0.45)})
    chosen = choose_mixture(
        fitted("power_law"), "c", prior=prior, swarm=runs[0], choice=choice, sampling=sampling
    )
    assert dict(chosen.weights) == pytest.approx({"a": 0.15, "b": 0.3, "c": 0.55}, abs=2e-6)
    [warning] = [warning for warning in chosen.warnings if "group" in warning]
    assert warning.startswith("group 'few' must have 45 %, and its domains could have 30 % together")
    assert not [
        warning for warning in chosen.warnings if "the most the swarm's mixtures could have" in warning
    ]
    within = choose_mixture(fitted("power_law"), "c", prior=prior, swarm=pd.DataFrame(runs[0]), choice=choice)
    assert within.weights["c"] == 0.55
    assert not [warning for warning in within.warnings if "group" in warning]


def test_more_than_runs_had_that_is_asked_of_a_domain_is_not_called_the_most_they_had(runs, fitted):
    sampling, prior = Sampling(max={"a": 0.1}), {"a": 0.1, "b": 0.1, "c": 0.8}
    choice = Choice(num_candidates=500, min={"a": 0.25})
    chosen = choose_mixture(
        fitted("power_law"), "c", prior=prior, swarm=runs[0], choice=choice, sampling=sampling
    )
    [warning] = [warning for warning in chosen.warnings if "swarm" in warning]
    assert warning.startswith("'a' (25 %, of 10 %): more than the swarm's mixtures could have, as is asked")


def test_a_domain_that_never_varied_is_said_to_be_kept_only_where_it_is():
    still = {"b": 0.2, "d": 0.0}
    [kept, moved] = unknown_shares(np.array([0.5, 0.2, 0.1, 0.2]), NAMES, still)
    assert kept.startswith("'b' (20 %): the same share in all runs, so it is kept")
    assert moved.startswith("'d' (0 %, and 20 % now): the same share in all runs, and another now")
    assert unknown_shares(np.array([0.5, 0.5, 0.0, 0.0]), NAMES, {}) == []


def test_bounds_that_the_swarm_cannot_meet_leave_every_domain_free_and_say_so():
    asked = Constraints(NAMES, groups={"few": Group(domains=("c", "d"), max=0.5)})
    assert within_reach(asked, KNOWN, {}) is asked
    [found] = beyond_reach(asked, KNOWN)
    assert found.startswith(
        "constraints: what is allowed and what the swarm's mixtures could have sum to 0.8"
    )


def test_the_sum_of_a_group_is_rounded_itself():
    bounds = Constraints(
        tuple(f"d{i}" for i in range(60)), groups={"x": Group(domains=["d0", "d9", "d33"], max=0.3)}
    )
    rng = np.random.default_rng(0)
    for point in bounds.project(rng.dirichlet(np.ones(60), 40) + np.eye(60)[0]):
        rounded = _round(point, bounds)
        assert rounded.sum() == pytest.approx(1.0, abs=1e-13)
        assert rounded[[0, 9, 33]].sum() == pytest.approx(0.3, abs=1e-13)
        assert np.abs(rounded - point).max() < 1e-6
