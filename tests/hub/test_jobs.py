"""Jobs on the Hub: one shard each, on a published corpus, at a price; secrets are seen by nobody."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from regmix_hf import pipeline
from regmix_hf.errors import HubError, RecipeError
from regmix_hf.jobs.hub_jobs import were_submitted
from regmix_hf.placement import hub_jobs, share_corpus, submit
from regmix_hf.plan import make_plan
from regmix_hf.recipe.model import Base
from regmix_hf.sharing import corpus_part
from regmix_hf.sharing.corpus_part import fetch_corpus, push_corpus
from regmix_hf.stages import prepare, proxies, sample
from regmix_hf.study import State, Study
from tests.asked import Door, open_door

from .conftest import TOKEN
from .finished import sample_short

pytestmark = pytest.mark.processes

MADE_ONCE = [prepare.STAGE, sample.STAGE]


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    """Where jobs ask for their processes."""
    with open_door(tmp_path / "door") as door:
        yield door


@pytest.fixture
def prepared(tmp_path: Path, write_corpus, door) -> Study:
    """A study of twelve short runs, the corpus and mixtures of which are for others to fetch."""
    setup = f'regmix() {{ {shlex.join(door.command)} -m regmix_hf "$@"; }}'
    return sample_short(
        tmp_path,
        write_corpus,
        sampling={"num_mixtures": 10, "num_holdout": 2},
        proxy={"num_workers": 1},
        hub={"corpus": True},
        executor={"place": "jobs", "num_workers": 1, "jobs": {"setup": [setup]}},
    )


def elsewhere(study: Study, folder: Path, **update: object) -> Study:
    found = Study(study.recipe.model_copy(update={"output_dir": folder, **update}))
    found.open()
    return found


def test_a_published_corpus_is_private_and_makes_prepare_and_sample_done_elsewhere(
    hub, standin, prepared, recorder, tmp_path
):
    base = prepared.corpus / ".checkpoints" / "of-the-study"
    base.mkdir(parents=True)
    for name in ("model.safetensors", "result.json", ".lease-000001"):
        (base / name).write_text("{}")
    push_corpus(hub, prepared, MADE_ONCE, recorder)
    assert standin.repo("me/small-corpus").private
    assert recorder.notes[0].startswith("corpus: 12 files, ")
    assert recorder.notes[0].endswith("to dataset repository 'me/small-corpus', for you alone")
    there = elsewhere(prepared, tmp_path / "there")
    assert fetch_corpus(hub, there, MADE_ONCE, recorder)
    for stage in (prepare.STAGE, sample.STAGE):
        assert there.state(stage) is State.DONE
    assert [task.name for task in proxies.tasks_of(there)] == [
        task.name for task in proxies.tasks_of(prepared)
    ]
    came = (there.corpus / ".checkpoints" / "of-the-study").iterdir()
    assert sorted(path.name for path in came) == ["model.safetensors", "result.json"]
    other = elsewhere(prepared, tmp_path / "other", context_length=64)
    assert not fetch_corpus(hub, other, MADE_ONCE, recorder)
    assert "was prepared with another context_length" in recorder.notes[-1]


def test_a_job_trains_its_shard_and_this_machine_fetches_what_it_did(
    hub, standin, prepared, recorder, within
):
    pipeline.run_stage(prepared, "proxies", recorder)
    assert len(were_submitted(prepared.proxies)["jobs"]) == 1
    (job,) = standin.store.jobs.values()
    within(lambda: job.stage != "RUNNING", seconds=200)
    assert job.stage == "COMPLETED", job.log.read_text()
    assert job.spec["timeoutSeconds"] == 12 * 3600
    assert (job.spec["flavor"], job.spec["attempts"]) == ("l4x1", 3)
    rows = list(hub_jobs(prepared, "proxies").rows(hub))
    assert [(row["shard"], row["state"]) for row in rows] == [("1/1", "COMPLETED")]
    assert rows[0]["usd_per_hour"] == pytest.approx(0.8, rel=1e-3)
    assert rows[0]["usd"] == pytest.approx(rows[0]["hours"] * rows[0]["usd_per_hour"])
    log = "".join(hub.api.fetch_job_logs(job_id=rows[0]["job"], namespace="me"))
    assert "proxies" in log
    assert TOKEN not in log
    assert not any(TOKEN.encode() in entry.body for entry in standin.log)

    executor = prepared.recipe.executor.model_copy(update={"place": "local"})
    own = prepared.recipe.hub.model_copy(update={"push_to_hub": True})
    here = elsewhere(prepared, prepared.root, executor=executor, hub=own)
    pipeline.run_stage(here, "proxies", recorder)
    assert here.state(proxies.STAGE) is State.DONE
    assert "fetched 12 runs published before" in recorder.notes, job.log.read_text()
    assert not list(here.proxies.glob("*/.tokens")), "nothing was trained here"


def test_jobs_run_at_once_are_canceled_one_by_one_and_started_anew_when_none_is_left(
    hub, standin, prepared, recorder
):
    jobs = prepared.recipe.executor.jobs.model_copy(update={"setup": ["exec sleep 600"]})
    executor = prepared.recipe.executor.model_copy(update={"num_workers": 3, "jobs": jobs})
    study = elsewhere(prepared, prepared.root, executor=executor)

    def rows() -> list[dict[str, object]]:
        return sorted(hub_jobs(study, "proxies").rows(hub), key=lambda row: str(row["job"]))

    pipeline.run_stage(study, "proxies", recorder)
    assert [(row["shard"], row["state"]) for row in rows()] == [(f"{k}/3", "RUNNING") for k in (1, 2, 3)]
    hub.api.cancel_job(job_id=str(rows()[1]["job"]), namespace="me")
    assert [row["state"] for row in rows()] == ["RUNNING", "CANCELED", "RUNNING"]
    pipeline.run_stage(study, "proxies", recorder)
    assert recorder.notes[-1] == "proxies: me is at it, with 2 jobs"
    for row in rows():
        hub.api.cancel_job(job_id=str(row["job"]), namespace="me")
    assert len(standin.store.jobs) == 3
    pipeline.run_stage(study, "proxies", recorder)
    assert [row["state"] for row in rows()] == ["CANCELED"] * 3 + ["RUNNING"] * 3


def test_what_proxies_start_from_is_trained_here_before_the_corpus_is_published_and_never_by_each_job(
    prepared, hub, recorder, monkeypatch
):
    order: list[str] = []
    monkeypatch.setattr(proxies, "train_base", lambda study, progress: order.append("base"))
    monkeypatch.setattr(corpus_part, "push_corpus", lambda *rest: order.append("corpus"))
    share_corpus(prepared, recorder)
    assert order == ["base", "corpus"]
    base = {"mixture": "prior", "num_train_tokens": 10_240}
    model = prepared.recipe.proxy.model.model_copy(update={"pretrained": Base.model_validate(base)})
    proxy = prepared.recipe.proxy.model_copy(update={"model": model})
    alone = prepared.recipe.hub.model_copy(update={"corpus": False})
    study = elsewhere(prepared, prepared.root, proxy=proxy, hub=alone)
    with pytest.raises(RecipeError, match="each job would train a model of its own") as caught:
        submit(study, proxies.STAGE, recorder)
    assert "hub.corpus: true" in caught.value.hint


def test_a_plan_says_what_jobs_would_cost(hub, prepared):
    (note,) = (note for note in make_plan(prepared, first="proxies", last="proxies").notes if "cost" in note)
    assert note.startswith("cost of the proxies: 1 job x 0.0 h x 0.80 USD/h = 0.00 USD")
    dear = prepared.recipe.proxy.model_copy(update={"num_train_tokens": 10**13})
    study = Study(prepared.recipe.model_copy(update={"proxy": dear}))
    plan = make_plan(study, first="proxies", last="proxies")
    hours = plan.stages[0].gpu_hours
    assert hours == pytest.approx(plan.stages[0].flops / (0.27 * 121e12) / 3600)
    assert any(
        f"1 job x {hours:.1f} h x 0.80 USD/h = {hours * 13_333e-6 * 60:.2f} USD" in n for n in plan.notes
    )


def test_a_job_that_the_hub_refuses_is_said_once_and_what_needs_a_model_is_refused(
    hub, strike, standin, prepared, recorder
):
    strike("POST /api/jobs/me", status=402, message="Pre-paid credit balance is insufficient")
    with pytest.raises(HubError, match="insufficient"):
        pipeline.run_stage(prepared, "proxies", recorder)
    assert len(standin.requests("POST /api/jobs/me")) == 1
    with pytest.raises(RecipeError, match="jobs have no final models"):
        hub_jobs(prepared, "evaluate")
