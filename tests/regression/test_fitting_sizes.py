"""A fit on runs of several sizes judges the largest, fits all, and chooses for any size."""

import numpy as np
import pandas as pd
import pytest

from regmix_hf.choice import FittedRuns
from regmix_hf.errors import RegressionError
from regmix_hf.regression.by_size import judged_runs
from regmix_hf.regression.fitting import fit_runs
from regmix_hf.runs.runs import Runs, load_runs


def results(num_large: int) -> pd.DataFrame:
    """A swarm of 40 at 1M, and some of its mixtures again at 60M."""
    rng = np.random.default_rng(0)
    swarm = rng.dirichlet(np.ones(3), 40)
    weights = np.concatenate([swarm, swarm[:num_large]])
    is_large = np.arange(len(weights)) >= 40
    losses = (
        3 - np.sqrt(weights[:, :2]) - 0.4 * is_large[:, None] + rng.normal(scale=0.01, size=(len(weights), 2))
    )
    table = pd.DataFrame(weights, columns=["weight/a", "weight/b", "weight/c"])
    table[["loss/a", "loss/b"]] = losses
    table["num_parameters"], table["num_train_tokens"] = (
        np.where(is_large, 60_000_000, 1_000_000),
        1_000_000_000,
    )
    return table.assign(run_id=[f"r{row}" for row in table.index], split="fit")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit")
    fit_runs(Runs.from_results(results(12), "the table"), ["scaled_law"], "a", folder)
    return folder


def test_the_largest_size_is_judged_and_all_sizes_are_fitted(folder):
    fitted = FittedRuns.load(folder)
    assert fitted.scale == "60,000,000 parameters on 1,000,000,000 tokens"
    assert len(fitted.runs) == fitted.regressor.num_runs_ == 12
    unseen = np.random.default_rng(1).dirichlet(np.ones(3), 40)
    error = fitted.regressor.predict(unseen)["a"] - (2.6 - np.sqrt(unseen[:, 0]))
    assert error.abs().mean() < 0.02  # twelve runs alone would not tell


def test_a_fit_speaks_of_any_size_that_it_is_asked_for(folder):
    fitted = FittedRuns.load(folder)
    larger = fitted.at(1e9, 2.5e10)
    assert larger.scale == "1,000,000,000 parameters on 25,000,000,000 tokens"
    weights = fitted.runs.weights
    assert (larger.regressor.predict(weights) < fitted.regressor.predict(weights)).all(axis=None)


def test_sizes_of_runs_come_back_from_the_folder_of_a_fit(folder):
    assert load_runs(folder).sizes.drop_duplicates().to_numpy().tolist() == [[6e7, 1e9]]


def test_families_of_one_size_are_not_fitted_on_several(tmp_path):
    runs = Runs.from_results(results(12), "the table")
    with pytest.raises(RegressionError, match="runs of one size and length; these are of 2"):
        fit_runs(runs, ["power_law"], "a", tmp_path)


def test_where_no_size_has_runs_enough_to_be_judged_by_it_is_said_how_many_each_has(tmp_path):
    few = Runs.from_results(results(4).iloc[[*range(7), *range(40, 44)]], "the table")
    with pytest.raises(RegressionError) as error:
        fit_runs(few, ["scaled_law"], "a", tmp_path)
    assert str(error.value).startswith(
        "scaled_law needs at least 10 runs of one size and length to be judged by; there are 7 of "
        "1,000,000 parameters on 1,000,000,000 tokens, 4 of 60,000,000 parameters on 1,000,000,000 tokens."
    )


def test_runs_without_sizes_cannot_be_fitted_over_sizes(tmp_path):
    runs = Runs.from_results(results(12).drop(columns="num_parameters"), "the table")
    with pytest.raises(RegressionError, match="do not say how many parameters"):
        fit_runs(runs, ["scaled_law"], "a", tmp_path)


def test_a_target_that_no_run_of_the_judged_size_has_is_left_out_and_named(recorder):
    table = results(12)
    table.loc[table["num_parameters"] == 60_000_000, "loss/b"] = np.nan
    own, _ = judged_runs(Runs.from_results(table, "the table"), ["scaled_law"], recorder)
    assert own.targets == ("a",)
    assert recorder.notes[1:] == [
        "left out, as no run of 60,000,000 parameters on 1,000,000,000 tokens has a value of it: b"
    ]


def test_the_noise_between_seeds_is_said_of_the_size_that_was_repeated(recorder):
    table = results(12)
    again = table.head(3).assign(run_id=list("xyz"))
    again[["loss/a", "loss/b"]] += 0.02
    own, beside = judged_runs(
        Runs.from_results(pd.concat([table, again], ignore_index=True), "the table"), ["scaled_law"], recorder
    )
    assert (len(own), len(beside)) == (12, 43)
    assert recorder.notes[1:] == [
        "noise between seeds of 1,000,000 parameters on 1,000,000,000 tokens: a 0.0141, b 0.0141; of "
        "60,000,000 parameters on 1,000,000,000 tokens no mixture was run with two seeds"
    ]
    large = table.tail(1).assign(run_id="w", **{"loss/a": 2.0})
    recorder.notes.clear()
    judged_runs(
        Runs.from_results(pd.concat([table, again, large], ignore_index=True), "the table"),
        ["scaled_law"],
        recorder,
    )
    assert len(recorder.notes) == 1
