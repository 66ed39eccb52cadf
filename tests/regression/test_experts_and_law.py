"""Experts beside a law: to it they are runs on single domains, and the mean with their formula predicts."""

import numpy as np
import pandas as pd
import pytest

from regmix_hf import MixtureRegressor
from regmix_hf.errors import RegressionError
from regmix_hf.regression.kriged_power_law import KrigedPowerLaw
from tests.mixed_experts import DOMAINS, in_torch


@pytest.fixture(scope="module")
def with_law(asked, mixtures):
    """Losses of twelve mixtures, of a target that experts know and one that they were not asked about."""
    table = pd.DataFrame(mixtures[3:], columns=DOMAINS)
    loss = 3 - np.sqrt(table["code"]) + 0.1 * table["web"]
    losses = pd.DataFrame({"web": loss, "other": 2 * loss})
    return table, losses, MixtureRegressor("experts_and_law").fit(table, losses, experts=asked)


def test_beside_a_law_experts_are_runs_on_single_domains(with_law, asked, tokens):
    table, losses, model = with_law
    lost = np.column_stack([in_torch(tokens, np.eye(3))[:, 0], np.full(3, np.nan)])
    law = KrigedPowerLaw().fit(np.vstack([table, np.eye(3)]), np.vstack([losses, lost]), own_domains=[0, -1])
    formula = MixtureRegressor("experts").fit(table, losses[["web"]], experts=asked).predict(table)["web"]
    expected = law.predict(table.to_numpy())
    expected[:, 0] = (expected[:, 0] + formula.to_numpy()) / 2
    np.testing.assert_allclose(model.predict(table), expected, atol=1e-5)


def test_experts_and_law_have_the_slope_of_their_predictions_and_part_by_targets(with_law):
    table, _, found = with_law
    model, inside, step = found.model, table.to_numpy(), 1e-6
    slope = model.gradient(inside)
    for domain in range(3):
        moved = step * np.eye(3)[domain]
        difference = (model.predict(inside + moved) - model.predict(inside - moved)) / (2 * step)
        np.testing.assert_allclose(slope[:, :, domain], difference, atol=1e-5)
    np.testing.assert_array_equal(model.select_targets([1]).predict(inside), model.predict(inside)[:, 1:])


def test_with_an_expert_of_each_domain_a_law_needs_fewer_mixtures(asked, mixtures):
    losses = pd.DataFrame({"web": 3 - np.sqrt(mixtures[3:, 1])})
    table = pd.DataFrame(mixtures[3:], columns=DOMAINS)
    MixtureRegressor("experts_and_law").fit(table[:7], losses[:7], experts=asked)
    with pytest.raises(RegressionError, match="needs at least 7 runs"):
        MixtureRegressor("experts_and_law").fit(table[:6], losses[:6], experts=asked)
