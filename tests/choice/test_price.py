"""The price of leaving the prior: what promises fell short by, per nat of divergence."""

import numpy as np
import pandas as pd
import pytest

from regmix_hf.choice import choose_mixture
from regmix_hf.choice.price import divergence, price_of_leaving
from regmix_hf.errors import MixtureError
from regmix_hf.recipe import Choice
from regmix_hf.regression import MixtureRegressor

NAMES = ("a", "b", "c")
PRIOR = dict.fromkeys(NAMES, 1 / 3)


def test_the_price_makes_up_for_what_promises_lacked_where_they_were_good():
    away = np.array([0.1, 0.2, 0.4, 0.3, 0.6, 0.5])
    promised = np.array([1.0, 1.1, 1.2, 5.0, 6.0, 7.0])
    assert price_of_leaving(promised + 0.25 * away, promised, away) == pytest.approx(0.25)
    only_bad = promised + np.where(promised > 2, 3 * away, 0)
    assert price_of_leaving(only_bad, promised, away) == 0.0


def test_promises_that_were_kept_or_surpassed_cost_nothing():
    away, promised = np.array([0.1, 0.5, 0.9]), np.array([1.0, 2.0, 3.0])
    assert price_of_leaving(promised - away, promised, away) == 0.0
    assert price_of_leaving(promised, promised, away) == 0.0
    assert price_of_leaving(promised * np.nan, promised, away) == 0.0


def test_a_run_on_what_the_prior_lacks_is_left_out():
    weights = np.array([[1.0, 0.0], [0.5, 0.5]])
    np.testing.assert_allclose(divergence(weights, np.array([0.5, 0.5])), [np.log(2), 0.0])
    away = divergence(weights, np.array([0.0, 1.0]))
    assert np.isinf(away).all()
    assert price_of_leaving(np.array([9.0, 9.0]), np.array([1.0, 1.0]), away) == 0.0


@pytest.fixture(scope="module")
def overpromised():
    """Losses that rise again far from the prior, which a line, fitted on all, cannot say."""
    rng = np.random.default_rng(0)
    weights = pd.DataFrame(rng.dirichlet(np.full(3, 0.8), 80), columns=NAMES)
    far = divergence(weights.to_numpy(), np.full(3, 1 / 3))
    loss = 3.0 - weights["a"] + 1.5 * far**2 + rng.normal(scale=0.01, size=80)
    return weights, MixtureRegressor("ridge").fit(weights, pd.DataFrame({"a": loss}))


def test_auto_stays_nearer_to_the_prior_and_says_at_what_price(overpromised):
    weights, model = overpromised
    few = {"num_candidates": 2_000, "top_k": 10}
    chosen = {
        price: choose_mixture(model, "a", prior=PRIOR, swarm=weights, choice=Choice(kl_strength=price, **few))
        for price in (0.0, "auto")
    }
    price = chosen["auto"].kl_strength
    assert price > 0.1
    far = {
        name: divergence(np.array([list(one.weights.values())]), np.full(3, 1 / 3))[0]
        for name, one in chosen.items()
    }
    assert far["auto"] < 0.8 * far[0.0]
    told = choose_mixture(model, "a", prior=PRIOR, swarm=weights, choice=Choice(kl_strength=price, **few))
    assert told.weights == chosen["auto"].weights


def test_auto_needs_the_runs_that_were_fitted(overpromised):
    weights, model = overpromised
    for swarm in (None, weights[:10]):
        with pytest.raises(MixtureError, match="'auto', but the runs"):
            choose_mixture(model, "a", prior=PRIOR, swarm=swarm, choice=Choice(kl_strength="auto"))
