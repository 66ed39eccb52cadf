"""What repeating text costs: found in runs that repeat, told apart from the law, and asked for other runs."""

import numpy as np
import pandas as pd
import pytest

from regmix_hf.errors import RegressionError
from regmix_hf.regression import MixtureRegressor
from regmix_hf.regression.least_squares import Prior
from regmix_hf.regression.power_law import Layout, PowerLawCurve
from regmix_hf.regression.repetition import Repeats
from regmix_hf.regression.target import Target

DOMAINS = ["web", "code", "rare"]
#: How often a run of one domain alone reads it.
PASSES = np.array([0.5, 2.0, 60.0])


def losses_of(weights, passes):
    """Help fades as text is repeated (Muennighoff et al. 2023, eq. 5), memorising costs: not our formula."""
    epochs = weights * passes
    again = np.maximum(epochs, 1.0) - 1.0
    useful = weights / np.maximum(epochs, 1.0) * (1 + 5.0 * (1 - np.exp(-again / 5.0)))
    harm = 0.04 * np.maximum(np.log(np.maximum(epochs, 1.0) / 8), 0.0) ** 2
    return 2.0 + (0.1 + 2 * np.sqrt(useful) + 0.3 * np.sqrt(useful.sum(axis=1, keepdims=True))) ** -0.5 + harm


def mixtures(num_runs, seed):
    return pd.DataFrame(np.random.default_rng(seed).dirichlet(np.full(3, 0.6), num_runs), columns=DOMAINS)


def swarm(num_runs=48):
    weights = mixtures(num_runs, 0)
    noise = np.random.default_rng(1).normal(0, 0.004, weights.shape)
    losses = pd.DataFrame(losses_of(weights.to_numpy(), PASSES) + noise, columns=DOMAINS)
    return weights, losses, weights * PASSES


@pytest.fixture(scope="module")
def repeated():
    weights, losses, epochs = swarm()
    return MixtureRegressor("power_law").fit(weights, losses, epochs=epochs)


def off(regressor, passes):
    """Mean absolute error over unseen mixtures, in nats."""
    unseen = mixtures(300, 2)
    return np.abs(regressor.predict(unseen).to_numpy() - losses_of(unseen.to_numpy(), passes)).mean()


def test_the_term_has_the_derivatives_that_it_says():
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(3), 7)
    repeats = Repeats(np.log1p(weights * PASSES)[:, 1:], rng.normal(size=7))
    curve, prior = repeats.added_to(PowerLawCurve(weights), Layout(3).prior(2))
    assert isinstance(prior, Prior)
    at = prior.mean + 0.3 * rng.normal(size=prior.mean.shape)
    found = curve(at)[1]
    for column in range(at.shape[1]):
        step = 1e-6 * np.eye(at.shape[1])[column]
        slope = (curve(at + step)[0] - curve(at - step)[0]) / 2e-6
        assert found[:, :, column] == pytest.approx(slope, abs=1e-7)


def test_a_law_that_sees_epochs_predicts_runs_that_repeat_better_and_runs_that_repeat_otherwise(repeated):
    weights, losses, _ = swarm()
    blind = MixtureRegressor("power_law").fit(weights, losses)
    assert off(repeated, PASSES) < 0.8 * off(blind, PASSES)
    tokens = dict(zip(DOMAINS, 1e9 / PASSES, strict=True))
    longer = repeated.reading(tokens, 3e9)
    assert off(longer, 3 * PASSES) < 0.6 * off(blind, 3 * PASSES)
    assert off(longer, 3 * PASSES) < off(repeated, 3 * PASSES)
    assert repeated.reading(tokens, 1e9).predict(weights).to_numpy() == pytest.approx(
        repeated.predict(weights).to_numpy()
    )


def test_its_intervals_hold_new_runs_that_repeat(repeated):
    unseen = mixtures(300, 3)
    lower, upper = (bound.to_numpy() for bound in repeated.predict_interval(unseen))
    true = losses_of(unseen.to_numpy(), PASSES) + np.random.default_rng(8).normal(0, 0.004, (300, 3))
    assert ((lower <= true) & (true <= upper)).mean() >= 0.85
    assert np.median(upper - lower) < 0.1 * true.std()


def test_intervals_are_wider_by_what_rests_on_more_epochs_than_any_run_read(repeated):
    weights, _, _ = swarm()
    pure, tokens = np.eye(3), dict(zip(DOMAINS, 1e9 / PASSES, strict=True))
    target = Target.parse("mean", repeated.quantities_)

    def halves(model):
        lower, upper = model.predict_interval(pure)
        one = model.predict_target(pure, target)
        return ((upper - lower) / 2).to_numpy(), ((one["upper"] - one["lower"]) / 2).to_numpy()

    longer = repeated.reading(tokens, 4e9)
    beyond, (wide, wide_mean) = longer.model.beyond(pure)[2], halves(longer)
    assert beyond.min() > 0
    assert (wide[2] >= np.maximum(beyond, halves(repeated)[0][2])).all()
    assert wide_mean[2] >= beyond.mean()
    for as_often in (repeated, repeated.reading(tokens, 0.5e9)):
        assert not as_often.model.beyond(weights.to_numpy()).any()


def test_the_gradient_is_that_of_predictions():
    weights, losses, epochs = swarm(14)
    regressor = MixtureRegressor("kriged_power_law").fit(weights, losses, epochs=epochs)
    regressor = regressor.reading(dict(zip(DOMAINS, 2 / PASSES, strict=True)), 5.0)
    at = np.random.default_rng(4).dirichlet(np.ones(3), 5)
    # Off the simplex, where only the estimator goes.
    found, predict = regressor.model.gradient(at), regressor.model.predict
    for column in range(3):
        step = 1e-6 * np.eye(3)[column]
        slope = (predict(at + step) - predict(at - step)) / 2e-6
        assert found[:, :, column] == pytest.approx(slope, rel=1e-4, abs=1e-6)


def test_one_target_of_a_law_counts_repetition_as_all_of_them_do(repeated):
    unseen = mixtures(9, 5)
    for law in (repeated, repeated.reading(dict.fromkeys(DOMAINS, 1e6), 1e8)):
        rare = law.model.select_targets([2]).predict(unseen.to_numpy())
        assert rare[:, 0] == pytest.approx(law.predict(unseen)["rare"].to_numpy(), abs=1e-12)


def test_where_nothing_is_read_twice_epochs_change_no_number():
    weights, losses, epochs = swarm(12)
    plain = MixtureRegressor("power_law").fit(weights, losses)
    told = MixtureRegressor("power_law").fit(weights, losses, epochs=epochs / epochs.max())
    assert not told.knows_repetition
    assert (told.predict(weights) == plain.predict(weights)).all(axis=None)
    assert (told.out_of_fold_residuals == plain.out_of_fold_residuals).all()
    with pytest.raises(RegressionError, match="more than once"):
        told.reading(dict.fromkeys(DOMAINS, 1.0), 1.0)


def test_runs_of_two_sizes_tell_what_repeating_costs_at_each_length():
    weights = pd.concat([mixtures(12, 6)] * 2, ignore_index=True)
    sizes = pd.DataFrame({"num_parameters": [1e6, 8e6], "num_train_tokens": [1e9, 2e9]}).loc[[0, 1]]
    sizes = sizes.loc[np.repeat([0, 1], 12)].reset_index(drop=True)
    longer = sizes["num_train_tokens"].to_numpy()[:, None] / 1e9
    losses = losses_of(weights.to_numpy(), longer * PASSES) - 0.1 * (longer - 1)
    table = pd.DataFrame(losses, columns=DOMAINS)
    law = MixtureRegressor("scaled_law").fit(weights, table, sizes=sizes, epochs=weights * longer * PASSES)
    pure = pd.DataFrame(np.eye(3), columns=DOMAINS)
    cost = [law.at(8e6, length).model.repetition_(pure.to_numpy())[2, 2] for length in (1e9, 2e9, 4e9)]
    assert 0 < cost[0] < cost[1] < cost[2]
    assert law.at(8e6, 4e9).model.repetition_.passes == pytest.approx(4 * PASSES)


def test_epochs_that_nobody_can_use_are_refused(repeated):
    weights, losses, epochs = swarm(12)
    with pytest.raises(RegressionError, match="ridge takes no epochs"):
        MixtureRegressor("ridge").fit(weights, losses, epochs=epochs)
    with pytest.raises(RegressionError, match="every run and domain"):
        MixtureRegressor("power_law").fit(weights, losses, epochs=epochs.drop(columns="code"))
    with pytest.raises(RegressionError, match="code"):
        repeated.reading({"web": 1.0, "rare": 1.0}, 1.0)
