"""Several people add runs to one repository, and fit on runs of others, as far as they can be compared."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from regmix_hf import pipeline
from regmix_hf.errors import HubError, RecipeError, RegmixError
from regmix_hf.files import read_parquet, write_json
from regmix_hf.jobs.results import collect
from regmix_hf.pipeline import stages_between
from regmix_hf.progress import Silent
from regmix_hf.recipe import load_recipe
from regmix_hf.regression.by_size import judged_runs
from regmix_hf.runs.pooled import pooled_runs
from regmix_hf.sharing import push_study
from regmix_hf.sharing.while_running import Publisher
from regmix_hf.stages import fit, prepare, proxies, sample
from regmix_hf.study import Study
from regmix_hf.study.corpus_facts import CorpusFacts

from .finished import end_run, train_proxies

RUNS = "me/small-runs"


@pytest.fixture
def somebody(new_study):
    """The study of somebody who draws other mixtures from the same corpus."""

    def make(*overrides: str, folder: str) -> Study:
        study = new_study("seed=8", *overrides, folder=folder)
        study.finish(prepare.STAGE)
        study.mixtures.unlink()  # else they would stay
        sample.run(study, Silent())
        train_proxies(study, diverged=0)
        return study

    return make


def test_runs_of_two_people_are_all_there_once_with_their_own_mixtures(
    hub, standin, new_study, somebody, stages
):
    mine, theirs = new_study(folder="mine"), somebody(folder="theirs")
    assert push_study(mine, stages, only=["runs"]).version == "v1"
    assert push_study(theirs, stages, only=["runs"]).version == "v2"

    results, mixtures = standin.table(RUNS), standin.table(RUNS, "mixtures.parquet")
    own = [read_parquet(study.proxies / "results.parquet") for study in (mine, theirs)]
    assert sorted(results["run_id"]) == sorted(pd.concat(own)["run_id"])
    assert not results["run_id"].duplicated().any()
    assert not mixtures["mixture_id"].duplicated().any()
    weights = mixtures.set_index("mixture_id").filter(like="weight/")
    of_runs = results.set_index("mixture_id")[weights.columns]
    pd.testing.assert_frame_equal(weights.loc[of_runs.index], of_runs)
    assert (
        f"{len(results)} runs of a small language model"
        in standin.repo(RUNS).file("v2", "README.md").decode()
    )
    head = standin.repo(RUNS).head
    for study in (mine, theirs, mine):
        assert push_study(study, stages, only=["runs"]).changed == frozenset()
    assert standin.repo(RUNS).head is head


def test_a_failed_run_gives_way_to_one_that_ended(hub, standin, new_study, stages):
    study = new_study()
    task = proxies.tasks_of(study)[3]
    results = read_parquet(study.proxies / "results.parquet")
    results.loc[3, ["status", *results.filter(regex="^(loss|bpb)").columns]] = ["failed", *[np.nan] * 12]
    results.to_parquet(study.proxies / "results.parquet", index=False)
    study.finish(proxies.STAGE)
    push_study(study, stages, only=["runs"])
    assert standin.table(RUNS)["status"].value_counts()["failed"] == 1

    end_run(task)
    collect(proxies.tasks_of(study), study.proxies)
    study.finish(proxies.STAGE)
    assert push_study(study, stages, only=["runs"]).version == "v2"

    after = standin.table(RUNS)
    assert "failed" not in set(after["status"])
    assert len(after) == 28
    assert after.loc[after["run_id"] == task.spec.run_id, "loss/prose"].notna().all()


@pytest.mark.parametrize(
    ("change", "kind"),
    [({"tokenizer_sha256": "1" * 64}, "tokenizer"), ({"eos_token_id": 1}, "corpus"), (None, "scale")],
)
def test_runs_that_cannot_be_compared_are_not_put_into_one_table(
    pushed, new_study, stages, change, kind, tmp_path
):
    other = new_study("proxy.scale=9M", folder="second")
    if change:
        CorpusFacts.load(other.corpus).model_copy(update=change).save(other.corpus)
        for stage in (prepare.STAGE, sample.STAGE):
            other.finish(stage)
    train_proxies(other)
    with pytest.raises(HubError, match=f"another {kind} than this study") as caught:
        push_study(other, stages, only=["runs"])
    assert "another name" in str(caught.value.hint)


def test_a_fit_takes_the_runs_of_others_beside_its_own(hub, new_study, somebody, stages, recorder):
    push_study(somebody("name=theirs", folder="theirs"), stages, only=["runs"])
    mine = new_study("runs=me/theirs-runs@v1")

    runs = pooled_runs(mine, recorder)

    own = read_parquet(mine.proxies / "results.parquet")
    theirs = set(runs.weights.index) - set(own["run_id"])
    assert len(runs) == 27 + len(theirs)
    assert len(theirs) > 20
    assert "from 2 sources: 28 of" in recorder.notes[-1]
    fit.run(mine, Silent())
    assert set(read_parquet(mine.regression / "runs.parquet")["run_id"]) == set(runs.weights.index)


def test_fetched_runs_are_kept_and_not_asked_for_again(hub, standin, new_study, somebody, stages):
    push_study(somebody("name=theirs", folder="theirs"), stages, only=["runs"])
    mine = new_study("runs=me/theirs-runs@v1")
    first = pooled_runs(mine)
    standin.log.clear()
    assert pooled_runs(mine).weights.equals(first.weights)
    assert standin.log == []


@pytest.mark.parametrize(
    ("override", "kind"), [("proxy.scale=9M", "scale"), ("proxy.num_train_tokens=102400", "scale")]
)
def test_runs_of_another_scale_are_refused_unless_asked_for(
    hub, new_study, somebody, stages, override, kind, recorder
):
    push_study(somebody("name=theirs", override, folder="theirs"), stages, only=["runs"])
    with pytest.raises(HubError, match=f"another {kind}") as caught:
        pooled_runs(new_study("runs=me/theirs-runs@v1", folder="strict"))
    assert f"allow: [{kind}]" in str(caught.value.hint)
    allowed = "runs={repositories: [me/theirs-runs@v1], allow: [scale]}"
    pool = pooled_runs(new_study(allowed, folder="lenient"))
    assert len(pool) > 50
    alone, beside = judged_runs(pool, ["power_law"], recorder)  # the study's own alone, and this is said
    assert beside is None
    assert set(alone.scale) == {"0.2M on 204,800 tokens"}
    assert "no part of the fit" in recorder.notes[-1]
    judged, beside = judged_runs(pool, ["scaled_law"], recorder)
    lengths = [set(runs.sizes["num_train_tokens"]) for runs in (judged, beside) if runs is not None]
    assert lengths == ([{204_800}] if "scale" in override else [{204_800}, {102_400}])


@pytest.mark.parametrize("kind", ["tokenizer", "corpus"])
def test_runs_on_another_corpus_are_refused_unless_asked_for(hub, new_study, stages, kind):
    push_study(new_study("name=theirs", folder="theirs"), stages, only=["runs"])
    change = {"tokenizer": {"tokenizer_sha256": "1" * 64}, "corpus": {"eos_token_id": 1}}[kind]
    mine = new_study("runs=me/theirs-runs@v1", folder="mine")
    CorpusFacts.load(mine.corpus).model_copy(update=change).save(mine.corpus)
    with pytest.raises(HubError, match=f"me/theirs-runs@v1 holds runs of another {kind} than this study"):
        pooled_runs(mine)
    allow = "[tokenizer, corpus]" if kind == "tokenizer" else "[corpus]"
    recipe = mine.recipe.model_dump(mode="json")
    recipe["runs"] = {"repositories": ["me/theirs-runs@v1"], "allow": allow.strip("[]").split(", ")}
    write_json(mine.root / "recipe.json", recipe)
    assert len(pooled_runs(Study(load_recipe(mine.root / "recipe.json")))) == 27


def test_a_study_may_have_no_runs_of_its_own(hub, new_study, stages):
    push_study(new_study("name=theirs", folder="theirs"), stages, only=["runs"])
    mine = new_study("runs=me/theirs-runs@v1", folder="mine")
    (mine.proxies / "results.parquet").unlink()
    assert len(pooled_runs(mine)) == 27
    assert stages_between(mine, "prepare", "choose") == ["prepare", "fit", "choose"]


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ("me/theirs-runs", "names no revision of a repository; write NAMESPACE/NAME-runs@v1"),
        ("[me/a-runs@v1, ../b@v1]", "runs.1: names no revision"),
        ("{repositories: [me/a-runs@v1], allow: [everything]}", "runs.allow.0: should be 'corpus'"),
        ("{repositories: [me/a-runs@v1], alow: [corpus]}", "did you mean 'allow'"),
        ("[]", "runs: list should have at least 1 item"),
    ],
)
def test_the_key_runs_is_checked(finished, runs, message):
    with pytest.raises(RecipeError) as caught:
        load_recipe(finished, [f"runs={runs}"])
    assert message in str(caught.value)


def test_the_section_hub_is_checked(finished):
    assert load_recipe(finished).hub.push_every == 32
    for key, message in (
        ("push_every=0", "greater than or equal to 1"),
        ("license=Apache 2", "must match"),
        ("push_evry=3", "did you mean 'push_every'"),
    ):
        with pytest.raises(RecipeError) as caught:
            load_recipe(finished, [f"hub.{key}"])
        assert message in str(caught.value)


@pytest.fixture
def growing(new_study, stages, recorder, monkeypatch):
    """A study without proxies that publishes while they are trained, and its publisher."""
    monkeypatch.setattr("regmix_hf.sharing.while_running._LOOK_INTERVAL_S", 0.02)
    study = new_study("hub.push_to_hub=true", "hub.push_every=4", "proxy.num_seeds=2")
    (study.proxies / "results.parquet").unlink()
    return study, Publisher(study, stages, recorder)


def test_runs_are_published_batch_by_batch_and_get_a_version_at_the_end(hub, standin, growing, within):
    study, publisher = growing
    tasks = proxies.tasks_of(study)
    new = [task for task in tasks if not (task.folder / "result.json").exists()]
    assert len(new) == 28
    with publisher.around("proxies"):
        for task in new[:4]:
            end_run(task)
        within(lambda: RUNS in standin.store.repos and "results.parquet" in standin.repo(RUNS).head.files)
        assert len(standin.table(RUNS)) >= 28
        assert standin.repo(RUNS).tags == {}
        for task in new[4:]:
            end_run(task)
        collect(tasks, study.proxies)
        study.finish(proxies.STAGE)
    assert len(standin.table(RUNS)) == 56
    assert publisher.finish().version == "v1"
    assert standin.repo(RUNS).tags.keys() == {"v1"}


@pytest.mark.usefixtures("hurried")
def test_a_hub_that_is_out_of_order_costs_a_note_and_no_run(hub, standin, growing, strike, recorder):
    _, publisher = growing
    strike("/api/datasets/", status=503, times=1000)
    with publisher.around("proxies"):
        pass
    assert any(note.startswith("warning: runs not published") for note in recorder.notes)
    with pytest.raises(RegmixError, match="out of order"):
        publisher.finish()
    standin.faults.clear()
    assert publisher.finish().version == "v1"


@pytest.mark.usefixtures("hurried")
def test_what_was_done_but_not_published_is_published_when_its_stage_is_run_again(
    hub, standin, new_study, strike, recorder
):
    study = new_study("hub.push_to_hub=true")
    strike("/api/models/", status=503, times=1000)
    with pipeline.publishing(study, "fit", recorder):
        pass
    warning, advice = recorder.notes[-2:]
    assert warning.startswith("warning: regressor not published")
    assert advice == "fit: what it did stays; the same command, or `regmix push`, publishes it"
    standin.faults.clear()
    assert not pipeline.run_stage(study, "fit", recorder)
    published = recorder.notes.pop()
    assert published == "published: model repository 'me/small-regressor'"
    assert not pipeline.run_stage(study, "fit", recorder)
    assert recorder.notes[-1].startswith("fit: done already")


def test_who_is_not_logged_in_is_told_before_hours_of_training(hub, new_study, stages, log_in):
    log_in(None)
    with pytest.raises(HubError, match="not logged in"):
        Publisher(new_study("hub.push_to_hub=true"), stages, Silent())


def test_run_publishes_each_stage_and_ends_with_a_version(hub, standin, new_study, recorder):
    study = new_study("hub.push_to_hub=true", "choice.num_candidates=400")

    pipeline.run(study, first="fit", last="choose", progress=recorder)

    assert "published: dataset repository 'me/small-mixture'" in recorder.notes
    assert not any("me/small-regressor" in note for note in recorder.notes)  # done before
    tags = {name: set(repo.tags) for name, repo in standin.store.repos.items()}
    assert tags == {name: {"v1"} for name in ("me/small-mixture", "me/small-regressor", RUNS)}
