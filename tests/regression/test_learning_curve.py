import numpy as np
import pandas as pd
import pytest

from regmix_hf.progress import Silent
from regmix_hf.regression.learning_curve import _extrapolate, _gains, learning_curve
from regmix_hf.regression.target import Target
from regmix_hf.runs.runs import Runs


def curve_of(runs, estimators, target="mean", held_out=None, **arguments):
    goal = Target.parse(target, runs.quantities)
    arguments = {"random_state": 0, "progress": Silent()} | arguments
    return learning_curve(runs.part("fit"), held_out, estimators, goal, **arguments)


def test_correlation_grows_with_the_runs_and_every_size_has_its_subsets(swarm):
    runs = swarm(64, 60)
    table = curve_of(runs, ["ridge"], held_out=runs.part("holdout")).table()
    assert list(table["num_runs"]) == [11, 16, 23, 32, 45, 64]
    assert list(table["num_subsets"]) == [5, 5, 5, 5, 5, 1]
    assert table["mean"].iloc[-1] > table["mean"].iloc[0]
    assert (table["lower"] <= table["mean"]).all()
    assert (table["mean"] <= table["upper"]).all()


def test_without_holdout_runs_the_fitted_ones_are_predicted_from_other_folds(swarm):
    table = curve_of(swarm(40), ["own_weight"], "sums").table()
    assert list(table["num_runs"]) == [6, 8, 11, 16, 23, 32]
    assert list(table["num_subsets"]) == [3, 3, 3, 3, 3, 1]  # each of them five subsets, one per fold
    # Rank of minus the weight, whatever it is fitted on; folds only break ties.
    assert table["mean"].iloc[-1] > 0.9


def test_of_many_runs_one_fifth_is_held_out(swarm):
    table = curve_of(swarm(120), ["own_weight"], "sums").table()
    assert list(table["num_runs"]) == [17, 24, 34, 48, 68, 96]
    assert np.ptp(table["mean"]) < 1e-12  # the same 24 runs are ranked each time, by the same weight


def test_mixtures_that_were_run_with_several_seeds_are_drawn_whole(swarm):
    runs = swarm(24)
    twice = pd.concat([runs.weights, runs.weights.rename("{}-again".format)])
    losses = pd.concat([runs.losses, runs.losses.rename("{}-again".format) + 0.01])
    doubled = Runs(twice, losses, pd.Series("fit", index=twice.index))
    table = curve_of(doubled, ["ridge"]).table()
    assert list(table["num_runs"]) == [27, 38]  # of 38 to 40 runs outside a fold; 10 mixtures are 20 runs


def test_the_same_seed_gives_the_same_curve(swarm):
    runs = swarm(24, 20)
    one, same, other = (
        curve_of(runs, ["ridge"], held_out=runs.part("holdout"), random_state=seed) for seed in (1, 1, 2)
    )
    pd.testing.assert_frame_equal(one.points, same.points)
    assert one.gains == same.gains
    assert not one.points["spearman"].equals(other.points["spearman"])


def test_few_runs_cannot_tell_what_more_would_bring(swarm):
    runs = swarm(16, 20)
    curve = curve_of(runs, ["ridge"], held_out=runs.part("holdout"))
    assert curve.gains == {}
    assert "too few to tell" in curve.outlook("ridge")


def test_too_few_runs_for_any_size_give_an_empty_curve(swarm):
    curve = curve_of(swarm(9), ["ridge"])
    assert curve.table().empty
    assert "too few to tell" in curve.outlook("ridge")


def test_the_outlook_says_a_number_of_runs_and_a_limit(swarm):
    runs = swarm(64, 60)
    curve = curve_of(runs, ["ridge"], held_out=runs.part("holdout"))
    assert [gain.num_more for gain in curve.gains["ridge"]] == [32, 64, 192]
    for gain in curve.gains["ridge"]:
        assert 0 <= gain.expected <= gain.at_most <= 2
    assert curve.outlook("ridge").startswith("64 more runs would bring at most +")


def test_more_runs_cannot_bring_more_than_there_is_left():
    sizes, rng = np.repeat([3, 4, 6, 8], 3), np.random.default_rng(0)
    found = 0.6 + rng.normal(size=12) * 0.3 * (sizes < 8)
    points = pd.DataFrame({"num_runs": sizes, "spearman": found})
    for gain in _gains(points, found[:, None] + rng.normal(size=(12, 50)) * 0.3, 8, rng):
        assert 0 <= gain.expected <= gain.at_most <= 0.4 + 1e-9


def test_a_predictor_that_needs_no_runs_gains_nothing_from_more(swarm):
    runs = swarm(64, 60)
    curve = curve_of(runs, ["own_weight"], "sums", held_out=runs.part("holdout"))
    assert all(gain.at_most == pytest.approx(0, abs=1e-6) for gain in curve.gains["own_weight"])


def test_runs_without_the_loss_take_no_part(swarm):
    runs = swarm(64, 20)
    runs.losses.iloc[:32, 2] = np.nan
    curve = curve_of(runs, ["ridge"], "sums", held_out=runs.part("holdout"))
    assert curve.points["num_runs"].max() == 32
    assert [gain.num_more for gain in curve.gains["ridge"]] == [16, 32, 96]


def test_a_power_law_is_continued_exactly():
    sizes = np.array([16.0, 32.0, 64.0, 128.0])
    errors = np.array([0.02 + 0.8 * sizes**-0.5, 0.5 * sizes**-1.0, np.full(4, 0.3)])
    fall = _extrapolate(sizes, errors, 128, 512)
    expected = [0.8 * (128**-0.5 - 512**-0.5), 0.5 * (1 / 128 - 1 / 512), 0.0]
    np.testing.assert_allclose(fall, expected, atol=1e-9)


def test_an_error_that_grows_with_the_runs_is_continued_flat():
    fall = _extrapolate(np.array([8.0, 16.0, 32.0, 64.0]), np.array([[0.1, 0.2, 0.3, 0.4]]), 64, 128)
    assert fall == pytest.approx([0.0])


def test_progress_counts_the_subsets(swarm, recorder):
    curve = curve_of(swarm(20, 20), ["ridge"], progress=recorder)
    assert recorder.total == len(curve.points)
    assert recorder.updates[-1][0] == recorder.total
