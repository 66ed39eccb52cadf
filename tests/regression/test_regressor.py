"""The facade: names, indices, refusals, and a folder that brings back the same numbers."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from regmix_hf.errors import RegmixError, RegressionError
from regmix_hf.files import read_json, write_json
from regmix_hf.quantities import BITS, NATS, Quantity
from regmix_hf.regression import ESTIMATORS, MixtureRegressor
from regmix_hf.regression.registry import estimator_class
from regmix_hf.regression.storage import write_arrays
from regmix_hf.regression.target import Target

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def tables(swarm):
    runs = swarm(40)
    return runs.weights, runs.losses


@pytest.fixture(scope="module")
def fitted(tables):
    return MixtureRegressor("power_law").fit(*tables)


def test_columns_are_matched_by_name_and_rows_keep_their_index(tables, fitted):
    weights, _ = tables
    turned = weights[["sums", "code", "prose"]].iloc[::-1]
    predicted = fitted.predict(turned)
    pd.testing.assert_frame_equal(predicted.loc[weights.index], fitted.predict(weights))
    assert list(predicted.index) == list(turned.index)
    assert list(predicted.columns) == ["code", "prose", "sums"]


def test_losses_are_matched_to_their_runs_by_index(tables, fitted):
    weights, losses = tables
    shuffled = MixtureRegressor("power_law").fit(weights, losses.sample(frac=1.0, random_state=0))
    pd.testing.assert_frame_equal(shuffled.predict(weights), fitted.predict(weights))


def test_arrays_and_series_will_do(tables):
    weights, losses = tables
    by_position = MixtureRegressor("ridge").fit(weights.to_numpy(), losses.to_numpy())
    assert by_position.domains_ == ("domain_0", "domain_1", "domain_2")
    assert by_position.targets_ == ("target_0", "target_1", "target_2")
    series = MixtureRegressor("ridge").fit(weights, losses["prose"])
    assert series.targets_ == ("prose",)
    np.testing.assert_allclose(
        series.predict(weights)["prose"], by_position.predict(weights.to_numpy())["target_1"]
    )


def test_rounded_weights_are_normalised(tables, fitted):
    weights, _ = tables
    pd.testing.assert_frame_equal(fitted.predict(0.995 * weights), fitted.predict(weights))


@given(st.integers(0, 10_000))
def test_bounds_lie_around_the_prediction_and_widen_with_coverage(fitted, seed):
    weights = np.random.default_rng(seed).dirichlet(np.ones(3), 5)
    predicted = fitted.predict(weights)
    narrow, wide = (fitted.predict_interval(weights, coverage) for coverage in (0.5, 0.9))
    assert (wide[0] <= narrow[0]).all(axis=None)
    assert (narrow[0] < predicted).all(axis=None)
    assert (predicted < narrow[1]).all(axis=None)
    assert (narrow[1] <= wide[1]).all(axis=None)


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(RegressionError, match="did you mean 'power_law'"):
        MixtureRegressor("powerlaw")
    with pytest.raises(RegressionError, match="did you mean 'num_iterations'"):
        MixtureRegressor("lightgbm", num_iteration=10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w, y: (w, y.drop(index="r3")), "run 'r3' has no losses"),
        (lambda w, y: (w.drop(index="r3"), y), "run 'r3' has no weights"),
        (lambda w, y: (w.rename(index={"r3": "r4"}), y), "twice"),
        (lambda w, y: (w.assign(code=w["code"] + 0.02), y), "row 'r0' sums to 1.02"),
        (
            lambda w, y: (w.astype(object).replace({w.iat[2, 1]: "much"}), y),
            "row 'r2', column 'prose' is 'much'",
        ),
        (lambda w, y: (w - 0.5, y), "write a number from 0 to 1"),
        (lambda w, y: (w, y.replace({y.iat[5, 0]: np.inf})), "row 'r5', column 'code' is inf"),
        (lambda w, y: (w, y.assign(sums=3.0)), "target 'sums': all 40 losses are 3"),
        (lambda w, y: (w, y.assign(sums=np.nan)), "target 'sums' has 0"),
        (lambda w, y: (w, y.to_numpy()[:-1]), r"losses have shape \(39, 3\); there are 40 runs"),
        (lambda w, y: (w.iloc[:6], y.iloc[:6]), "needs at least 10 runs"),
    ],
)
def test_tables_that_are_no_runs_are_refused_with_the_place(tables, change, message):
    weights, losses = change(tables[0].copy(), tables[1].copy())
    with pytest.raises(RegressionError, match=message):
        MixtureRegressor("power_law").fit(weights, losses)


def test_other_domains_than_those_of_the_fit_are_named(tables, fitted):
    weights, _ = tables
    with pytest.raises(RegressionError, match=r"'proze' is no domain of the fit"):
        fitted.predict(weights.rename(columns={"prose": "proze"}))
    with pytest.raises(RegressionError, match="no column for 'sums'"):
        fitted.predict(weights[["code", "prose"]])
    with pytest.raises(RegressionError, match="2 columns; the fit had 3"):
        fitted.predict(weights.to_numpy()[:, :2])


def test_nothing_is_predicted_or_saved_before_the_fit(tables, tmp_path):
    model = MixtureRegressor("ridge")
    with pytest.raises(RegressionError, match="not fitted"):
        model.predict(tables[0])
    with pytest.raises(RegressionError, match="not fitted"):
        model.save_pretrained(tmp_path)


def rewrite(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def spoil(folder, **arrays):
    path = folder / "estimator.safetensors"
    save_file({**load_file(path), **arrays}, path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "no saved regressor"),
        (lambda f: (f / "config.json").write_text("{"), "cannot be read as JSON"),
        (lambda f: rewrite(f, format=99), "not of format 3"),
        (lambda f: rewrite(f, estimator="pickle"), "no estimator"),
        (lambda f: rewrite(f, domains=["code", "prose"]), "3 domains, but there are 2"),
        (lambda f: rewrite(f, num_runs="many"), "num_runs is 'many'"),
        (lambda f: rewrite(f, num_runs=39), "40 runs, but there are 39"),
        (lambda f: rewrite(f, num_dropped={}), "does not count the targets"),
        (lambda f: (f / "estimator.safetensors").unlink(), "estimator.safetensors is missing"),
        (lambda f: (f / "estimator.safetensors").write_bytes(b"no header"), "cannot be read"),
        (lambda f: spoil(f, floor_=np.full(3, np.nan)), "floor_ holds numbers that are not finite"),
        (lambda f: spoil(f, floor_=np.ones(3, np.float32)), "floor_ is F32"),
        (lambda f: spoil(f, affinity_=np.ones((3, 2))), "affinity_ has 2 domains"),
        (lambda f: spoil(f, extra=np.zeros(2)), "extra"),
    ],
)
def test_a_damaged_folder_is_refused(fitted, tmp_path, damage, message):
    fitted.save_pretrained(tmp_path)
    damage(tmp_path)
    with pytest.raises(RegmixError, match=message):
        MixtureRegressor.from_pretrained(tmp_path)


@pytest.mark.parametrize("members", [5, None, [1, 2], True])
def test_parameters_that_are_none_are_refused(tables, tmp_path, members):
    MixtureRegressor("auto", members=["ridge", "own_weight"]).fit(*tables).save_pretrained(tmp_path)
    rewrite(tmp_path, params={"members": members})
    with pytest.raises(RegressionError, match=r"params \{'members'"):
        MixtureRegressor.from_pretrained(tmp_path)


def test_threads_of_another_machine_do_not_count(tables, tmp_path):
    MixtureRegressor("lightgbm", num_iterations=3).fit(*tables).save_pretrained(tmp_path)
    rewrite(tmp_path, params={"num_iterations": 3, "num_threads": "many"})
    assert MixtureRegressor.from_pretrained(tmp_path).params == {"num_iterations": 3}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "trees-001.txt").unlink(), "trees-001.txt is missing"),
        (lambda f: (f / "trees-001.txt").write_text("tree"), "holds no trees"),
    ],
)
def test_damaged_trees_are_refused(tables, tmp_path, damage, message):
    MixtureRegressor("lightgbm", num_iterations=3).fit(*tables).save_pretrained(tmp_path)
    damage(tmp_path)
    with pytest.raises(RegressionError, match=message):
        MixtureRegressor.from_pretrained(tmp_path)


@pytest.mark.parametrize("estimator", [name for name in ESTIMATORS if name != "lightgbm"])
def test_the_fewest_runs_an_estimator_asks_for_are_enough(estimator, swarm):
    needed = max(estimator_class(estimator).min_runs(3), 9)  # fewer tell no 90 % interval
    runs = swarm(needed)
    model = MixtureRegressor(estimator).fit(runs.weights, runs.losses)
    lower, upper = model.predict_interval(runs.weights)
    assert (lower < upper).all(axis=None)


def test_too_few_runs_name_the_estimator_and_the_target(swarm):
    runs = swarm(12)
    holes = runs.losses.copy()
    holes.iloc[:5, 1] = np.nan
    with pytest.raises(RegressionError, match=r"power_law needs at least 10 .* target 'prose' has 7"):
        MixtureRegressor("power_law").fit(runs.weights, holes)


def test_a_single_domain_leaves_nothing_to_choose():
    weights = pd.DataFrame({"only": np.ones(20)})
    with pytest.raises(RegressionError, match="one domain, 'only'"):
        MixtureRegressor().fit(weights, pd.Series(np.arange(20.0)))


def test_fits_of_version_0_1_predict_as_they_did(tables, tmp_path):
    weights, losses = tables
    model = MixtureRegressor("auto", members=["kriged_power_law", "gaussian_process"]).fit(weights, losses)
    process = MixtureRegressor("gaussian_process").fit(weights, losses)
    for name, regressor in (("auto", model), ("process", process)):
        regressor.save_pretrained(tmp_path / name)
    config = read_json(tmp_path / "auto" / "config.json")
    write_json(tmp_path / "auto" / "config.json", config | {"params": {}})  # its members were the default
    again = MixtureRegressor.from_pretrained(tmp_path / "auto")
    pd.testing.assert_frame_equal(again.predict(weights), model.predict(weights), check_exact=True)
    assert again.model.reasons_ == model.model.reasons_
    # Its length scales were those of the roots alone.
    file = tmp_path / "process" / "estimator.safetensors"
    arrays = {name: getattr(process.model, name) for name in process.model.arrays}
    write_arrays(file, arrays | {"lengths_": process.model.lengths_[:, :3]})
    roots = MixtureRegressor.from_pretrained(tmp_path / "process")
    at = weights.to_numpy() + 0.01
    step = np.array([0, 1e-6, 0])
    difference = (roots.model.predict(at + step) - roots.model.predict(at - step)) / 2e-6
    np.testing.assert_allclose(roots.model.gradient(at)[:, :, 1], difference, rtol=1e-4, atol=1e-5)


def test_an_interval_of_losses_ends_at_0_and_that_of_what_has_no_unit_does_not(tables):
    weights, losses = tables
    low = losses["prose"] - losses["prose"].min() + 0.01
    named = {"a": Quantity("a", NATS), "b": Quantity("b", BITS), "c": Quantity("c")}
    model = MixtureRegressor("ridge").fit(weights, pd.DataFrame(dict.fromkeys(named, low)), quantities=named)
    lower, _ = model.predict_interval(weights)
    assert (lower.min()[["a", "b"]] == 0).all()
    assert lower["c"].min() < 0
    for name, least in lower.min().items():
        assert model.predict_target(weights, Target.parse(name, named))["lower"].min() == pytest.approx(least)
