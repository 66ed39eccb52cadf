"""Choosing with what `fit` left in a folder, for runs that came from elsewhere."""

import shutil

import pandas as pd
import pytest

from regmix_hf.choice import FittedRuns
from regmix_hf.errors import RegressionError, StudyError
from regmix_hf.files import read_json, write_json
from regmix_hf.recipe import Choice
from regmix_hf.regression.fitting import fit_runs
from regmix_hf.runs.runs import Runs

FEW = Choice(num_candidates=1_000, top_k=10)
NUM_RUNS = 32


@pytest.fixture(scope="module")
def folder(runs, tmp_path_factory):
    weights, losses = (table.head(NUM_RUNS) for table in runs)
    folder = tmp_path_factory.mktemp("fit")
    outside = Runs(weights, losses, pd.Series("fit", index=weights.index, name="split"))
    fit_runs(outside, ["power_law"], ["a", "b"], folder)
    return folder


def test_the_selected_regressor_its_target_and_runs_are_read(folder):
    fitted = FittedRuns.load(folder)
    assert fitted.regressor.estimator == "power_law"
    assert dict(fitted.target.weights) == {"a": 0.5, "b": 0.5}
    assert len(fitted.runs) == NUM_RUNS


def test_without_a_prior_the_mean_of_the_runs_takes_its_place(folder, runs):
    chosen = FittedRuns.load(folder).problem(choice=FEW).solve()
    assert chosen.prior == pytest.approx(runs[0].head(NUM_RUNS).mean().to_dict())
    assert chosen.weights["a"] + chosen.weights["b"] > 0.9
    assert chosen.widest_gap > 0


def test_another_target_and_another_fitted_estimator_can_be_asked_for(folder):
    fitted = FittedRuns.load(folder, estimator="own_weight", target="c")
    chosen = fitted.problem(choice=FEW).solve()
    assert chosen.estimator == "own_weight"
    assert chosen.target == "c"
    assert chosen.weights["c"] > 0.9


def test_an_estimator_that_was_not_fitted_is_refused(folder):
    with pytest.raises(RegressionError, match=r"'ridge' was not fitted") as error:
        FittedRuns.load(folder, estimator="ridge")
    assert error.value.hint is not None
    assert "'power_law'" in error.value.hint


def test_a_folder_without_a_fit_names_the_stage(tmp_path):
    with pytest.raises(StudyError, match="regmix fit"):
        FittedRuns.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"estimator', "cannot be read as JSON"),
        ("[]", "'estimator'"),
        ('{"estimator": "ridge"}', "'estimators'"),
    ],
)
def test_a_damaged_summary_is_named(tmp_path, text, says):
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(StudyError, match=says) as error:
        FittedRuns.load(tmp_path)
    assert error.value.hint.startswith("remove it and run the stage that wrote it again")


def test_a_choice_warns_where_small_models_do_not_tell_of_what_it_is_chosen_by(folder, tmp_path):
    fit = shutil.copytree(folder, tmp_path / "fit")
    summary = read_json(fit / "summary.json")
    sizes = {"small": "1M on 9 tokens", "large": "60M on 9 tokens", "num_mixtures": 16}
    alike, otherwise = {"spearman": 0.9, "low": 0.7, "high": 1.0}, {"spearman": 0.0, "low": -0.4, "high": 0.4}
    found = {"mean of 2 targets": alike, "a": otherwise, "b": alike, "c": otherwise}
    rows = [{"target": name, **sizes, **numbers} for name, numbers in found.items()]
    write_json(fit / "summary.json", summary | {"size_agreement": rows})
    warned = [text for text in FittedRuns.load(fit).problem(choice=FEW).solve().warnings if "small" in text]
    assert warned == [
        "a: 16 mixtures of 1M on 9 tokens against 60M on 9 tokens, rank correlation 0 % [-40, 40]; "
        "small models do not tell for this target"
    ]
    write_json(fit / "summary.json", summary | {"size_agreement": [{"target": "a"}]})
    with pytest.raises(StudyError, match="an agreement of sizes that cannot be read"):
        FittedRuns.load(fit)


def test_no_more_mixtures_are_averaged_than_there_are(folder):
    chosen = FittedRuns.load(folder).problem(choice=Choice(num_candidates=50, top_k=100)).solve()
    assert "the mean of the 50 best of 50" in chosen.reason
