"""A mean of laws and trees has an optimum: polished on its smooth part, confirmed by the whole."""

import numpy as np
import pytest

from regmix_hf import choose_mixture
from regmix_hf.choice import choose
from regmix_hf.recipe import Choice
from regmix_hf.regression import MixtureRegressor

FEW = Choice(num_candidates=2_000, top_k=20)
PRIOR = {"a": 0.7, "b": 0.2, "c": 0.1}


@pytest.fixture(scope="module")
def mixed(runs):
    """Trees and a law on losses that are steps here and smooth there."""
    weights, losses = runs
    stepped = losses.assign(a=losses["a"] + 0.3 * (weights["b"] > 0.2))
    model = MixtureRegressor("auto", members=["log_linear", "lightgbm"]).fit(weights, stepped)
    assert (model.model.shares_[:, 1] > 0).any()
    return model


def test_the_smooth_part_has_a_gradient_and_shares_that_sum_to_one(mixed, runs):
    assert not mixed.is_smooth
    smooth = mixed.model.smooth()
    np.testing.assert_allclose(smooth.shares_.sum(axis=1), 1)
    at = runs[0].to_numpy()[:5] + 0.01
    step = np.array([1e-6, 0, 0])
    difference = (smooth.predict(at + step) - smooth.predict(at - step)) / 2e-6
    np.testing.assert_allclose(smooth.gradient(at)[:, :, 0], difference, rtol=1e-4, atol=1e-6)
    law = MixtureRegressor("log_linear").fit(*runs).model
    assert law.smooth() is law
    assert MixtureRegressor("lightgbm", num_iterations=5).fit(*runs).model.smooth() is None


def test_trees_alone_leave_the_first_smooth_member_a_share(runs):
    weights, losses = runs
    steps = losses.assign(a=2.0 + (weights["a"] > 0.3) + 2 * (weights["b"] > 0.2), b=losses["b"])
    model = MixtureRegressor("auto", members=["ridge", "lightgbm"]).fit(weights, steps).model
    assert (model.shares_[:, 0] >= 0.05 - 1e-9).all()
    np.testing.assert_allclose(model.shares_.sum(axis=1), 1)
    assert model.smooth() is not None


def test_what_is_polished_is_taken_when_the_whole_confirms_it(mixed, runs):
    chosen = choose_mixture(mixed, "b", prior=PRIOR, swarm=runs[0], choice=FEW)
    methods = {found.method: found.predicted.loss for found in chosen.candidates}
    assert methods["optimised"] <= methods["simulated"]


def test_what_the_whole_does_not_confirm_is_dropped(mixed, runs, monkeypatch):
    worst = np.array([0.0, 0.0, 1.0])
    monkeypatch.setattr(choose, "optimise", lambda *_: worst)
    chosen = choose_mixture(mixed, "a", prior=PRIOR, swarm=runs[0], choice=FEW)
    assert [found.method for found in chosen.candidates] == ["simulated"]
    assert "no derivatives that lead to a better one" in chosen.reason
