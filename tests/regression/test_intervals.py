"""Intervals: the quantile that conformal prediction asks for, narrower where predictions are good."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file
from scipy.stats import t as student

from regmix_hf.errors import RegressionError
from regmix_hf.quantities import read_names
from regmix_hf.regression import ESTIMATORS, MixtureRegressor
from regmix_hf.regression.folds import assign_folds
from regmix_hf.regression.intervals import Elsewhere, OutOfFold, ResidualSize, entropy, seed_noise
from regmix_hf.regression.target import Target

pytestmark = pytest.mark.long

EVEN = np.full((20, 4), 0.25)


def test_the_half_width_is_the_residual_of_the_right_rank():
    missed = OutOfFold(np.arange(1.0, 20.0)[:, None], np.zeros((19, 1)), np.ones(19))
    np.testing.assert_allclose(missed.half_widths(0.9, np.zeros((2, 1)), EVEN[:2]), 18.0)  # rank 0.9 * 20
    np.testing.assert_allclose(missed.half_widths(0.5, np.zeros((2, 1)), EVEN[:2]), 10.0)


def test_runs_without_a_loss_do_not_count():
    losses = np.append(np.arange(1.0, 20.0), np.nan)[:, None]
    missed = OutOfFold(losses, np.zeros((20, 1)), np.ones(20))
    np.testing.assert_allclose(missed.half_widths(0.9, np.zeros((1, 1)), EVEN[:1]), 18.0)


def test_too_few_runs_for_a_coverage_are_told_how_many_it_takes():
    missed = OutOfFold(np.ones((18, 1)), np.zeros((18, 1)), np.ones(18))
    with pytest.raises(RegressionError, match="needs 19 runs; there are 18"):
        missed.half_widths(0.95, np.zeros((1, 1)), EVEN[:1])
    with pytest.raises(RegressionError, match="coverage is 90"):
        missed.half_widths(90, np.zeros((1, 1)), EVEN[:1])


def test_less_than_nine_runs_have_students_interval():
    missed = OutOfFold(np.ones((8, 1)), np.zeros((8, 1)), np.ones(8))
    half = missed.half_widths(0.9, np.zeros((1, 1)), EVEN[:1])
    np.testing.assert_allclose(half, student.ppf(0.95, 7), rtol=1e-6)


def test_entropy_of_mixtures_is_0_for_one_domain_and_log_n_for_n_equal_ones():
    mixtures = np.array([[1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]])
    np.testing.assert_allclose(entropy(mixtures), [0.0, np.log(2), np.log(4)])


def test_sizes_that_double_are_learned_and_shrunk_and_not_extrapolated():
    place = np.linspace(-1.0, 1.0, 400)[:, None]
    size = ResidualSize.fit(place, 2.0 ** place[:, 0])
    assert 1.9 < size(np.array([[1.0]]))[0] / size(np.array([[0.0]]))[0] < 2.0
    assert size(np.array([[50.0]]))[0] == size(np.array([[100.0]]))[0]
    few = ResidualSize.fit(place[::40], 2.0 ** place[::40, 0])
    assert 0 < few.growth[0] < size.growth[0]


@pytest.mark.parametrize("missed", [np.zeros(10), np.ones(10)])
def test_residuals_of_one_size_make_intervals_of_one_width(missed):
    size = ResidualSize.fit(np.arange(10.0)[:, None], missed)
    np.testing.assert_allclose(size(np.array([[0.0], [5.0]])), 1.0, rtol=1e-4)


def test_a_size_without_its_own_run_is_near_that_of_a_fit_on_the_others():
    rng = np.random.default_rng(0)
    places = rng.normal(size=(40, 2))
    missed = rng.exponential(np.exp(0.5 * places[:, 0]))
    every = ResidualSize.fit(places, missed)
    refitted = []
    for run in range(40):
        others = np.arange(40) != run
        refitted.append(ResidualSize.fit(places[others], missed[others])(places[[run]])[0])
    without = every.without_own(places, missed)
    apart = [np.std(np.log(sizes / refitted)) for sizes in (without, every(places))]
    assert apart[0] < 0.5 * apart[1]


def test_the_runs_of_a_small_swarm_are_measured_by_sizes_that_they_had_no_part_in():
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(12):
        predicted, entropies = rng.normal(size=32), rng.random(32)
        missed = rng.exponential(np.exp(0.5 * predicted))
        (width,) = OutOfFold((predicted + missed)[:, None], predicted[:, None], entropies).sizes(0.9)
        places, measured = np.stack([predicted, entropies], axis=1), []
        for run in range(32):
            others = np.arange(32) != run
            size = ResidualSize.fit(places[others], missed[others])(places[[run]])[0]
            measured.append(missed[run] / size)
        shares.append(width.quantile / np.quantile(measured, 0.9, method="weibull"))
    assert 0.91 < np.mean(shares) < 1.05  # by sizes that each run has a part in: 0.87


def test_what_all_runs_share_says_nothing_of_the_size():
    places = np.column_stack([np.linspace(0, 1, 50), np.full(50, 0.1 + 0.2)])
    size = ResidualSize.fit(places, np.exp(places[:, 0]))
    np.testing.assert_array_equal(size(np.array([[0.5, 0.3]])), size(np.array([[0.5, 7.0]])))


def test_intervals_are_wider_where_runs_of_few_domains_were_missed_by_more():
    rng = np.random.default_rng(0)
    mixtures = rng.dirichlet(np.full(5, 0.3), 500)
    noise = np.exp(-entropy(mixtures)) * rng.normal(size=500)
    missed = OutOfFold(noise[:, None], np.zeros((500, 1)), entropy(mixtures))
    new = rng.dirichlet(np.full(5, 0.3), 4000)
    inside = (
        np.abs(np.exp(-entropy(new)) * rng.normal(size=4000))
        <= missed.half_widths(0.9, np.zeros((4000, 1)), new)[:, 0]
    )
    even = entropy(new) > np.median(entropy(new))
    assert 0.87 < inside[even].mean() < 0.93
    assert 0.87 < inside[~even].mean() < 0.93


def test_where_all_predictions_are_shifted_a_place_is_known_by_where_it_lies_among_them():
    rng = np.random.default_rng(6)
    predicted = rng.random((200, 2))
    here = OutOfFold(predicted + 0.1 * predicted * rng.normal(size=(200, 2)), predicted, np.ones(200))
    larger = replace(here, elsewhere=Elsewhere(2.0, np.array([-1.0, -0.5]), np.zeros(2)))
    mixtures, target = np.full((200, 4), 0.25), Target.parse(["a", "b"], read_names(["a", "b"]))
    halves = here.half_widths(0.9, predicted, mixtures)
    np.testing.assert_allclose(
        larger.half_widths(0.9, predicted + larger.elsewhere.shift, mixtures), 2 * halves
    )
    means = predicted.mean(axis=1, keepdims=True)
    of_mean = here.combined(target).half_widths(0.9, means, mixtures)
    there = larger.combined(target).half_widths(0.9, means - 0.75, mixtures)
    np.testing.assert_allclose(there, 2 * of_mean)
    assert halves.max() > 2 * halves.min()


def test_a_combined_target_has_the_residuals_of_the_combination():
    rng = np.random.default_rng(0)
    missed = OutOfFold(rng.normal(size=(30, 2)), rng.normal(size=(30, 2)), rng.random(30))
    mean = missed.combined(Target.parse("mean", read_names(["a", "b"])))
    np.testing.assert_allclose(mean.residuals[:, 0], missed.residuals.mean(axis=1))
    worst = missed.combined(Target.parse("worst", read_names(["a", "b"])))
    np.testing.assert_allclose(
        worst.residuals[:, 0], missed.losses.max(axis=1) - missed.predicted.max(axis=1)
    )


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_ninety_percent_intervals_hold_about_ninety_percent_of_new_runs(estimator, swarm):
    quick = {
        "auto": {"members": ("log_linear", "ridge")},  # each of the others is here alone
        "lightgbm": {"num_iterations": 60, "learning_rate": 0.1},
    }
    held = []
    for seed in range(2):
        runs = swarm(48, 300, seed=seed)
        model = MixtureRegressor(estimator, **quick.get(estimator, {})).fit(
            runs.weights[:48], runs.losses[:48]
        )
        lower, upper = model.predict_interval(runs.weights[48:])
        held.append(((lower <= runs.losses[48:]) & (runs.losses[48:] <= upper)).to_numpy().mean())
    print("HELD", estimator, held)
    assert 0.83 < np.mean(held) < 0.97


def test_runs_of_one_mixture_share_a_fold_and_folds_are_even():
    weights = np.repeat(np.random.default_rng(0).dirichlet(np.ones(3), 25), 2, axis=0)
    folds = assign_folds(weights, 10, 0, "a")
    assert (folds[::2] == folds[1::2]).all()
    assert set(np.bincount(folds)) == {4, 6}
    np.testing.assert_array_equal(folds, assign_folds(weights, 10, 0, "a"))
    assert (folds != assign_folds(weights, 10, 1, "a")).any()
    assert (folds != assign_folds(weights, 10, 0, "b")).any()


def test_there_are_no_more_folds_than_mixtures():
    assert set(assign_folds(np.eye(3), 10, 0, "a")) == {0, 1, 2}


def test_the_deviation_within_mixtures_is_pooled_and_rests_on_the_runs_beyond_the_first():
    losses = np.array([[1.0, 1.0], [1.2, np.nan], [9.0, 2.0], [3.0, 5.0], [3.4, 5.0]])
    deviation, freedom = seed_noise(losses, np.array([0, 0, 1, 2, 2]))
    np.testing.assert_allclose(deviation, [np.sqrt((0.02 + 0.08) / 2), 0.0])
    assert freedom.tolist() == [2, 1]
    deviation, freedom = seed_noise(losses[:3], np.arange(3))
    assert np.isnan(deviation).all()
    assert freedom.tolist() == [0, 0]


@pytest.mark.parametrize("shared", [0.0, 0.5, 1.0])
def test_repeats_make_intervals_hold_a_new_seed_whatever_it_does_to_all_alike(shared):
    """Residuals of runs of one seed do not hold what a seed does to all runs alike; a few repeats tell it."""
    rng = np.random.default_rng(0)
    held = {False: [], True: []}
    for _ in range(300):
        off, own, alike = (
            0.3,
            np.sqrt(1 - shared),
            np.sqrt(shared),
        )  # the law is off by 0.3, a seed by 1 in all
        law, swarm, others = off * rng.normal(size=32), alike * rng.normal(), alike * rng.normal(size=4)
        once = law + swarm + own * rng.normal(size=32)
        again = law[:4] + others + own * rng.normal(size=4)
        losses = (
            np.concatenate([once, again])[:, None] - swarm
        )  # the fit follows the seed that most runs share
        new = off * rng.normal() + own * rng.normal() + alike * rng.normal() - swarm
        for num_runs in (32, 36):
            mixture = np.arange(num_runs) % 32.0
            missed = OutOfFold(losses[:num_runs], np.zeros((num_runs, 1)), np.ones(num_runs), mixture)
            half = missed.half_widths(0.9, np.zeros((1, 1)), EVEN[:1])[0, 0]
            held[num_runs > 32].append(abs(new) <= half)
    assert np.mean(held[True]) > 0.8
    assert np.mean(held[False]) < 0.92 - 0.4 * shared


def test_a_regressor_says_whether_its_intervals_hold_the_noise_between_seeds(swarm):
    runs = swarm(32, 0, seed=0)
    losses = pd.concat([runs.losses, runs.losses[:4] + 0.5], ignore_index=True)
    weights = pd.concat([runs.weights, runs.weights[:4]], ignore_index=True)
    once = MixtureRegressor("ridge").fit(runs.weights, runs.losses)
    again = MixtureRegressor("ridge").fit(weights, losses)
    assert (once.holds_seed_noise, again.holds_seed_noise) == (False, True)
    lower, upper = again.predict_interval(weights)
    at_least = student.ppf(0.95, 4) * 0.5 / np.sqrt(2)
    assert ((upper - lower) / 2 >= at_least).all(axis=None)


def test_a_regressor_that_was_saved_without_the_mixtures_of_its_runs_is_read(swarm, tmp_path):
    runs = swarm(32, 0, seed=0)
    model = MixtureRegressor("ridge").fit(runs.weights, runs.losses)
    model.save_pretrained(tmp_path)
    arrays = load_file(tmp_path / "out_of_fold.safetensors")
    del arrays["mixture"]
    save_file(arrays, tmp_path / "out_of_fold.safetensors")
    read = MixtureRegressor.from_pretrained(tmp_path)
    assert not read.holds_seed_noise
    pd.testing.assert_frame_equal(
        read.predict_interval(runs.weights)[0], model.predict_interval(runs.weights)[0]
    )
