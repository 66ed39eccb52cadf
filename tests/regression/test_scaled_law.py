"""The scaled law predicts runs of sizes and lengths beyond those it was fitted on."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file
from scipy.stats import spearmanr

from regmix_hf.errors import RegressionError
from regmix_hf.regression import MixtureRegressor, size_process
from regmix_hf.regression.scaled_curve import ScaledCurve, ScaledLayout
from regmix_hf.regression.scaled_law import ScaledLaw
from regmix_hf.tables import SIZES

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def true_losses(weights, sizes):
    """Two targets whose shares of what small models lose depend on the mixture."""
    small, short = (sizes[:, 0] / 1e7) ** -0.25, (sizes[:, 1] / 1e9) ** -0.34
    first = (
        1.5 + 0.8 * (0.1 + weights[:, 0] ** 0.5) ** -0.4 + (0.5 + 0.2 * weights[:, 1]) * small + 0.5 * short
    )
    second = (
        1.2 + 0.6 * (0.2 + weights[:, 2] ** 0.4) ** -0.5 + 0.6 * small + (0.4 + 0.2 * weights[:, 0]) * short
    )
    return np.column_stack([first, second])


@pytest.fixture(scope="module")
def trajectories():
    """24 mixtures at two sizes, three lengths each."""
    rng = np.random.default_rng(0)
    weights = np.repeat(rng.dirichlet(np.ones(3), 24), 6, axis=0)
    sizes = np.tile([[n, d] for n in (1e7, 3e7) for d in (1e9, 2e9, 8e9)], (24, 1))
    losses = true_losses(weights, sizes) + rng.normal(scale=0.003, size=(144, 2))
    return weights, sizes, losses


@pytest.fixture(scope="module")
def fitted(trajectories):
    weights, sizes, losses = trajectories
    return MixtureRegressor("scaled_law").fit(weights, losses, sizes=pd.DataFrame(sizes, columns=list(SIZES)))


def test_the_trend_has_the_derivatives_that_it_says():
    rng = np.random.default_rng(0)
    weights, sizes, layout = rng.dirichlet(np.ones(4), 6), rng.normal(size=(6, 2)), ScaledLayout(4)
    raw = layout.prior(2).mean + rng.normal(scale=0.3, size=(2, layout.count))
    curve, step = ScaledCurve(weights, sizes), 1e-6
    by_parameter = [(curve(raw + d)[0] - curve(raw - d)[0]) / (2 * step) for d in step * np.eye(layout.count)]
    np.testing.assert_allclose(curve(raw)[1], np.stack(by_parameter, 2), rtol=1e-5, atol=1e-7)
    by_weight = [
        (ScaledCurve(weights + d, sizes)(raw)[0] - ScaledCurve(weights - d, sizes)(raw)[0]) / (2 * step)
        for d in step * np.eye(4)
    ]
    np.testing.assert_allclose(curve.by_weight(raw), np.stack(by_weight, 2), rtol=1e-3, atol=1e-4)


def test_it_predicts_a_larger_and_longer_run_than_it_has_seen(fitted):
    weights = np.random.default_rng(1).dirichlet(np.ones(3), 50)
    size = (6e7, 1.2e10)
    true, predicted = (
        true_losses(weights, np.tile(size, (50, 1))),
        fitted.at(*size).predict(weights).to_numpy(),
    )
    assert np.abs(predicted / true - 1).mean() < 0.01
    assert min(spearmanr(predicted[:, t], true[:, t])[0] for t in range(2)) > 0.98


def test_predictions_without_a_size_are_those_of_the_largest_that_ran_longest(fitted, trajectories):
    weights = trajectories[0][:5]
    pd.testing.assert_frame_equal(fitted.predict(weights), fitted.at(3e7, 8e9).predict(weights))
    assert fitted.num_runs_ == 24


def test_intervals_are_wider_beyond_the_largest_size_and_the_wider_the_farther(fitted, trajectories):
    weights = trajectories[0][:5]
    widths = []
    for size in (3e7, 6e7, 2.4e8):
        lower, upper = fitted.at(size, 8e9).predict_interval(weights)
        widths.append((upper - lower).to_numpy().mean())
    assert widths[0] < widths[1] < widths[2]


def test_intervals_of_runs_longer_than_all_of_their_one_size_are_wider(trajectories):
    weights, sizes, losses = (table[np.arange(144) % 6 < 3] for table in trajectories)
    model = MixtureRegressor("scaled_law").fit(
        weights, losses, sizes=pd.DataFrame(sizes, columns=list(SIZES))
    )
    here, twice, longer = (
        np.subtract(*model.at(1e7, tokens).predict_interval(weights[:3])[::-1]).mean()
        for tokens in (8e9, 1.6e10, 3.2e10)
    )
    assert (1.1 * here < twice).all()
    assert (1.1 * twice < longer).all()


@pytest.mark.parametrize("size", [(3e7, 8e9), (6e7, 8e9)], ids=["one that has runs", "another size"])
def test_where_one_size_is_asked_for_what_runs_add_is_summed_by_mixture(fitted, trajectories, size):
    seen, unseen = trajectories[0][:12], np.random.default_rng(6).dirichlet(np.ones(3), 12)
    weights, sizes = np.concatenate([seen, unseen]), np.tile(np.log(size), (24, 1))
    one_by_one = fitted.model.predict_runs(weights, sizes)
    np.testing.assert_allclose(fitted.at(*size).predict(weights), one_by_one, rtol=0, atol=1e-10)


def test_hyperparameters_are_sought_along_the_slope_of_their_likelihood():
    rng = np.random.default_rng(0)
    features, sizes = np.repeat(rng.random((8, 3)), 3, axis=0), rng.normal(size=(24, 2))
    places, left = size_process.Places(features, 2 * rng.normal(size=24), sizes), rng.normal(size=24)
    hyper = size_process._EXPECTED + rng.normal(scale=0.3, size=size_process.COUNT)
    evidence = size_process.Evidence.of(places, left)
    value, slope = evidence.misfit(hyper)
    whole = size_process.covariance(hyper, places, places) + np.diag(size_process._noise(hyper, places))
    explained = left @ np.linalg.solve(whole, left)
    assert value == pytest.approx(0.5 * (np.linalg.slogdet(whole)[1] + explained))
    steps = 1e-6 * np.eye(size_process.COUNT)
    both = [[evidence.misfit(hyper + sign * d)[0] for sign in (1, -1)] for d in steps]
    np.testing.assert_allclose(slope, np.subtract(*np.transpose(both)) / 2e-6, rtol=1e-5, atol=1e-6)


def test_where_all_runs_trained_equally_long_intervals_are_wider_the_farther_a_length_is_from_theirs(
    fitted, trajectories
):
    weights, sizes, losses = trajectories
    equally = sizes[:, 1] == 2e9
    table = pd.DataFrame(sizes[equally], columns=list(SIZES))
    model = MixtureRegressor("scaled_law").fit(weights[equally], losses[equally], sizes=table)
    widths = []
    for length in (2e9, 4e9, 8e9, 1e9):
        at, expected = model.at(3e7, length), true_losses(weights[::6], np.tile([3e7, length], (24, 1)))
        lower, upper = at.predict_interval(weights[::6])
        widths.append((upper - lower).to_numpy().mean())
        assert ((lower <= expected) & (expected <= upper)).to_numpy().mean() > 0.85
    assert widths[0] < 0.5 * widths[1] < 0.4 * widths[2]
    assert widths[3] == pytest.approx(widths[1], rel=0.1)
    by_a_fifth = 2 * 0.209 * np.log(2) * losses[equally].mean()
    assert widths[1] == pytest.approx(by_a_fifth, rel=0.1)
    assert not fitted.model.at(3e7, 4e9).elsewhere.unseen.any()


def test_what_mixtures_of_high_loss_are_missed_by_more_is_told_from_a_few_runs():
    rng = np.random.default_rng(5)
    targets = [
        size_process.Places(rng.random((30, 3)), rng.normal(size=30), np.zeros((30, 2))) for _ in "abc"
    ]
    noise = [rng.normal(size=30) for _ in targets]
    alike = size_process.learn(targets, noise)
    growing = [np.exp(at.trend) * values for at, values in zip(targets, noise, strict=True)]
    hyper = size_process.learn(targets, growing)
    assert alike[size_process._GROWTH] < 0.3 < 0.6 < hyper[size_process._GROWTH]


def test_a_law_saved_by_earlier_versions_is_read(fitted, trajectories, tmp_path):
    fitted.save_pretrained(tmp_path)
    file = tmp_path / "estimator.safetensors"
    arrays = load_file(file)
    before = {name: array for name, array in arrays.items() if name != "falls_"}
    save_file({**before, "hyper_": arrays["hyper_"][: size_process._GROWTH]}, file)
    loaded, weights = MixtureRegressor.from_pretrained(tmp_path), trajectories[0][:5]
    save_file({**arrays, "hyper_": np.append(arrays["hyper_"][: size_process._GROWTH], 0.0)}, file)
    pd.testing.assert_frame_equal(
        loaded.predict(weights), MixtureRegressor.from_pretrained(tmp_path).predict(weights)
    )


def test_what_one_mixture_or_checkpoint_has_for_itself_stays_at_sizes_that_have_runs():
    features, trend = np.random.default_rng(4).random((3, 2)), np.zeros(3)
    there = size_process.Places(features, trend, np.log([[1e6, 1e9]] * 3))
    own = np.full(size_process.COUNT, -20.0)
    own[[size_process._OWN, size_process._CELL, size_process._LENGTH]] = 0.0
    own[[size_process._SLOW_N, size_process._SLOW_D, size_process._FAST_N, size_process._FAST_D]] = 3.0
    for parameters, diagonal in ((1e6, 2.0), (1.1e6, 0.0)):
        here = size_process.Places(features, trend, np.log([[parameters, 1e9]] * 3))
        kept = size_process.covariance(own, here, there)
        assert np.diag(kept) == pytest.approx(diagonal, abs=1e-6)
        assert kept[0, 1] == pytest.approx(diagonal / 2, abs=1e-6)


@pytest.mark.parametrize("size", [(6e7, 8e9), (3e7, 8e9)], ids=["another size", "one that has runs"])
def test_its_gradient_is_that_of_its_predictions(fitted, size):
    model = fitted.at(*size)
    weights, step = np.random.default_rng(2).dirichlet(np.full(3, 3.0), 4), 1e-6
    gradient = model.gradient(weights)
    for one, other in ((0, 1), (1, 2)):
        away = step * (np.eye(3)[one] - np.eye(3)[other])
        slope = (model.predict(weights + away) - model.predict(weights - away)).to_numpy() / (2 * step)
        np.testing.assert_allclose(gradient[:, :, one] - gradient[:, :, other], slope, rtol=1e-4, atol=1e-6)


def test_a_few_runs_at_the_larger_size_bring_its_offset_and_slope():
    rng = np.random.default_rng(3)
    weights = rng.dirichlet(np.ones(3), 112)
    base = 2 - np.sqrt(weights[:, :2]) + rng.normal(scale=0.01, size=(112, 2))
    losses = np.where(np.arange(112)[:, None] < 100, base, 0.7 * base + 0.1)
    sizes = np.where(np.arange(112)[:, None] < 100, (1e6, 1e9), (6e7, 1e9))
    model = ScaledLaw().fit(weights, losses, sizes=sizes)
    unseen = rng.dirichlet(np.ones(3), 50)
    true = 2 - np.sqrt(unseen[:, :2])
    assert np.abs(model.predict(unseen) - (0.7 * true + 0.1)).mean() < 0.02
    for size in ([1e6, 1e9], [1.05e6, 1e9]):  # where the swarm tells all, that offset is no part of it
        small = model.predict_runs(unseen, np.log([size] * 50))
        assert np.abs(small - true).mean() < 0.02
        np.testing.assert_allclose(model.at(*size).predict(unseen), small)


@pytest.mark.parametrize("exponent", [0.18, 0.35])
def test_intervals_between_sizes_and_beyond_them_hold_what_another_exponent_would_do(exponent):
    rng = np.random.default_rng(4)
    weights, unseen = rng.dirichlet(np.ones(3), 33), rng.dirichlet(np.ones(3), 20)
    sizes = np.repeat([[1e6, 1e9], [6e7, 1e9]], [30, 3], axis=0)

    def true(weights, sizes):
        return 2 - np.sqrt(weights[:, :2]) + 2 * (sizes[:, :1] / 1e6) ** -exponent

    losses = true(weights, sizes) + rng.normal(scale=0.01, size=(33, 2))
    model = MixtureRegressor("scaled_law").fit(
        weights, losses, sizes=pd.DataFrame(sizes, columns=list(SIZES))
    )
    for size, off in ((1.2e6, 0.03), (8e6, 0.2), (6e7, 0.03), (1e9, 0.3)):
        at, expected = model.at(size, 1e9), true(unseen, np.tile([size, 1e9], (20, 1)))
        lower, upper = at.predict_interval(unseen)
        assert np.abs(at.predict(unseen) - expected).mean(axis=None) < off
        assert ((lower <= expected) & (expected <= upper)).mean(axis=None) > 0.85
        assert (upper - lower).mean(axis=None) < 6 * off


@pytest.mark.parametrize("count", [2, 3, 5])
def test_two_runs_that_are_far_off_alike_tell_of_an_offset_and_are_no_noise(count):
    rng = np.random.default_rng(3)
    weights, is_large = rng.dirichlet(np.ones(3), 60), np.arange(60)[:, None] >= 40
    base = 2 - np.sqrt(weights[:, :2])
    losses = np.where(is_large, base, base + 2.5) + rng.normal(scale=0.01, size=(60, 2))
    sizes = np.where(is_large, (6e7, 1e9), (1e6, 1e9))
    model = ScaledLaw().fit(weights[: 40 + count], losses[: 40 + count], sizes=sizes[: 40 + count])
    assert np.abs(model.at(6e7, 1e9).predict(weights[40:]) - base[40:]).mean() < 0.05


def test_a_target_that_no_larger_run_has_is_told_by_the_trend_and_has_no_interval_there():
    rng = np.random.default_rng(3)
    weights, is_large = rng.dirichlet(np.ones(3), 30), np.arange(30)[:, None] >= 18
    base = 2 - np.sqrt(weights[:, :2]) + rng.normal(scale=0.01, size=(30, 2))
    sizes = pd.DataFrame(np.where(is_large, (6e7, 1e9), (1e6, 1e9)), columns=list(SIZES))
    losses = np.where(is_large, [1.0, np.nan], 1.0) * base
    model = MixtureRegressor("scaled_law").fit(weights, losses, sizes=sizes)
    lower, upper = model.predict_interval(weights[:3])
    assert (upper.iloc[:, 0] - lower.iloc[:, 0] < 0.5).all()
    assert lower.iloc[:, 1].isna().all()
    assert np.isfinite(model.predict(weights[:3])).all(axis=None)


def test_families_of_one_size_refuse_runs_of_several_and_other_sizes(trajectories):
    weights, sizes, losses = trajectories
    table = pd.DataFrame(sizes, columns=list(SIZES))
    with pytest.raises(RegressionError, match="one size and length; these are of 6"):
        MixtureRegressor("power_law").fit(weights, losses, sizes=table)
    one = MixtureRegressor("ridge").fit(weights[::6], losses[::6], sizes=table[::6])
    with pytest.raises(RegressionError, match="the size that it was fitted on"):
        one.at(1e9, 1e9)


def test_runs_of_one_size_say_nothing_of_another(trajectories):
    weights, _, losses = trajectories
    model = ScaledLaw().fit(weights[::6], losses[::6], sizes=np.tile([1e7, 1e9], (24, 1)))
    with pytest.raises(RegressionError, match="all runs have 1e\\+07 parameters"):
        model.at(1e9, 1e9)


@pytest.mark.skipif(not (DATA / "scale-ladder").is_dir(), reason="the runs of scale-ladder are not here")
def test_it_predicts_the_largest_published_size_to_about_a_percent():
    runs = pd.read_csv(DATA / "scale-ladder" / "runs.csv")
    last = runs["n_tokens"].isin([7.998e9, 2e10]) | (runs["n_tokens"] == 2.592e10)
    runs = runs[last].reset_index(drop=True)
    weights = runs.filter(regex="^weight_").to_numpy()
    losses, sizes = runs.filter(regex="_loss$").to_numpy(), runs[["model_size", "n_tokens"]].to_numpy()
    large = sizes[:, 0] == 6.8e8
    model = ScaledLaw().fit(weights[~large], losses[~large], sizes=sizes[~large]).at(6.8e8, 2.592e10)
    predicted = model.predict(weights[large])
    assert np.abs(predicted / losses[large] - 1).mean() < 0.013
    ranks = [spearmanr(predicted[:, target], losses[large][:, target])[0] for target in range(8)]
    assert np.mean(ranks) > 0.97
