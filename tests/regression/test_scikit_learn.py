"""Every family is an estimator of scikit-learn's, by scikit-learn's own checks, and works in its tools."""

import doctest
from importlib import import_module

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.utils.estimator_checks import parametrize_with_checks

from regmix_hf.errors import RegmixError
from regmix_hf.regression import ESTIMATORS, MixtureRegressor
from regmix_hf.regression.registry import build_estimator, estimator_class

pytestmark = pytest.mark.long

#: Settings that make a fit of the checks' two hundred samples quick; what they check is the same.
QUICK = {
    "auto": {"members": ("own_weight", "ridge")},
    "gaussian_process": {"max_steps": 5},
    "lightgbm": {"num_iterations": 100},
    "power_law": {"max_steps": 20},
}
#: Checks that a family does not pass, with the reason.
FEW = "weighing families against each other takes 16 runs, and the check has fewer"
EXCEPTIONS = {
    "Auto": {
        "check_n_features_in_after_fitting": FEW,
        "check_estimators_nan_inf": FEW,
        "check_regressor_multioutput": FEW,
        "check_regressors_no_decision_function": FEW,
        "check_fit2d_1feature": FEW,
    }
}


def family(name):
    return build_estimator(name, 0, QUICK.get(name, {}))


@parametrize_with_checks(
    [*map(family, ESTIMATORS), MixtureRegressor().model],
    expected_failed_checks=lambda estimator: EXCEPTIONS.get(type(estimator).__name__, {}),
)
def test_the_checks_of_scikit_learn_hold(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def tables(swarm):
    runs = swarm(24)
    return runs.weights, runs.losses


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_family_works_in_a_pipeline_a_cross_validation_and_cloned(name, tables):
    weights, losses = tables
    pipeline = clone(make_pipeline(Normalizer("l1"), family(name)))
    scores = cross_val_score(pipeline, weights, losses, cv=3, scoring="neg_mean_absolute_error")
    assert (scores < 0).all()
    assert pipeline.fit(weights, losses).predict(weights).shape == losses.shape


@pytest.mark.parametrize("name", ESTIMATORS)
def test_columns_in_another_order_are_refused_by_their_names(name, tables):
    weights, losses = tables
    model = family(name).fit(weights, losses)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(weights[weights.columns[::-1]])


def test_the_regressor_people_meet_is_cloned_scored_and_cross_validated(tables):
    weights, losses = tables
    regressor = MixtureRegressor("ridge", random_state=3, penalties=(0.1, 1.0))
    copy = clone(regressor)
    assert repr(copy) == repr(regressor)
    assert copy.set_params(penalties=(0.01,)).get_params()["penalties"] == (0.01,)
    groups = np.repeat(np.arange(6), 4)
    scores = cross_val_score(copy, weights, losses, groups=groups, cv=GroupKFold(3), scoring="r2")
    by_hand = cross_val_score(RidgeCV([0.01]), weights, losses, groups=groups, cv=GroupKFold(3), scoring="r2")
    np.testing.assert_allclose(scores, by_hand, rtol=1e-6)
    assert copy.fit(weights, losses).score(weights, losses) > 0.5


@pytest.mark.parametrize("name", ESTIMATORS)
def test_each_family_has_an_example_that_runs(name):
    cls = estimator_class(name)
    example = doctest.DocTestFinder(recurse=False).find(cls, globs=vars(import_module(cls.__module__)).copy())
    assert example[0].examples
    assert doctest.DocTestRunner().run(example[0]).failed == 0


@pytest.mark.parametrize("kind", ["RecipeError", "DataError", "MixtureError", "RegressionError"])
def test_errors_about_values_are_value_errors(kind):
    error = getattr(import_module("regmix_hf.errors"), kind)
    assert issubclass(error, ValueError)
    assert issubclass(error, RegmixError)
