"""The optimum of smooth objectives: hand-checked, within bounds, and where no feasible step improves it."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regmix_hf.choice.objective import Objective
from regmix_hf.choice.optimise import optimise
from regmix_hf.errors import MixtureError
from regmix_hf.mixtures import Constraints
from regmix_hf.quantities import read_names
from regmix_hf.recipe import Group
from regmix_hf.regression.target import Target
from tests.bounds import allowed

EVERYWHERE = Constraints(("a", "b", "c"))
STARTS = np.array([[0.8, 0.1, 0.1], [1 / 3, 1 / 3, 1 / 3]])
PRIOR = np.array([0.5, 0.3, 0.2])


def test_one_target_is_least_where_the_weights_are_proportional_to_its_coefficients(hyperbolic):
    objective = Objective(hyperbolic([[3.0, 2.0, 1.0]]), np.array([1.0]), PRIOR)
    np.testing.assert_allclose(optimise(objective, EVERYWHERE, STARTS), [1 / 2, 1 / 3, 1 / 6], atol=1e-5)


def test_a_weighted_mean_has_the_mean_of_the_squared_coefficients(hyperbolic):
    objective = Objective(hyperbolic([[4.0, 0.0, 2.0], [0.0, 4.0, 2.0]]), np.array([0.25, 0.75]), PRIOR)
    roots = np.sqrt([0.25 * 16, 0.75 * 16, 4.0])
    np.testing.assert_allclose(optimise(objective, EVERYWHERE, STARTS), roots / roots.sum(), atol=1e-5)


def test_a_capped_domain_keeps_its_cap_and_the_others_their_proportions(hyperbolic):
    objective = Objective(hyperbolic([[3.0, 2.0, 1.0]]), np.array([1.0]), PRIOR)
    capped = Constraints(("a", "b", "c"), maximum={"a": 0.25})
    np.testing.assert_allclose(optimise(objective, capped, STARTS), [0.25, 0.5, 0.25], atol=1e-5)


def test_the_worst_of_two_is_least_where_both_are_equal(hyperbolic):
    # By symmetry a and b share evenly; c is of no use to either.
    objective = Objective(hyperbolic([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0]]), None, PRIOR)
    found = optimise(objective, EVERYWHERE, STARTS)
    np.testing.assert_allclose(found, [0.5, 0.5, 0.0], atol=1e-5)
    assert objective(found[None])[0] == pytest.approx(10.0, abs=1e-3)


def test_a_capped_group_keeps_its_cap_and_domains_their_proportions_in_it_and_outside(hyperbolic):
    objective = Objective(hyperbolic([[3.0, 2.0, 1.0]]), np.array([1.0]), PRIOR)
    capped = Constraints(("a", "b", "c"), groups={"x": Group(domains=("a", "c"), max=0.2)})
    np.testing.assert_allclose(optimise(objective, capped, STARTS), [0.15, 0.8, 0.05], atol=1e-5)
    asked = Constraints(("a", "b", "c"), groups={"x": Group(domains=("b", "c"), min=0.9)})
    np.testing.assert_allclose(optimise(objective, asked, STARTS), [0.1, 0.6, 0.3], atol=1e-5)


def test_a_strong_pull_ends_at_the_prior_and_a_weak_one_between(hyperbolic):
    model = hyperbolic([[0.03, 0.02, 0.01]])
    free, pulled, strong = (
        optimise(Objective(model, np.array([1.0]), PRIOR, strength), EVERYWHERE, STARTS)
        for strength in (0.0, 1e-2, 1e3)
    )
    np.testing.assert_allclose(strong, PRIOR, atol=1e-4)
    distances = [np.abs(weights - PRIOR).sum() for weights in (free, pulled, strong)]
    assert distances[0] > 1.5 * distances[1] > 10 * distances[2]


def test_the_divergence_is_that_of_the_definition(hyperbolic):
    objective = Objective(hyperbolic([[0.0, 0.0, 0.0]]), np.array([1.0]), PRIOR, 2.0)
    weights = np.array([[0.5, 0.5, 0.0], [0.5, 0.3, 0.2]])
    expected = [2 * (0.5 * np.log(0.5 / 0.5) + 0.5 * np.log(0.5 / 0.3)), 0.0]
    np.testing.assert_allclose(objective(weights), expected, atol=1e-12)


def test_a_pull_to_a_prior_of_nothing_is_refused(fitted):
    prior = {"a": 0.5, "b": 0.5, "c": 0.0}
    target = Target.parse("mean", read_names(("a", "b", "c")))
    with pytest.raises(MixtureError, match="the prior gives domain 'c' nothing"):
        Objective.of(fitted("power_law"), target, EVERYWHERE, prior, 0.1)
    without = Constraints(("a", "b", "c"), maximum={"c": 0.0})
    Objective.of(fitted("power_law"), target, without, prior, 0.1)


@given(st.integers(2, 8), st.integers(1, 4), st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_allowed_mixture_is_better(hyperbolic, number, targets, seed, worst):
    rng = np.random.default_rng(seed)
    names = tuple(f"d{i}" for i in range(number))
    centre = rng.dirichlet(np.ones(number))
    held = centre[: number // 2].sum()
    ends = {"min": held * rng.random()} if seed % 2 else {"max": held + (1 - held) / 5 * rng.random()}
    bounds = Constraints(
        names,
        {name: float(weight * rng.random()) for name, weight in zip(names, centre, strict=True)},
        {name: float(min(1.0, weight + rng.random())) for name, weight in zip(names, centre, strict=True)},
        groups={"half": Group(domains=names[: number // 2], **ends)} if seed % 3 else {},
    )
    shares = None if worst else rng.dirichlet(np.ones(targets))
    objective = Objective(hyperbolic(rng.random((targets, number)) / 10), shares, centre)
    found = optimise(objective, bounds, bounds.project(rng.normal(size=(2, number))))
    assert allowed(bounds, found[None]).all()
    others = bounds.project(
        np.concatenate([rng.normal(size=(200, number)), found + rng.normal(size=(200, number)) / 50])
    )
    assert objective(found[None])[0] <= objective(others).min() + 1e-6
