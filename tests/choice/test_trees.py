"""Sifting candidates of boosted trees: fewer predictions, the same answer to the last bit."""

import numpy as np
import pytest

from regmix_hf.choice.objective import Objective
from regmix_hf.choice.simulate import simulate
from regmix_hf.mixtures import AroundPrior, Constraints
from regmix_hf.quantities import read_names
from regmix_hf.regression import MixtureRegressor
from regmix_hf.regression.target import Target

pytestmark = pytest.mark.long

NAMES = ("a", "b", "c")
PRIOR = {"a": 0.5, "b": 0.3, "c": 0.2}
EVERYWHERE = Constraints(NAMES)


@pytest.fixture(scope="module")
def trees(runs):
    return MixtureRegressor("lightgbm", num_iterations=400, learning_rate=0.03).fit(*runs)


@pytest.mark.parametrize("target", ["a", "mean", {"a": 1, "c": 3}, "worst"])
@pytest.mark.parametrize("kl_strength", [0.0, 0.05])
def test_the_simulation_is_the_one_that_predicts_everything(monkeypatch, trees, target, kl_strength):
    monkeypatch.setattr("regmix_hf.choice.simulate._CHUNK_NUMBERS", 1_500)
    goal = Target.parse(target, read_names(NAMES))
    objective = Objective.of(trees, goal, EVERYWHERE, PRIOR, kl_strength)
    settings = {"num_candidates": 2_500, "top_k": 25, "random_state": 0}
    sifted = simulate(objective.below, AroundPrior(PRIOR, EVERYWHERE), **settings)
    whole = simulate(lambda weights, _: objective(weights), AroundPrior(PRIOR, EVERYWHERE), **settings)
    np.testing.assert_array_equal(sifted.best, whole.best)
    np.testing.assert_array_equal(sifted.values, whole.values)


def test_most_candidates_are_not_followed_to_the_end(trees):
    objective = Objective.of(trees, Target.parse("a", read_names(NAMES)), EVERYWHERE, PRIOR, 0.0)
    weights = next(AroundPrior(PRIOR, EVERYWHERE).chunks(np.random.default_rng(0), 3_000))
    values = objective(weights)
    ceiling = np.sort(values)[20]
    sifted = objective.below(weights, ceiling)
    assert (sifted[values <= ceiling] == values[values <= ceiling]).all()
    assert np.isinf(sifted).mean() > 0.5
    np.testing.assert_array_equal(objective.below(weights, np.inf), values)


def test_fewer_trees_than_stops_are_no_harm(runs):
    few = MixtureRegressor("lightgbm", num_iterations=60).fit(*runs)
    objective = Objective.of(few, Target.parse("mean", read_names(NAMES)), EVERYWHERE, PRIOR, 0.0)
    weights = next(AroundPrior(PRIOR, EVERYWHERE).chunks(np.random.default_rng(1), 1_500))
    values = objective(weights)
    ceiling = np.median(values)
    sifted = objective.below(weights, ceiling)
    np.testing.assert_array_equal(sifted <= ceiling, values <= ceiling)
