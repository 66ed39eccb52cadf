"""Many small fits at once: each ends where it would alone, and slopes written by hand are the true ones."""

import numpy as np
import pytest
from scipy.optimize import minimize

from regmix_hf.regression import least_squares
from regmix_hf.regression.least_squares import Observations, Prior, minimise
from regmix_hf.regression.log_linear import LogLinearCurve
from regmix_hf.regression.power_law import Layout, PowerLawCurve


class Decay:
    """`f(x) = a * exp(-b * t)` at fixed times."""

    times = np.linspace(0.0, 3.0, 12)

    def __call__(self, parameters):
        a, b = parameters.T[:, :, None]
        falling = np.exp(-b * self.times)
        return a * falling, np.stack([falling, -a * self.times * falling], axis=2)


def weak(shape):
    return Prior(np.zeros(shape), np.full(shape, 1e-9))


def test_curves_without_noise_are_found_again():
    true = np.array([[2.0, 0.5], [1.0, 1.5], [-3.0, 0.1]])
    values, _ = Decay()(true)
    observed = Observations(values, np.ones_like(values), scale=1.0)
    found = minimise(Decay(), np.ones_like(true), weak(true.shape), observed, max_steps=100)
    np.testing.assert_allclose(found, true, rtol=1e-4)


def test_the_minimum_is_that_of_a_general_optimiser():
    rng = np.random.default_rng(1)
    values = Decay()(np.array([[2.0, 0.7]]))[0] + rng.normal(scale=0.1, size=(1, 12))
    mean, precision = np.array([[1.0, 1.0]]), np.array([[0.5, 2.0]])

    def cost(x):
        residual = Decay()(x[None])[0][0] - values[0]
        charbonnier = 0.2**2 * (np.sqrt(1 + (residual / 0.2) ** 2) - 1)
        return charbonnier.sum() + 0.5 * (precision[0] * (x - mean[0]) ** 2).sum()

    observed = Observations(values, np.ones_like(values), scale=0.2)
    found = minimise(Decay(), mean, Prior(mean, precision), observed, max_steps=100)
    expected = minimize(cost, mean[0], tol=1e-12).x
    np.testing.assert_allclose(found[0], expected, rtol=2e-3)


def test_fewer_points_than_parameters_end_where_points_that_do_not_count_are_added():
    """The smaller of two systems is solved: with 8 points the dual one, with 40 that of 14 parameters."""
    rng = np.random.default_rng(2)
    weights = rng.dirichlet(np.ones(3), 40)
    layout, values = Layout(3), rng.normal(size=(2, 40))
    precision = np.zeros((2, 40))
    precision[:, :8] = rng.uniform(0.5, 1.5, (2, 8))
    prior = layout.prior(2)
    many, few = (
        minimise(
            PowerLawCurve(weights[:count]),
            prior.mean,
            prior,
            Observations(values[:, :count], precision[:, :count], 0.1),
            max_steps=200,
        )
        for count in (40, 8)
    )
    np.testing.assert_allclose(few, many, rtol=1e-4, atol=1e-4)


def test_one_wild_value_hardly_moves_a_robust_fit_and_a_masked_one_not_at_all():
    true = np.array([[2.0, 0.5]])
    values, _ = Decay()(true)
    wild = values.copy()
    wild[0, 4] += 50.0
    mask = np.ones_like(values)
    mask[0, 4] = 0.0
    start = np.ones_like(true)
    robust = minimise(Decay(), start, weak(true.shape), Observations(wild, 0 * mask + 1, 0.01), max_steps=200)
    masked = minimise(Decay(), start, weak(true.shape), Observations(wild, mask, 0.01), max_steps=200)
    np.testing.assert_allclose(robust, true, rtol=0.05)
    np.testing.assert_allclose(masked, true, rtol=1e-4)


@pytest.mark.parametrize("numbers", [1, 100, 1 << 18])
def test_a_problem_does_not_feel_the_others_in_its_batch(numbers, monkeypatch):
    rng = np.random.default_rng(2)
    values = rng.normal(size=(7, 12))
    observed, start = Observations(values, np.ones_like(values), 0.5), np.ones((7, 2))
    prior = Prior(start, np.full((7, 2), 0.1))
    monkeypatch.setattr(least_squares, "_BATCH_NUMBERS", numbers)
    together = minimise(Decay(), start, prior, observed, max_steps=50)
    for row in range(7):
        one = np.array([row])
        alone = minimise(Decay(), start[one], prior.rows(one), observed.rows(one), max_steps=50)
        np.testing.assert_allclose(together[one], alone, rtol=1e-9)
    np.testing.assert_array_equal(start, 1.0)


@pytest.mark.parametrize(("family", "size"), [(PowerLawCurve, 5 + 3 * 4), (LogLinearCurve, 1 + 4)])
def test_slopes_written_by_hand_are_those_of_finite_differences(family, size):
    rng = np.random.default_rng(3)
    weights = rng.dirichlet(np.full(4, 0.3), 9)
    weights[0] = [1.0, 0.0, 0.0, 0.0]
    curve, at = family(weights), rng.normal(scale=0.7, size=(3, size))
    _, jacobian = curve(at)
    for parameter in range(size):
        step = np.zeros(size)
        step[parameter] = 1e-6
        difference = (curve(at + step)[0] - curve(at - step)[0]) / 2e-6
        np.testing.assert_allclose(jacobian[:, :, parameter], difference, rtol=1e-5, atol=1e-8)


def test_the_raw_parameters_of_the_power_law_do_not_overlap():
    layout = Layout(domains=3)
    taken = [layout.floor, layout.scale, layout.exponent, layout.offset, layout.saturation]
    for part in (layout.affinities, layout.saturations, layout.harms):
        taken += range(part.start, part.stop)
    assert sorted(taken) == list(range(layout.prior(1).mean.shape[1]))
