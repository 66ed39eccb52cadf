"""One run that ended far beside all others bends no fit, is judged by nobody, and is named."""

from dataclasses import replace

import numpy as np
import pytest

from regmix_hf.regression import ESTIMATORS, MixtureRegressor
from regmix_hf.regression.absurd import find_absurd
from regmix_hf.regression.fitting import fit_runs
from regmix_hf.regression.registry import build_estimator

pytestmark = pytest.mark.long


def spoiled(runs, loss, rows=(3,)):
    losses = runs.losses.copy()
    losses.iloc[list(rows)] = loss
    return replace(runs, losses=losses)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_family_predicts_as_if_the_loss_were_missing(name, swarm):
    quick = {"lightgbm": {"num_iterations": 30}, "auto": {"members": ("power_law", "ridge")}}
    runs = swarm(24)
    predicted = [
        build_estimator(name, 0, quick.get(name, {}))
        .fit(runs.weights.to_numpy(), spoiled(runs, loss).losses.to_numpy(), own_domains=[0, 1, 2])
        .predict(runs.weights.to_numpy())
        for loss in (50.0, 5000.0, np.nan)
    ]
    np.testing.assert_array_equal(predicted[0], predicted[2])
    np.testing.assert_array_equal(predicted[1], predicted[2])


def test_intervals_are_those_without_it(swarm):
    runs = swarm(40)
    half = []
    for loss in (50.0, np.nan):
        model = MixtureRegressor("ridge").fit(runs.weights, spoiled(runs, loss).losses)
        lower, upper = model.predict_interval(runs.weights)
        half.append((upper - lower).to_numpy())
        assert model.num_dropped_ == {"code": 1, "prose": 1, "sums": 1}
    np.testing.assert_array_equal(*half)


def test_a_fit_names_it_and_is_judged_as_without_it(swarm, tmp_path, recorder):
    runs = swarm(24, 20)
    found = fit_runs(spoiled(runs, 50.0, rows=(3, 30)), ["ridge"], "mean", tmp_path / "a", progress=recorder)
    clean = fit_runs(spoiled(runs, np.nan, rows=(3, 30)), ["ridge"], "mean", tmp_path / "b")
    assert found.quality.equals(clean.quality)
    assert found.summary["absurd_losses"]["r3"] == {"code": 50.0, "prose": 50.0, "sums": 50.0}
    assert found.summary["absurd_losses"].keys() == {"r3", "r30"}
    assert clean.summary["absurd_losses"] == {}
    assert any("run r30" in note and "50 for code" in note for note in recorder.notes)


def test_groups_and_edges_of_a_swarm_are_not_absurd():
    rng = np.random.default_rng(0)
    usual = rng.normal(2.0, 0.1, size=(40, 1))
    assert not find_absurd(usual).any()
    assert not find_absurd(np.concatenate([usual[:36], usual[36:] + 8])).any()  # a tenth is a group
    assert find_absurd(np.concatenate([usual, [[8.0]]])).sum() == 1
    assert find_absurd(np.concatenate([usual, [[-4.0], [np.nan]]]))[:, 0].tolist() == [False] * 40 + [
        True,
        False,
    ]
    assert not find_absurd(np.concatenate([usual[:9], [[3.5]]])).any()  # one of ten may be alone
    assert not find_absurd(np.array([[3.05], [2.93], [8.0]])).any()  # a choice, one near it, and the prior
