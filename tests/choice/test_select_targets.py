"""Choosing predicts only the targets it is judged on."""

import numpy as np
import pytest

from regmix_hf.regression import ESTIMATORS, MixtureRegressor

pytestmark = pytest.mark.long


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_part_of_the_targets_is_predicted_as_in_the_whole(runs, estimator):
    quick = {"lightgbm": {"num_iterations": 20}, "auto": {"members": ("power_law", "ridge")}}
    weights = runs[0].to_numpy()
    model = MixtureRegressor(estimator, **quick.get(estimator, {})).fit(*runs).model
    part = model.select_targets([2, 0])
    np.testing.assert_allclose(
        part.predict(weights)[:, [1, 0]], model.predict(weights)[:, [0, 2]], rtol=1e-12
    )
    assert model.predict(weights).shape == (80, 3)
    if model.is_smooth:
        np.testing.assert_allclose(part.gradient(weights), model.gradient(weights)[:, [2, 0]], rtol=1e-9)
