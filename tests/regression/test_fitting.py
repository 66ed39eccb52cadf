import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from regmix_hf.errors import DataError, RegressionError
from regmix_hf.files import read_json, read_parquet
from regmix_hf.regression import MixtureRegressor
from regmix_hf.regression.assessment import table_for_people
from regmix_hf.regression.fitting import fit_runs
from regmix_hf.runs.runs import Runs, load_runs

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def fit(swarm, tmp_path_factory):
    """Ridge and the power law on twenty runs, with five holdout runs and two further test sets."""
    tests = {"same-size": swarm(20, seed=1), "few-losses": without(swarm(12, seed=2), "sums")}
    return fit_runs(
        swarm(20, 5), ["ridge", "power_law"], "mean", tmp_path_factory.mktemp("fit"), test_sets=tests
    )


def without(runs, target):
    return replace(runs, losses=runs.losses.drop(columns=target))


def test_everything_found_lies_in_the_folder(fit):
    names = {file.name for file in fit.folder.iterdir()}
    tables = {
        "quality.parquet",
        "predictions.parquet",
        "learning_curve.parquet",
        "runs.parquet",
        "summary.json",
    }
    assert names == tables | {"own_weight", "power_law", "ridge"}
    pd.testing.assert_frame_equal(read_parquet(fit.folder / "quality.parquet"), fit.quality)
    pd.testing.assert_frame_equal(read_parquet(fit.folder / "predictions.parquet"), fit.predictions)
    pd.testing.assert_frame_equal(read_parquet(fit.folder / "learning_curve.parquet"), fit.curve.table())
    assert read_json(fit.folder / "summary.json") == json.loads(json.dumps(fit.summary))
    assert len(load_runs(fit.folder)) == 25


def test_saved_regressors_predict_what_the_table_of_predictions_says(fit, swarm):
    runs = swarm(20, 5).part("holdout")
    predicted = MixtureRegressor.from_pretrained(fit.folder / "power_law").predict(runs.weights)
    rows = fit.predictions.query("estimator == 'power_law' and test == 'holdout' and target == 'code'")
    np.testing.assert_allclose(rows["predicted"], predicted["code"], rtol=1e-12)
    np.testing.assert_allclose(rows["true"], runs.losses["code"])


def test_few_holdout_runs_are_shown_but_cross_validation_decides(fit):
    assert list(fit.quality["test"].unique()) == ["holdout", "cross-validation", "same-size", "few-losses"]
    assert fit.summary["judged_on"] == "cross-validation"
    assert fit.summary["estimator"] == "power_law"
    assert fit.summary["shares"] == {}
    assert "20 runs (cross-validation)" in fit.summary["reason"]
    assert fit.summary["num_runs"] == {"fit": 20, "holdout": 5, "diverged": 0, "failed": 0, "duplicates": 0}


def test_the_baseline_stands_beside_every_estimator_and_is_never_selected(fit, swarm, tmp_path):
    assert set(fit.quality["estimator"]) == {"own_weight", "power_law", "ridge"}
    alone = fit_runs(swarm(20, 20), ["ridge", "own_weight"], "sums", tmp_path)
    assert alone.selection.estimator == "ridge"


def test_a_test_set_is_measured_on_the_losses_it_has(fit):
    rows = fit.quality[(fit.quality["test"] == "few-losses") & (fit.quality["estimator"] == "ridge")]
    assert list(rows["target"]) == ["code", "prose", "average"]


def test_enough_holdout_runs_decide(swarm, tmp_path):
    found = fit_runs(swarm(16, 16), ["ridge", "power_law"], "worst", tmp_path)
    assert list(found.quality["test"].unique()) == ["holdout"]
    assert found.summary["judged_on"] == "holdout"
    assert found.summary["target"] == "worst of 3 targets"


def test_an_estimator_that_was_asked_for_is_used_and_the_best_is_named(swarm, tmp_path):
    found = fit_runs(swarm(16, 16), ["power_law"], "sums", tmp_path, use="ridge")
    assert found.selection.estimator == "ridge"
    assert found.selection.reason.startswith(
        "ridge is used, as was asked for; unasked power_law would be: of all but the baseline it ranks "
    )
    assert found.summary["fitted_on"] == dict.fromkeys(("power_law", "ridge", "own_weight"), "16 runs")


def test_an_estimator_that_weighs_families_says_why_per_target(swarm, tmp_path):
    found = fit_runs(swarm(16, 16), ["auto"], "sums", tmp_path)
    assert found.summary["shares"]["auto"].keys() == {"code", "prose", "sums"}
    assert "kriged_power_law" in found.summary["shares"]["auto"]["sums"]


def test_the_same_seed_gives_the_same_files(swarm, tmp_path):
    for name in ("one", "two"):
        fit_runs(swarm(14, 4), ["ridge"], "sums", tmp_path / name, random_state=3)
    for file in ("quality.parquet", "predictions.parquet", "learning_curve.parquet", "summary.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_what_was_left_out_and_what_was_found_is_said(swarm, tmp_path, recorder):
    runs = replace(swarm(14, 4), num_diverged=2, num_failed=1)
    found = fit_runs(runs, ["ridge"], "sums", tmp_path, progress=recorder)
    assert recorder.notes[0] == "runs left out of the fit: 2 diverged, 1 failed"
    assert found.selection.reason in recorder.notes
    assert found.summary["num_runs"]["diverged"] == 2


def test_too_few_runs_for_a_family_say_how_many_it_needs(swarm, tmp_path):
    with pytest.raises(
        RegressionError, match=r"ridge needs at least 10 runs .* over 3 domains.* there are 9"
    ):
        fit_runs(swarm(9, 40), ["ridge"], "sums", tmp_path)
    assert not any(tmp_path.iterdir())
    assert fit_runs(swarm(10), ["ridge"], "sums", tmp_path).selection.estimator == "ridge"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"estimators": ["rigde"]}, "'rigde' is no estimator"),
        ({"use": "rigde"}, "'rigde' is no estimator"),
        ({"target": "sum"}, "'sum' is no target; did you mean 'sums'"),
        ({"tests": ["holdout"]}, "cannot be called 'holdout'"),
    ],
)
def test_unknown_names_are_refused_before_anything_is_fitted(swarm, tmp_path, arguments, message):
    tests = {name: swarm(4, seed=9) for name in arguments.get("tests", [])}
    with pytest.raises(RegressionError, match=message):
        fit_runs(
            swarm(14),
            arguments.get("estimators", ["ridge"]),
            arguments.get("target", "sums"),
            tmp_path,
            use=arguments.get("use"),
            test_sets=tests,
        )
    assert not any(tmp_path.iterdir())


def test_a_test_set_must_have_the_target_that_was_named(swarm, tmp_path):
    test = without(swarm(4, seed=9), "sums")
    with pytest.raises(RegressionError, match="test set '60m' has no losses of the target 'sums'"):
        fit_runs(swarm(14), ["ridge"], ["code", "sums"], tmp_path, test_sets={"60m": test})


def test_a_test_set_must_have_the_domains_of_the_fit(swarm, tmp_path):
    test = swarm(4, seed=9)
    test = replace(test, weights=test.weights.rename(columns={"sums": "sum"}))
    with pytest.raises(DataError, match="domain 'sum' is a column of"):
        fit_runs(swarm(14), ["ridge"], "code", tmp_path, test_sets={"60m": test})


def test_losses_that_are_all_equal_are_refused(swarm, tmp_path):
    runs = swarm(14)
    runs = replace(runs, losses=runs.losses.assign(sums=2.5))
    with pytest.raises(RegressionError, match=r"target 'sums': all 14 losses are 2\.5"):
        fit_runs(runs, ["ridge"], "code", tmp_path)


def test_the_table_for_people_puts_the_best_first_and_gives_intervals(fit):
    table = table_for_people(fit.quality, str(fit.target))
    first = table.iloc[0]
    assert (first["test"], first["target"], first["estimator"]) == (
        "holdout",
        "mean of 3 targets",
        "power_law",
    )
    assert list(table.columns) == [
        "test", "target", "estimator", "runs", "spearman (%)", "pearson (%)", "mse", "mae", "regret",
    ]  # fmt: skip
    judged = table[table["test"] == "cross-validation"]
    assert list(judged["target"].unique()) == ["mean of 3 targets", "average"]


def test_the_table_for_people_rounds_and_marks_what_does_not_exist():
    row = {"test": "t", "estimator": "e", "target": "a", "kind": "single", "num_runs": 3}
    row |= {f"{metric}{end}": 0.12345 for metric in ("mse", "mae", "regret") for end in ("", "_low", "_high")}
    row |= {"spearman": 0.98765, "spearman_low": 0.9, "spearman_high": 1.0}
    row |= {"pearson": np.nan, "pearson_low": np.nan, "pearson_high": np.nan, "mae_low": np.nan}
    table = table_for_people(pd.DataFrame([row]), "a")
    assert table.loc[0, "spearman (%)"] == "98.8 [90.0, 100.0]"
    assert table.loc[0, "pearson (%)"] == "-"
    assert table.loc[0, "mse"] == "0.1235 [0.1235, 0.1235]"
    assert table.loc[0, "mae"] == "0.1235"


def test_runs_of_another_size_are_no_part_of_a_fit_and_it_says_of_which_size_it_speaks(
    swarm, tmp_path, recorder
):
    runs = swarm(24)
    small = runs.to_results().assign(status="ok", scale="1M", num_train_tokens=10**9)
    large = small.head(8).assign(scale="60M", num_train_tokens=6 * 10**9)
    large["run_id"] += "-60M"
    large[["loss/code", "loss/prose", "loss/sums"]] -= 0.5
    pooled = Runs.from_results(pd.concat([small, large], ignore_index=True), "two sizes")
    found = fit_runs(pooled, ["ridge"], "code", tmp_path / "both", progress=recorder)
    alone = fit_runs(Runs.from_results(small, "one size"), ["ridge"], "code", tmp_path / "one")
    assert found.quality.equals(alone.quality)
    assert any(note.startswith("8 runs of 60M on 6,000,000,000 tokens: no part") for note in recorder.notes)
    assert recorder.notes[-1].endswith(
        "a new run of 1M on 1,000,000,000 tokens, not of a larger model (intervals do not hold the noise "
        "between seeds: no mixture was run with two at that size)"
    )
    assert found.summary["scale"] == "1M on 1,000,000,000 tokens"
    assert len(load_runs(tmp_path / "both")) == 24


def test_a_fit_says_where_its_intervals_hold_the_noise_between_seeds(swarm, tmp_path, recorder):
    runs = swarm(24)
    again = runs.to_results().head(4).assign(run_id=list("abcd"))
    again[["loss/code", "loss/prose", "loss/sums"]] += 0.1
    both = Runs.from_results(pd.concat([runs.to_results(), again], ignore_index=True), "with repeats")
    fit = fit_runs(both, ["ridge"], "code", tmp_path, progress=recorder)
    assert fit.summary["intervals_hold_seed_noise"] is True
    assert recorder.notes[-1].endswith(" (intervals hold the noise between seeds)")
    assert fit.summary["seed_noise"]["code"] == pytest.approx(0.1 / np.sqrt(2))


def test_every_family_says_what_it_promised_of_the_run_it_predicts_best_and_what_that_measured(fit, swarm):
    runs = swarm(20, 5).part("fit")
    assert fit.promises.keys() == {"ridge", "power_law"}
    for name, promise in fit.promises.items():
        model = MixtureRegressor.from_pretrained(fit.folder / name)
        predicted = (runs.losses - model.out_of_fold_residuals).mean(axis=1)
        assert promise.run == predicted.idxmin()
        assert promise.promised == pytest.approx(predicted.min())
        assert promise.measured == pytest.approx(runs.losses.loc[promise.run].mean())
        assert promise.difference == pytest.approx(promise.promised - promise.measured)
        assert fit.summary["promises"][name]["run"] == promise.run
