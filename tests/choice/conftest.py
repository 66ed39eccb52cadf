"""Regressors whose best mixture is known by hand, and runs to fit real ones on."""

import numpy as np
import pandas as pd
import pytest

from regmix_hf.regression import MixtureRegressor
from regmix_hf.regression.base import MixtureEstimator

NAMES = ("a", "b", "c")


class Hyperbolic(MixtureEstimator):
    """`loss_t(w) = sum_i (c_ti)^2 / w_i`, smallest over all mixtures where w is proportional to c_t."""

    is_smooth = True
    arrays = {"coefficients_": ("targets", "domains")}
    #: Keeps predictions finite at 0 without moving the optimum by more than a test can see.
    least = 1e-9

    def __init__(self, coefficients=None):
        self.coefficients_ = np.asarray(coefficients, dtype=np.float64)
        self.num_targets_, self.n_features_in_ = self.coefficients_.shape
        self.single_target_ = False

    def _predict(self, weights):
        return (1 / (weights + self.least)) @ (self.coefficients_**2).T

    def _gradient(self, weights):
        return -(self.coefficients_**2)[None] / ((weights + self.least) ** 2)[:, None, :]


@pytest.fixture
def hyperbolic():
    return Hyperbolic


@pytest.fixture(scope="session")
def runs():
    """Eighty runs of three domains that help their own losses and, a little, each other's."""
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(3), size=80)
    helped = weights @ np.array([[1.0, 0.2, 0.0], [0.2, 1.0, 0.1], [0.0, 0.1, 1.0]])
    losses = 2.0 + (0.02 + helped) ** -0.4 + rng.normal(scale=0.005, size=weights.shape)
    names = [f"r{number}" for number in range(len(weights))]
    return pd.DataFrame(weights, names, NAMES), pd.DataFrame(losses, names, NAMES)


@pytest.fixture(scope="session")
def fitted(runs):
    """Fit an estimator by name on `runs`, once."""
    models = {}

    def fit(estimator):
        if estimator not in models:
            models[estimator] = MixtureRegressor(estimator).fit(*runs)
        return models[estimator]

    return fit
