"""Each family does what its formula says."""

import lightgbm
import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import RidgeCV

from regmix_hf.regression.base import telling_runs
from regmix_hf.regression.gaussian_process import GaussianProcess, negative_log_posterior
from regmix_hf.regression.kriged_power_law import KrigedPowerLaw
from regmix_hf.regression.lightgbm import LightGBM
from regmix_hf.regression.log_linear import LogLinear
from regmix_hf.regression.matern import correlate_exactly, correlate_quickly
from regmix_hf.regression.own_weight import OwnWeight
from regmix_hf.regression.power_law import PowerLaw
from regmix_hf.regression.ridge import PENALTIES, Ridge


@pytest.fixture
def weights():
    return np.random.default_rng(0).dirichlet(np.full(4, 0.6), 120)


def test_ridge_is_that_of_scikit_learn_at_the_chosen_penalty(weights):
    losses = weights @ np.array([[-1.0, 0.5, 0.0, 0.2], [0.1, -2.0, 0.3, 0.0]]).T
    losses += np.random.default_rng(1).normal(scale=0.2, size=losses.shape)
    model = Ridge().fit(weights, losses)
    assert set(model.penalty_) <= set(PENALTIES)
    for target in range(2):
        reference = RidgeCV(alphas=[model.penalty_[target]]).fit(weights, losses[:, target])
        np.testing.assert_allclose(model.coef_[target], reference.coef_, rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(model.intercept_[target], reference.intercept_, rtol=1e-8)


def test_ridge_chooses_its_penalty_by_leaving_out_one_mixture_with_all_its_runs(weights):
    rng = np.random.default_rng(3)
    losses = weights[:30] @ rng.normal(size=(4, 3)) + rng.normal(scale=0.3, size=(30, 3))
    losses[:7, 2] = np.nan
    repeated = np.repeat(np.arange(30), 3)
    model = Ridge().fit(weights[repeated], losses[repeated])
    for target in range(3):
        known = ~np.isnan(losses[:, target])
        single = RidgeCV(PENALTIES).fit(
            weights[:30][known], losses[known, target], sample_weight=np.full(known.sum(), 3.0)
        )
        assert model.penalty_[target] == single.alpha_
        np.testing.assert_allclose(model.coef_[target], single.coef_, rtol=1e-8, atol=1e-12)


def test_ridge_shrinks_more_where_there_is_nothing_to_learn(weights):
    rng = np.random.default_rng(2)
    losses = np.column_stack([weights[:, 0], rng.normal(size=len(weights))])
    model = Ridge().fit(weights, losses)
    assert model.penalty_[0] == PENALTIES[0]
    assert model.penalty_[1] > model.penalty_[0]


def test_own_weight_is_the_least_squares_line_by_hand():
    weights = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    model = OwnWeight().fit(weights, np.array([[4.0], [3.0], [1.0]]), own_domains=[0])
    np.testing.assert_allclose(model.coef_, [[-3.0, 0.0]])
    np.testing.assert_allclose(model.intercept_, [4.0 + 1 / 6])


def test_own_weight_ranks_by_minus_the_weight_even_where_the_loss_rises_with_it(weights):
    model = OwnWeight().fit(weights, 2.0 + weights[:, [1]], own_domains=[1])
    assert spearmanr(model.predict(weights)[:, 0], -weights[:, 1]).statistic == pytest.approx(1.0)


def test_a_target_that_is_no_domain_gets_the_one_whose_weight_ranks_it_best(weights):
    losses = np.exp(-3 * weights[:, [2]]) + 0.2 * weights[:, [0]]
    assert np.flatnonzero(OwnWeight().fit(weights, losses).coef_[0]) == [2]


def test_trees_are_those_of_lightgbm_with_the_papers_settings_and_63_bins(weights):
    loss = np.sqrt(weights[:, 0])
    settings = {"learning_rate": 1e-2, "min_data_in_leaf": 8, "min_data_in_bin": 1, "max_bin": 63}
    settings |= {"num_threads": 1, "verbosity": -1}
    direct = lightgbm.train(settings, lightgbm.Dataset(weights, label=loss), 1000)
    model = LightGBM().fit(weights, loss)  # 3/4 of the square root of 120 runs is 8
    np.testing.assert_allclose(model.predict(weights), direct.predict(weights), rtol=1e-6)


@pytest.mark.parametrize("num_runs", [99, 100])
def test_trees_of_few_runs_are_kept_as_trained_and_predict_like_those_that_were_read_back(weights, num_runs):
    weights, loss = weights[:num_runs], -np.log(weights[:num_runs, :1] + 0.01)
    booster = LightGBM(num_iterations=30).fit(weights, loss).boosters_[0]
    read = lightgbm.Booster(model_str=booster.model_to_string())
    np.testing.assert_array_equal(booster.predict(weights), read.predict(weights))


def test_the_number_of_threads_changes_no_tree(weights):
    losses = weights[:, :2] ** 0.5
    one, two = (LightGBM(50, num_threads=n).fit(weights, losses).predict(weights) for n in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_the_log_linear_law_finds_itself_again(weights):
    rate = np.array([-3.0, -1.0, 0.5, 0.0])
    losses = 2.0 + np.exp(weights @ rate)
    model = LogLinear().fit(weights, losses[:, None])
    np.testing.assert_allclose(model.predict(weights)[:, 0], losses, atol=2e-3)


def test_the_power_law_finds_itself_again_and_extrapolates():
    rng = np.random.default_rng(3)
    affinity = np.array([3.0, 1.0, 0.2, 0.0])

    def law(weights):
        return 1.5 + 2.0 * (0.2 + np.sqrt(weights) @ affinity) ** -0.7

    seen = rng.dirichlet(np.full(4, 0.5), 200)
    beyond = 0.9 * np.eye(4) + 0.025
    model = PowerLaw().fit(seen, law(seen)[:, None])
    np.testing.assert_allclose(model.predict(seen)[:, 0], law(seen), atol=0.05)
    np.testing.assert_allclose(model.predict(beyond)[:, 0], law(beyond), atol=0.05)
    assert model.affinity_[0].argmax() == 0
    np.testing.assert_allclose(model.saturation_[0, :2], 0.5, atol=0.1)


def test_the_power_law_predicts_its_own_formula(weights):
    model = PowerLaw().fit(weights, np.sqrt(weights[:, :2]))
    powers = (weights[:, None, :] + 1e-4) ** model.saturation_  # runs x targets x domains
    tokens = model.offset_ + (model.affinity_ * powers).sum(axis=2)
    by_hand = model.floor_ + weights @ model.harm_.T + model.scale_ * tokens**-model.exponent_
    np.testing.assert_allclose(model.predict(weights), by_hand, rtol=1e-10)


def test_the_gaussian_process_learns_which_domains_matter(weights):
    model = GaussianProcess().fit(weights, np.sqrt(weights[:, [1]]))
    assert model.lengths_[0].argmin() == 1
    unseen = np.random.default_rng(4).dirichlet(np.ones(4), 50)
    np.testing.assert_allclose(model.predict(unseen)[:, 0], np.sqrt(unseen[:, 1]), atol=0.03)


def test_the_slope_of_the_posterior_is_that_of_finite_differences(weights):
    rng = np.random.default_rng(5)
    roots, standard = np.sqrt(weights[:30]), rng.normal(size=30)
    hyper = rng.normal(scale=0.3, size=6)
    _, slope = negative_log_posterior(hyper, roots, standard)
    for number in range(6):
        step = np.zeros(6)
        step[number] = 1e-5
        ahead, behind = (
            negative_log_posterior(hyper + way * step, roots, standard)[0] for way in (1.0, -1.0)
        )
        assert slope[number] == pytest.approx((ahead - behind) / 2e-5, rel=1e-5, abs=1e-6)


def test_kriging_adds_what_the_law_cannot_say(weights):
    losses = 1.0 / (0.1 + np.sqrt(weights[:, [0]])) + 2.0 * np.sin(6 * weights[:, [1]])
    unseen = np.random.default_rng(6).dirichlet(np.full(4, 0.6), 100)
    truth = 1.0 / (0.1 + np.sqrt(unseen[:, 0])) + 2.0 * np.sin(6 * unseen[:, 1])
    missed = [
        np.abs(family().fit(weights, losses).predict(unseen)[:, 0] - truth).mean()
        for family in (PowerLaw, KrigedPowerLaw)
    ]
    assert missed[1] < 0.5 * missed[0]


def test_kriging_leaves_a_law_that_says_it_all_alone():
    rng = np.random.default_rng(7)
    weights = rng.dirichlet(np.full(3, 0.6), 40)
    losses = 1.0 / (0.1 + np.sqrt(weights[:, [0]])) + rng.normal(scale=0.05, size=(40, 1))
    model = KrigedPowerLaw().fit(weights, losses)
    np.testing.assert_allclose(model.predict(weights), model.law_.predict(weights), atol=0.03)


def test_correlations_in_single_precision_are_those_in_double():
    rng = np.random.default_rng(0)
    runs, here = rng.random((300, 6)) / 0.1, rng.random((700, 6)) / 0.1
    here[0] = runs[0]
    for scale in (0.02, 1.0):
        coefficients = rng.normal(size=300)
        quick = correlate_quickly(scale * here, scale * runs, coefficients)
        exact = correlate_exactly(scale * here, scale * runs, coefficients)
        np.testing.assert_allclose(quick, exact, atol=1e-6 * np.abs(coefficients).sum())


def test_hyperparameters_are_learned_from_some_of_many_runs_and_all_of_few():
    assert telling_runs(200, 0).tolist() == list(range(200))
    some = telling_runs(600, 0)
    assert len(set(some.tolist())) == 256
    assert some.tolist() == telling_runs(600, 0).tolist() != telling_runs(600, 1).tolist()
