"""A study that version 0.1 finished: today's code reads it, goes on with it, trains nothing of it again."""

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from regmix_hf import MixtureRegressor, load_runs, pipeline
from regmix_hf.choice import read_chosen
from regmix_hf.files import read_json
from regmix_hf.jobs.results import collect, result_of
from regmix_hf.mixtures.table import read_mixtures
from regmix_hf.plan import make_plan
from regmix_hf.recipe import load_recipe
from regmix_hf.stages import choose, fit, proxies, report, sample, train
from regmix_hf.study import State, Study
from regmix_hf.study.corpus_facts import CorpusFacts

STUDY = Path(__file__).parent / "version-0.1"
#: When the texts were written: `prepare` knows local files by it, and a checkout does not keep it.
WRITTEN_NS = {
    "prose": 1795763622836069891,
    "sums": 1795763622839396403,
    "code": 1795763622842437415,
    "poems": 1795763622842887532,
}


@pytest.fixture
def open_study(tmp_path, monkeypatch):
    """Open a copy of the study, in the folder where its recipe says it is."""
    shutil.copytree(STUDY, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    for name, written in WRITTEN_NS.items():
        os.utime(f"texts/{name}.jsonl", ns=(written, written))

    def make(*overrides: str) -> Study:
        return Study(load_recipe("recipe.yaml", overrides))

    return make


def test_it_is_small_and_says_nothing_of_where_it_was_made():
    files = [path for path in STUDY.rglob("*") if path.is_file()]
    assert sum(file.stat().st_size for file in files) < 300_000
    assert not [file for file in files if b"/home/" in (content := file.read_bytes()) or b"/tmp/" in content]


def test_every_stage_of_it_is_done_but_for_what_was_too_large_to_keep(open_study):
    study = open_study()
    study.open()
    states = {stage.verb: stage.state for stage in pipeline.status(study)}
    assert states == dict.fromkeys(pipeline.VERBS, State.DONE)


def test_a_key_that_changed_since_is_named(open_study):
    study = open_study("proxy.num_train_tokens=6400", "proxy.num_workers=1")
    assert study.state(proxies.STAGE) is State.STALE
    assert study.changes(proxies.STAGE) == ["proxy"]


def test_what_is_said_in_keys_that_came_later_counts(open_study):
    study = open_study("choice.groups.few={domains: [sums, code], max: 0.3}", "proxy.keep_models=all")
    assert study.changes(choose.STAGE) == ["choice"]
    assert study.state(proxies.STAGE) is State.DONE


def test_its_mixtures_are_the_first_round(open_study):
    mixtures = read_mixtures(open_study().mixtures)
    assert mixtures["split"].value_counts().to_dict() == {"fit": 10, "holdout": 2}
    assert set(mixtures["round"]) == {0}
    assert set(mixtures["origin"]) == {"sampled"}
    assert list(mixtures.columns[5:]) == ["weight/prose", "weight/sums", "weight/code"]


def test_its_runs_are_fitted_and_predicted(open_study):
    study = open_study()
    runs = load_runs(study.root)
    assert runs.targets == ("prose", "sums", "code", "poems")
    assert (len(runs.part("fit")), len(runs.part("holdout"))) == (10, 2)
    saved = MixtureRegressor.from_pretrained(study.regression / "power_law")
    assert saved.predict(runs.weights).notna().all(axis=None)
    assert sum(read_chosen(study.mixture, study.recipe.training_domains).values()) == pytest.approx(1.0)


def test_its_runs_are_found_under_the_names_they_have(open_study):
    study = open_study()
    tasks = proxies.tasks_of(study)
    assert {task.folder.parent for task in tasks} == {study.proxies}
    assert [result_of(task)["status"] for task in tasks] == ["ok"] * 12
    finals = train.tasks_of(study)
    assert [result_of(task)["mixture_id"] for task in finals] == ["chosen", "uniform", "sums_first"]
    before = pd.read_parquet(study.proxies / "results.parquet")
    again, _ = collect(tasks, study.proxies)
    pd.testing.assert_frame_equal(again.drop(columns="measured_on"), before)


def test_more_mixtures_are_added_to_it_and_only_they_are_left_to_train(open_study, recorder):
    more = ("sampling.num_mixtures=13", "sampling.num_holdout=3")
    study = open_study(*more)
    planned = make_plan(open_study(*more, "executor.gpu=h200", "choice.num_confirm=0"), last="proxies")
    assert [(stage.runs, stage.left) for stage in planned.stages if stage.verb == "proxies"] == [(16, 4)]
    before = read_mixtures(study.mixtures)
    sample.run(study, recorder)
    after = read_mixtures(study.mixtures)
    pd.testing.assert_frame_equal(after[:12], before)
    assert after["round"].tolist() == [0] * 12 + [1] * 4
    assert after["split"].value_counts().to_dict() == {"fit": 13, "holdout": 3}
    assert [result_of(task) is None for task in proxies.tasks_of(study)] == [False] * 12 + [True] * 4


def test_runs_of_it_are_trained_anew_where_their_text_is_another(open_study):
    study = open_study()
    facts = CorpusFacts.load(study.corpus)
    code = facts.domains["code"]
    other = code.model_copy(update={"train": code.train.model_copy(update={"sha256": "0" * 64})})
    facts.model_copy(update={"domains": {**facts.domains, "code": other}}).save(study.corpus)
    assert [result_of(task) for task in proxies.tasks_of(study)] == [None] * 12


@pytest.mark.parametrize("stage", [fit, choose, report])
def test_stages_after_the_proxies_are_done_anew_from_its_files(open_study, recorder, stage):
    study = open_study()
    study.marker(stage.STAGE).unlink()
    stage.run(study, recorder)
    assert study.state(stage.STAGE) is State.DONE
    assert read_json(study.marker(stage.STAGE))["rules"] == 2
