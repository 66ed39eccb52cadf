"""Experts travel with the runs: pulled, pooled or fetched while training, they give the same numbers."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest

from regmix_hf.errors import HubError
from regmix_hf.hub import Hub
from regmix_hf.jobs.results import collect
from regmix_hf.progress import Silent
from regmix_hf.regression import MixtureRegressor
from regmix_hf.runs.experts import Experts
from regmix_hf.runs.pooled import pooled_runs
from regmix_hf.sharing import pull_study, push_study
from regmix_hf.sharing.arriving_runs import bring_runs
from regmix_hf.stages import fit, prepare, proxies, sample
from regmix_hf.study import Study

from .finished import end_run, train_proxies

EXPERTS = "experts.safetensors"
ASKED = ("sampling.experts=true", "regression.estimators=[experts, ridge]")


@pytest.fixture
def with_experts(new_study):
    """The finished study, with an expert of each of its three domains."""

    def make(*overrides: str, folder: str) -> Study:
        study = new_study(*ASKED, *overrides, folder=folder)
        study.finish(prepare.STAGE)
        sample.run(study, Silent())
        for task in proxies.tasks_of(study):
            if task.leaves:  # one is a mixture of the swarm, too, and diverged there
                end_run(task)
        train_proxies(study)
        return study

    return make


def predicted(study: Study) -> pd.DataFrame:
    runs = pooled_runs(study)
    model = MixtureRegressor("experts").fit(runs.weights, runs.losses, runs.quantities, experts=runs.experts)
    return model.predict(runs.weights.sort_index())


def test_what_is_pulled_or_fetched_gives_the_same_numbers(hub, with_experts, new_study, stages, tmp_path):
    study = with_experts(folder="mine")
    fit.run(study, Silent())
    push_study(study, stages, only=["runs", "regressor"])
    kept = (study.proxies / EXPERTS).read_bytes()

    pulled = pull_study("me/small", stages, tmp_path / "pulled").study
    assert (pulled.proxies / EXPERTS).read_bytes() == kept
    tasks = proxies.tasks_of(pulled)
    collect(tasks, pulled.proxies)  # from the runs' own folders
    assert (pulled.proxies / EXPERTS).read_bytes() == kept
    pd.testing.assert_frame_equal(predicted(pulled), predicted(study), check_exact=True)
    again = MixtureRegressor.from_pretrained(pulled.regression / "experts")
    first = MixtureRegressor.from_pretrained(study.regression / "experts")
    weights = pooled_runs(study).weights
    pd.testing.assert_frame_equal(again.predict(weights), first.predict(weights), check_exact=True)

    other = new_study(*ASKED, folder="other")
    sample.run(other, Silent())
    tasks = proxies.tasks_of(other)
    for task in filter(lambda task: task.leaves, tasks):
        shutil.rmtree(task.folder, ignore_errors=True)
    assert bring_runs(Hub(), other) == 3
    collect(tasks, other.proxies)
    assert (other.proxies / EXPERTS).read_bytes() == kept
    assert push_study(study, stages, only=["runs"]).changed == frozenset()


def test_experts_of_two_people_stand_together(hub, standin, with_experts, new_study, stages, tmp_path):
    mine, theirs = with_experts(folder="mine"), with_experts("seed=8", folder="theirs")
    push_study(mine, stages, only=["runs"])
    push_study(theirs, stages, only=["runs"])
    (tmp_path / EXPERTS).write_bytes(standin.repo("me/small-runs").file("v2", EXPERTS))
    both = Experts.read(tmp_path / EXPERTS)
    assert len(both) == 6
    pooled = new_study(*ASKED, "runs=me/small-runs@v1", folder="pooled")
    (pooled.proxies / "results.parquet").unlink()
    pd.testing.assert_frame_equal(predicted(pooled), predicted(mine), check_exact=True)
    pooled = new_study(*ASKED, "runs=me/small-runs@v2", folder="of-both")
    (pooled.proxies / "results.parquet").unlink()
    runs = pooled_runs(pooled)
    assert set(runs.experts.weights.index) == set(both.weights.index)
    model = MixtureRegressor("experts").fit(runs.weights, runs.losses, runs.quantities, experts=both)
    pd.testing.assert_frame_equal(
        predicted(pooled), model.predict(runs.weights.sort_index()), check_exact=True
    )


def test_experts_that_the_table_does_not_know_are_refused(hub, with_experts, stages, tmp_path):
    study = with_experts(folder="mine")
    experts = Experts.read(study.proxies / EXPERTS)
    Experts(experts.weights[::-1].set_axis(experts.weights.index), experts.logs, experts.texts).write(
        study.proxies / EXPERTS
    )
    study.finish(proxies.STAGE)
    push_study(study, stages, only=["runs"])
    with pytest.raises(HubError, match="speaks of other runs than results"):
        pull_study("me/small", stages, tmp_path / "pulled")
