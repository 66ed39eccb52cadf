"""Experts travel with the runs: pulled, pooled or fetched while training, they give the same numbers."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pandas as pd
import pytest

from regmix_hf.errors import HubError
from regmix_hf.files import read_json, write_json
from regmix_hf.hub import Hub
from regmix_hf.jobs.results import collect, status_of
from regmix_hf.progress import Silent
from regmix_hf.regression import MixtureRegressor
from regmix_hf.runs.experts import Experts, TargetText
from regmix_hf.runs.pooled import pooled_runs
from regmix_hf.sharing import pull_study, push_study
from regmix_hf.sharing.arriving_runs import bring_runs
from regmix_hf.stages import fit, prepare, proxies, sample
from regmix_hf.study import Study
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.training.measured import measured_on

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
    assert bring_runs(Hub(), other).runs == 3
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


def test_what_kept_models_were_asked_later_takes_the_place_of_what_was_published(
    hub, standin, with_experts, stages, tmp_path
):
    study = with_experts(folder="mine")
    tasks = [task for task in proxies.tasks_of(study) if status_of(task) == "ok"]
    for task in tasks:
        row = {**read_json(task.folder / "result.json"), "measured_on": measured_on(task.spec.measured)}
        write_json(task.folder / "result.json", row)
    collect(proxies.tasks_of(study), study.proxies)
    study.finish(proxies.STAGE)
    push_study(study, stages, only=["runs"])
    facts, letters = CorpusFacts.load(study.corpus), study.recipe.domains["letters"]
    validation = facts.domains["letters"].validation.model_copy(update={"sha256": "f" * 64})
    rhymes = facts.domains["letters"].model_copy(update={"validation": validation})
    facts.model_copy(update={"domains": {**facts.domains, "rhymes": rhymes}}).save(study.corpus)
    domains = {**study.recipe.domains, "rhymes": letters}
    study = Study(study.recipe.model_copy(update={"domains": domains}))
    for task in tasks:
        folder = task.folder / "asked-later" / "f"
        asked = {"run_id": task.name, "status": "ok", "loss/rhymes": 3.5, "measured_on": "rhymes=" + "f" * 12}
        write_json(folder / "result.json", asked)
        if task.leaves:
            text = TargetText(sha256="f" * 64, num_tokens=2, bits_per_nat=0.36)
            logs = {"rhymes": np.full((1, 2), -3.5, dtype=np.float16)}
            weights = Experts.read(task.folder / EXPERTS).weights
            Experts(weights, logs, {"rhymes": text}).write(folder / EXPERTS)
    collect(proxies.tasks_of(study), study.proxies)
    study.finish(prepare.STAGE)
    study.finish(sample.STAGE)
    study.finish(proxies.STAGE)
    push_study(study, stages, only=["runs"])
    published = standin.repo("me/small-runs")
    (tmp_path / EXPERTS).write_bytes(published.file("v2", EXPERTS))
    assert Experts.read(tmp_path / EXPERTS).logs["rhymes"].tolist() == [[-3.5, -3.5]] * 3
    results = pd.read_parquet(io.BytesIO(published.file("v2", "results.parquet")))
    assert results.loc[results["status"] == "ok", "loss/rhymes"].tolist() == [3.5] * len(tasks)
    # who pulled before that, and has no models, has the answers fetched, too
    for task in tasks:
        shutil.rmtree(task.folder / "asked-later")
    came = bring_runs(Hub(), study)
    assert str(came) == f"fetched what {len(tasks)} runs had been asked elsewhere"
    collected, _ = collect(proxies.tasks_of(study), study.proxies)
    assert collected.loc[collected["status"] == "ok", "loss/rhymes"].tolist() == [3.5] * len(tasks)
    assert Experts.read(study.proxies / EXPERTS).logs["rhymes"].tolist() == [[-3.5, -3.5]] * 3
    assert not str(bring_runs(Hub(), study))
