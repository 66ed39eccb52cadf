"""Tasks that models are scored on: prepared with the corpus, measured by runs, no reason to train again."""

import json
import random

import pandas as pd
import pytest

from regmix_hf.errors import DataError, RecipeError
from regmix_hf.jobs.proxies import proxy_tasks
from regmix_hf.jobs.results import collect, result_of
from regmix_hf.mixtures.table import read_mixtures
from regmix_hf.plan import make_plan
from regmix_hf.preflight import check_study
from regmix_hf.progress import Silent
from regmix_hf.readable import short
from regmix_hf.stages import prepare
from regmix_hf.stages.proxies import tasks_of
from regmix_hf.study import State
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.training.measured import missing_losses
from regmix_hf.training.spec import proxy_specs
from tests.stages.conftest import WORDS

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def own_tasks(tmp_path_factory):
    """A folder with a task of sums, and one of words that only the domain `code` has."""
    folder = tmp_path_factory.mktemp("tasks")
    rows = [{"q": f"{a} + {b} =", "a": str(a + b)} for a in range(4) for b in range(4)]
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "additions",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "sums.jsonl")}},
        "test_split": "test",
        "output_type": "generate_until",
        "generation_kwargs": {"until": ["\n"]},
        "doc_to_text": "{{q}}",
        "doc_to_target": "{{a}}",
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    (folder / "additions.yaml").write_text(json.dumps(task))
    draw = random.Random(1)
    words = [" ".join(draw.choices(WORDS["code"].split(), k=4)) for _ in range(32)]
    rows = [{"q": text[:5], "a": text[5:15].strip()} for text in words]
    (folder / "code.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {"data_files": {"test": str(folder / "code.jsonl")}}
    (folder / "keywords.yaml").write_text(json.dumps({**task, "task": "keywords", "dataset_kwargs": files}))
    rows = [{"q": row["q"], "c": [row["a"], row["a"][::-1]], "a": 0} for row in rows]
    (folder / "which.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    choice = {"output_type": "multiple_choice", "doc_to_target": "a", "doc_to_choice": "c"}
    choice |= {"generation_kwargs": None, "metric_list": [{**task["metric_list"][0], "metric": "acc"}]}
    files = {"data_files": {"test": str(folder / "which.jsonl")}}
    (folder / "which.yaml").write_text(
        json.dumps({**task, **choice, "task": "which", "dataset_kwargs": files})
    )
    return folder


@pytest.fixture
def scored_study(new_study, own_tasks):
    """Make a prepared study whose models are scored on sums."""

    def make(*overrides):
        told = ["proxy.tasks=[additions]", f"evaluation.include_path={own_tasks}", *overrides]
        study = new_study(*told)
        assert study.state(prepare.STAGE) is State.STALE
        prepare.run(study, Silent())
        return study

    return make


def train_one(study):
    """Train the first proxy here, and collect."""
    from regmix_hf.corpus.corpus import Corpus
    from regmix_hf.training.run import train_run

    task = tasks_of(study)[0]
    row = train_run(task.spec, Corpus(study.corpus), task.folder)
    return row, *collect([task], study.proxies)


def test_runs_are_scored_at_their_end_on_what_was_prepared(scored_study):
    study = scored_study()
    assert study.state(prepare.STAGE) is State.DONE
    facts = CorpusFacts.load(study.corpus).tasks["additions"]
    assert (facts.num_documents, facts.num_bytes) == (16, 16)
    row, results, points = train_one(study)
    assert row["bpb/additions"] > 0
    assert row["bpb_stderr/additions"] > 0
    assert row["measured_on"].endswith(f"bpb/additions={facts.sha256[:12]}")
    assert results["bpb/additions"].tolist() == [row["bpb/additions"]]
    assert points["bpb/additions"].isna().tolist() == [True, False]
    assert points["bpb/additions"].iloc[-1] == row["bpb/additions"]


def test_runs_are_scored_and_judged_over_time_when_asked(scored_study, monkeypatch):
    study = scored_study("proxy.tasks_at=evaluations", "proxy.metrics=[which/acc]")
    row, results, points = train_one(study)
    assert points["bpb/additions"].notna().all()
    assert points["bpb/additions"].nunique() == 2
    assert points["which/acc"].notna().all()
    assert 0 < row["which/acc"] <= 1
    assert results["which/acc"].tolist() == [row["which/acc"]] == [points["which/acc"].iloc[-1]]
    assert results["which/acc_stderr"].tolist() == [row["which/acc_stderr"]]
    facts = CorpusFacts.load(study.corpus)
    assert facts.exams["which"].num_documents == 32
    assert row["measured_on"].endswith(f"which/acc={facts.exams['which'].sha256[:12]}")
    tokens = 2 * (facts.exams["which"].num_tokens + facts.tasks["additions"].num_tokens)
    monkeypatch.setattr("regmix_hf.plan._MEASURED_SECONDS", 0.0)
    notes = make_plan(study, first="proxies", last="proxies").notes
    said = f"proxy.tasks, proxy.metrics: each proxy is scored on 2 tasks, {short(tokens)} tokens in 2 x"
    assert any(note.startswith(said) for note in notes)


def test_more_tasks_train_nothing_again_and_what_is_missing_is_said(scored_study, new_study):
    plain = new_study()
    scored = scored_study(f"output_dir={plain.root}")
    specs = [
        proxy_specs(one.recipe, CorpusFacts.load(one.corpus), read_mixtures(one.mixtures))[0]
        for one in (plain, scored)
    ]
    assert specs[0].run_id == specs[1].run_id
    row, before, _ = train_one(scored)
    [task] = proxy_tasks(specs[1:], scored.proxies)
    assert result_of(task)["run_id"] == row["run_id"]
    other = scored_study(f"output_dir={plain.root}", "proxy.task_limit=5", "proxy.metrics=[which/acc]")
    [again] = tasks_of(other)[:1]
    assert again.spec.run_id == row["run_id"]
    results, points = collect([again], other.proxies)
    assert not {"bpb/additions", "bpb_stderr/additions", "which/acc", "which/acc_stderr"} & {
        *results,
        *points,
    }
    notes = list(missing_losses(results, again.spec.measured))
    assert notes[0].startswith("1 of 1 runs were trained before 'additions' asked this")
    assert notes[1].startswith("1 of 1 runs were trained before 'which/acc' asked this")
    pd.testing.assert_series_equal(results["loss/sums"], before["loss/sums"])


def test_wrong_tasks_are_refused_before_work(new_study, own_tasks, monkeypatch):
    from lm_eval.tasks import TaskManager

    def without_defaults(include_path, **_):  # seconds to build
        return TaskManager(include_path=include_path, include_defaults=False)

    monkeypatch.setattr("lm_eval.tasks.TaskManager", without_defaults)
    study = new_study("proxy.tasks=[addition]", f"evaluation.include_path={own_tasks}")
    with pytest.raises(RecipeError, match=r"proxy.tasks: lm-eval has no task 'addition'") as caught:
        check_study(study, ["proxies"])
    assert "'additions'" in caught.value.hint
    study = new_study("proxy.metrics=[which/acc_norm]", f"evaluation.include_path={own_tasks}")
    with pytest.raises(RecipeError, match=r"proxy.metrics: lm-eval measures no 'acc_norm' of 'which'"):
        check_study(study, ["proxies"])
    with pytest.raises(RecipeError, match="is also a domain"):
        new_study("proxy.tasks=[sums]")
    with pytest.raises(RecipeError, match="is measured of every run already"):
        new_study("proxy.tasks=[held_out_text]")


def test_a_task_whose_documents_cannot_be_had_is_named_before_any_text_is_read(
    new_study, own_tasks, tmp_path
):
    task = json.loads((own_tasks / "additions.yaml").read_text())
    task["dataset_path"] = "nobody/no-such-data"
    (tmp_path / "additions.yaml").write_text(json.dumps({**task, "dataset_kwargs": {}}))
    study = new_study("proxy.tasks=[additions]", f"evaluation.include_path={tmp_path}", "seed=99")
    with pytest.raises(DataError, match=r"proxy.tasks: the documents of additions cannot be loaded"):
        prepare.run(study, Silent())
    assert (study.corpus / "corpus.json").exists()


def test_the_mixture_chosen_for_a_task_is_better_at_it_than_prior_and_uniform(scored_study):
    from regmix_hf.corpus.corpus import Corpus
    from regmix_hf.stages import choose, fit, sample, train
    from regmix_hf.training.run import train_run

    study = scored_study(
        "proxy.tasks=[keywords]",
        "proxy.num_train_tokens=1600",
        "train.num_train_tokens=1600",
        "regression={estimators: [ridge], target: bpb/keywords}",
        "choice={num_candidates: 2000, max_epochs: null, force: true, num_confirm: 0}",
        "train.mixtures=[chosen, prior, uniform]",
        "train.num_seeds=2",
    )
    sample.run(study, Silent())
    corpus = Corpus(study.corpus)
    proxies = tasks_of(study)
    for task in proxies:
        train_run(task.spec, corpus, task.folder)
    collect(proxies, study.proxies)
    fit.run(study, Silent())
    choose.run(study, Silent())
    finals = train.tasks_of(study)
    for task in finals:
        train_run(task.spec, corpus, task.folder)
    train.conclude(study, Silent())
    results = pd.read_parquet(study.models / "results.parquet")
    scores = results.groupby("mixture_id")["bpb/keywords"]
    noise = scores.std().max()
    for other in ("prior", "uniform"):
        assert scores.mean()["chosen"] < scores.mean()[other] - 2 * noise
