"""What every family promises: the scikit-learn contract, missing losses, slopes, and few runs."""

import numpy as np
import pytest
from sklearn.base import clone

from regmix_hf.errors import RegressionError
from regmix_hf.regression import ESTIMATORS, base
from regmix_hf.regression.registry import build_estimator, estimator_class

pytestmark = pytest.mark.long

QUICK = {"auto": {"members": ("power_law", "ridge")}, "lightgbm": {"num_iterations": 30}}
SMOOTH = [name for name in ESTIMATORS if name not in ("lightgbm", "auto")]


@pytest.fixture(scope="module")
def runs():
    """Forty runs over five domains; the last of three targets is no domain's loss."""
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.full(5, 0.5), 40)
    helps = np.array([[1.0, 0.3, 0.1, 0.0, 0.2], [0.1, 1.0, 0.0, 0.2, 0.1], [0.3, 0.5, 0.2, 0.4, 0.1]])
    losses = 2.0 + (0.05 + np.sqrt(weights) @ helps.T) ** -0.5 + rng.normal(scale=0.01, size=(40, 3))
    return weights, losses, [0, 1, -1]


def build(name, **params):
    return build_estimator(name, 0, {**QUICK.get(name, {}), **params})


@pytest.mark.parametrize("name", ESTIMATORS)
def test_equal_fits_predict_equally_and_parameters_survive_cloning(name, runs):
    weights, losses, own = runs
    first = build(name).fit(weights, losses, own_domains=own)
    second = clone(first).fit(weights, losses, own_domains=own)
    assert first.get_params() == second.get_params()
    np.testing.assert_array_equal(first.predict(weights), second.predict(weights))
    assert first.predict(weights).shape == (40, 3)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_missing_loss_is_as_a_run_that_was_not_there(name, runs):
    weights, losses, own = runs
    holes = losses.copy()
    holes[:6, 1] = np.nan
    with_holes = build(name).fit(weights, holes, own_domains=own).predict(weights)
    without = build(name).fit(weights[6:], losses[6:, [1]], own_domains=[1]).predict(weights)
    # Ridge deals its folds over all runs, so its penalty may differ between the two; the power laws of
    # several targets tell about each other.
    tolerance = 2e-2 if name in ("ridge", "auto", "power_law", "kriged_power_law", "scaled_law") else 1e-5
    np.testing.assert_allclose(with_holes[:, [1]], without, rtol=tolerance)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_one_target_as_a_vector_is_predicted_as_a_vector(name, runs):
    weights, losses, _ = runs
    model = build(name).fit(weights, losses[:, 0], own_domains=[0])
    assert model.predict(weights).shape == (40,)
    assert model.score(weights, losses[:, 0]) > 0.2


@pytest.mark.parametrize("name", ESTIMATORS)
def test_too_few_runs_are_told_how_many_it_takes(name, runs):
    weights, losses, _ = runs
    needed = estimator_class(name).min_runs(5)
    build(name).fit(weights[:needed], losses[:needed])
    with pytest.raises(
        RegressionError, match=f"at least {needed} runs of different mixtures|minimum of 2 is"
    ):
        build(name).fit(weights[: needed - 1], losses[: needed - 1])
    holes = losses[:needed].copy()
    holes[0, 2] = np.nan
    with pytest.raises(RegressionError, match=f"target 2 has {needed - 1}"):
        build(name).fit(weights[:needed], holes)


@pytest.mark.parametrize("name", SMOOTH)
def test_the_gradient_is_that_of_finite_differences(name, runs):
    weights, losses, own = runs
    model = build(name).fit(weights, losses, own_domains=own)
    rng = np.random.default_rng(1)
    at = rng.dirichlet(np.ones(5), 6) + 0.01
    gradient = model.gradient(at)
    assert gradient.shape == (6, 3, 5)
    for domain in range(5):
        step = np.zeros(5)
        step[domain] = 1e-6
        difference = (model.predict(at + step) - model.predict(at - step)) / 2e-6
        np.testing.assert_allclose(gradient[:, :, domain], difference, rtol=1e-4, atol=1e-5)


def test_trees_have_no_gradient(runs):
    weights, losses, _ = runs
    with pytest.raises(RegressionError, match="no gradient"):
        build("lightgbm").fit(weights, losses).gradient(weights)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_predictions_do_not_depend_on_the_chunks_they_are_made_in(name, runs, monkeypatch):
    weights, losses, own = runs
    model = build(name).fit(weights, losses, own_domains=own)
    whole = model.predict(weights)
    monkeypatch.setattr(base, "_CHUNK_NUMBERS", 3 * 40)
    np.testing.assert_allclose(model.predict(weights), whole, rtol=1e-12)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_no_run_is_predicted_by_a_fit_that_saw_it(name, runs):
    weights, losses, own = runs
    model = build(name).fit(weights, losses, own_domains=own)
    honest = model.out_of_fold(weights, losses, own)
    moved = losses.copy()
    moved[7] += 0.3
    moved_model = build(name).fit(weights, moved, own_domains=own)
    unseen = moved_model.out_of_fold(weights, moved, own)
    # The run's own prediction may only move through what is chosen once for all runs.
    assert np.abs(unseen[7] - honest[7]).max() < 0.03
    assert np.abs(moved_model.predict(weights[[7]]) - model.predict(weights[[7]])).max() < 0.3


@pytest.mark.parametrize("name", ["power_law", "kriged_power_law", "gaussian_process", "auto"])
def test_twenty_runs_over_eight_domains_rank_a_validation_only_target(name):
    rng = np.random.default_rng(5)
    weights = rng.dirichlet(np.full(8, 0.5), 220)
    helps = np.array([0.9, 0.5, 0.3, 0.1, 0.05, 0.0, 0.0, 0.2])
    losses = 3.0 + (0.1 + np.sqrt(weights) @ helps) ** -0.5 + rng.normal(scale=0.01, size=220)
    model = build(name).fit(weights[:20], losses[:20])
    predicted = model.predict(weights[20:])
    assert np.corrcoef(predicted.argsort().argsort(), losses[20:].argsort().argsort())[0, 1] > 0.9


@pytest.mark.parametrize(
    ("weights", "losses", "message"),
    [
        (np.full((9, 2), 0.5), np.ones((8, 1)), "inconsistent numbers of samples"),
        (np.full((9, 2), -0.5), np.ones((9, 1)), "Negative values"),
        (np.full((9, 2), np.nan), np.ones((9, 1)), "X contains NaN"),
        (np.ones(9), np.ones((9, 1)), "Expected 2D array"),
        (np.full((9, 2), 0.5), np.full((9, 1), np.inf), "y contains infinity"),
        (np.full((9, 2), 0.5), np.ones((9, 0)), r"0 feature\(s\)"),
    ],
)
def test_matrices_that_are_no_runs_are_refused(weights, losses, message):
    with pytest.raises(RegressionError, match=message):
        build("power_law").fit(weights, losses)


def test_predicting_before_fitting_or_over_other_domains_is_refused(runs):
    weights, losses, _ = runs
    with pytest.raises(RegressionError, match="not fitted"):
        build("ridge").predict(weights)
    with pytest.raises(RegressionError, match="X has 4 features, but Ridge is expecting 5"):
        build("ridge").fit(weights, losses).predict(weights[:, :4])
    with pytest.raises(RegressionError, match=r"own_domains \[0, 1, 5\]"):
        build("ridge").fit(weights, losses, own_domains=[0, 1, 5])
