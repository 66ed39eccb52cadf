import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from regmix_hf.errors import RegressionError
from regmix_hf.regression.metrics import METRICS, Resamples, evaluate_metric, interval, measure

TRUTH = [1.0, 2.0, 4.0]
PREDICTED = [1.0, 3.0, 2.0]

losses = st.lists(st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.25, 7.0]), min_size=3, max_size=20)


def test_metrics_of_three_runs_are_those_worked_out_by_hand():
    quality = measure(TRUTH, PREDICTED)
    assert quality["spearman"] == pytest.approx(0.5)  # 1 - 6 * (0 + 1 + 1) / (3 * 8)
    assert quality["pearson"] == pytest.approx(1.0 / np.sqrt(14 / 3 * 2))
    assert quality["mse"] == pytest.approx((0 + 1 + 4) / 3)
    assert quality["mae"] == pytest.approx(1.0)
    assert quality["regret"] == 0.0


@given(losses, st.integers(0, 2**32 - 1))
def test_correlations_are_those_of_scipy(truth, seed):
    predicted = np.random.default_rng(seed).choice([0.0, 1.0, 2.0, 5.0], len(truth))
    if len(set(truth)) < 2 or len(set(predicted)) < 2:
        return
    quality = measure(truth, predicted)
    assert quality["spearman"] == pytest.approx(stats.spearmanr(truth, predicted).statistic)
    assert quality["pearson"] == pytest.approx(stats.pearsonr(truth, predicted).statistic)


def test_regret_is_the_loss_of_the_run_ranked_first_beyond_the_best():
    assert measure([3.0, 2.0, 2.5], [1.0, 1.5, 2.0])["regret"] == 1.0
    assert measure([3.0, 2.0, 2.5], [1.0, 1.0, 2.0])["regret"] == 0.5  # either of two, mean truth 2.5


def test_runs_without_a_loss_do_not_count():
    assert measure([*TRUTH, np.nan], [*PREDICTED, 9.0]) == measure(TRUTH, PREDICTED)


@pytest.mark.parametrize(
    ("truth", "predicted"), [([2.0, 2.0], [1.0, 2.0]), ([1.0, 2.0], [0.1, 0.1]), ([1.0], [1.0])]
)
def test_a_correlation_that_does_not_exist_is_nan(truth, predicted):
    quality = measure(truth, predicted)
    assert np.isnan(quality["spearman"])
    assert np.isnan(quality["pearson"])
    assert np.isfinite([quality["mse"], quality["mae"], quality["regret"]]).all()


def test_no_run_with_a_loss_gives_no_metric():
    assert all(np.isnan(value) for value in measure([np.nan], [1.0]).values())


def test_two_vectors_of_different_length_are_refused():
    with pytest.raises(RegressionError, match="shape"):
        measure([1.0, 2.0], [1.0])


def test_a_bootstrap_sample_has_the_metrics_of_its_runs():
    rng = np.random.default_rng(0)
    truth, predicted = rng.choice([1.0, 2.0, 3.0, 4.0], 12), rng.choice([1.0, 2.0, 3.0], 12)
    resamples = Resamples.draw(np.arange(12), np.random.default_rng(1))
    draws = resamples.metrics(truth, predicted)
    for sample in range(50):
        rows = np.repeat(np.arange(12), resamples.counts[sample].astype(int))
        expected = measure(truth[rows], predicted[rows])
        assert {name: draw[sample] for name, draw in draws.items()} == pytest.approx(expected, nan_ok=True)


def test_runs_of_one_mixture_are_drawn_together():
    counts = Resamples.draw([0, 0, 1, 2, 2, 3], np.random.default_rng(0)).counts
    np.testing.assert_array_equal(counts[:, 0], counts[:, 1])
    np.testing.assert_array_equal(counts[:, 3], counts[:, 4])
    np.testing.assert_array_equal(counts[:, [0, 2, 3, 5]].sum(axis=1), 4.0)
    assert len(np.unique(counts, axis=0)) > 5


def test_equal_seeds_draw_equal_samples():
    one, same, other = (
        Resamples.draw(np.arange(9), np.random.default_rng(seed)).counts for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_the_interval_of_a_mean_is_that_of_the_normal_approximation():
    rng = np.random.default_rng(0)
    error = rng.normal(size=400)
    draws = Resamples.draw(np.arange(400), np.random.default_rng(0)).metrics(np.zeros(400), error)["mse"]
    low, high = interval(draws)
    half_width = 1.96 * (error**2).std() / 20
    assert (low, high) == pytest.approx(
        ((error**2).mean() - half_width, (error**2).mean() + half_width), rel=0.04
    )


def test_no_interval_where_the_metric_rarely_exists():
    draws = np.array([0.5, np.nan, np.nan])
    assert np.isnan(interval(draws)).all()


@pytest.mark.parametrize("metric", METRICS)
def test_few_mixtures_tell_no_interval(metric):
    def of(count):
        truth = np.arange(count, dtype=float)
        draws = Resamples.draw(range(count), np.random.default_rng(0)).metrics(truth, truth + truth % 2)
        return interval(draws[metric])

    assert np.isnan(of(3)).all()
    assert np.isfinite(of(4)).all()


def test_evaluate_metrics_work_offline_and_agree():
    expected = measure(TRUTH, PREDICTED)
    for name in METRICS:
        metric = evaluate_metric(name)
        assert metric.compute(predictions=PREDICTED, references=TRUTH) == {
            name: pytest.approx(expected[name])
        }
    metric = evaluate_metric("mae")
    for truth, predicted in zip(TRUTH, PREDICTED, strict=True):
        metric.add(prediction=predicted, reference=truth)
    assert metric.compute() == {"mae": 1.0}


def test_an_unknown_metric_is_named():
    with pytest.raises(RegressionError, match="did you mean 'spearman'"):
        evaluate_metric("spearmann")
