"""The stage `evaluate` on two real models and a real corpus, with no network."""

import json
import math
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from regmix_hf.errors import RegmixError, StudyError
from regmix_hf.evaluation import validation
from regmix_hf.evaluation.model import LanguageModel, Score
from regmix_hf.files import read_json, write_json, write_parquet, write_text
from regmix_hf.jobs.evaluations import EvaluationWork, FinalModel
from regmix_hf.jobs.results import record_failed, status_of
from regmix_hf.jobs.tasks import OutOfMemoryError, Task
from regmix_hf.progress import Progress, Silent
from regmix_hf.recipe import Recipe
from regmix_hf.regression import MixtureRegressor
from regmix_hf.stages import evaluate, prepare
from regmix_hf.study import State, Study
from regmix_hf.study.names import PROMISES
from regmix_hf.study.promises import Promises

pytestmark = pytest.mark.processes

CONTEXT_LENGTH = 16
WORDS = {
    "numbers": "one two three four five six seven eight nine ten",
    "colours": "red green blue yellow black white orange grey",
}


def write_domains(folder: Path) -> None:
    for name, words in WORDS.items():
        lines = [
            json.dumps({"text": " ".join(words.split()[k % 5 :] * (1 + k % 4)) + f" {k}"}) for k in range(60)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


def make_study(folder: Path, **evaluation: object) -> Study:
    domains = {
        name: {"path": "json", "data_files": str(folder / f"{name}.jsonl"), "split": "train"}
        for name in WORDS
    }
    model = {"model_type": "llama", "hidden_size": 16}
    recipe = {
        "name": "tiny",
        "output_dir": str(folder / "run"),
        "context_length": CONTEXT_LENGTH,
        "tokenizer": {"train": {"vocab_size": 300}},
        "domains": domains,
        "corpus": {"validation_fraction": 0.3, "num_proc": 1},
        "proxy": {"model": model, "num_train_tokens": 1024},
        "train": {"model": model, "num_train_tokens": 1024, "mixtures": ["prior", "uniform"]},
        "evaluation": {"tasks": ["held_out_text"], "limit": 5, **evaluation},
    }
    return Study(Recipe.model_validate(recipe))


def save_models(study: Study) -> None:
    """Two random models and one that diverged, as `train` leaves them."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=300,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT_LENGTH,
        bos_token_id=None,
        eos_token_id=None,
    )
    rows = []
    for seed, mixture in enumerate(("prior", "uniform", "broken")):
        folder = study.models / mixture
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            LlamaForCausalLM(config).save_pretrained(folder)
        status = "diverged" if mixture == "broken" else "ok"
        row = {"run_id": f"run{seed}", "mixture_id": mixture, "seed": seed, "status": status}
        write_json(folder / "result.json", row)
        rows.append(row)
    write_parquet(study.models / "results.parquet", pd.DataFrame(rows))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("evaluate")
    write_domains(folder)
    study = make_study(folder)
    study.open()
    prepare.run(study, Silent())
    save_models(study)
    evaluate.run(study, Silent())
    return study


@pytest.fixture(scope="module")
def results(study: Study) -> pd.DataFrame:
    return pd.read_parquet(study.evaluation / "results.parquet")


def test_every_model_that_did_not_diverge_has_every_number(results: pd.DataFrame) -> None:
    assert list(results["model"].unique()) == ["prior", "uniform"]
    assert set(results["run_id"]) == {"run0", "run1"}
    counts = results.groupby(["task", "metric", "domain"]).size().unstack("domain")
    assert (counts == 2).all(axis=None)
    assert set(counts.columns) == set(WORDS)
    assert set(counts.index) == {
        ("validation", "loss"),
        ("validation", "bits_per_byte"),
        ("held_out_text", "bits_per_byte"),
        ("held_out_text", "byte_perplexity"),
        ("held_out_text", "word_perplexity"),
    }


def test_a_random_model_knows_nothing(results: pd.DataFrame) -> None:
    loss = results[(results["task"] == "validation") & (results["metric"] == "loss")]["value"]
    assert loss.to_numpy() == pytest.approx([math.log(300)] * len(loss), rel=0.02)


def test_bits_per_byte_follow_from_loss_and_tokens(study: Study, results: pd.DataFrame) -> None:
    from regmix_hf.study.corpus_facts import CorpusFacts

    facts = CorpusFacts.load(study.corpus)
    table = results[results["task"] == "validation"].pivot_table(
        index=["model", "domain"], columns="metric", values=["value", "stderr"]
    )
    for (_, domain), row in table.iterrows():
        split = facts.domains[str(domain)].validation
        factor = split.num_tokens / split.num_bytes / math.log(2)
        assert row["value", "bits_per_byte"] == pytest.approx(row["value", "loss"] * factor)
        assert row["stderr", "bits_per_byte"] == pytest.approx(row["stderr", "loss"] * factor)


def test_the_limit_counts_documents(results: pd.DataFrame) -> None:
    assert set(results.loc[results["task"] == "held_out_text", "num_samples"]) == {5}


def test_what_is_written_is_plain_json(study: Study) -> None:
    text = (study.evaluation / "prior" / "result.json").read_text()
    content = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert content["status"] == "ok"
    assert "torch" not in text


def test_finished_models_are_not_evaluated_again(study: Study) -> None:
    assert study.state(evaluate.STAGE) is State.DONE
    markers = {name: (study.evaluation / name / "result.json") for name in ("prior", "uniform")}
    before = {name: marker.stat().st_mtime_ns for name, marker in markers.items()}
    table = (study.evaluation / "results.parquet").read_bytes()
    (study.evaluation / "results.parquet").unlink()
    evaluate.run(study, Silent())
    assert {name: marker.stat().st_mtime_ns for name, marker in markers.items()} == before
    assert (study.evaluation / "results.parquet").read_bytes() == table


def test_two_names_of_one_mixture_are_evaluated_once(study: Study, tmp_path: Path) -> None:
    shutil.copytree(study.root.parent, tmp_path / "copy")
    copy = make_study(tmp_path / "copy")
    file, marker = copy.models / "results.parquet", copy.models / "uniform" / "result.json"
    write_parquet(file, pd.read_parquet(file).replace({"run_id": {"run1": "run0"}}))
    write_json(marker, {**read_json(marker), "run_id": "run0"})
    (copy.evaluation / "uniform" / "result.json").unlink()
    evaluate.run(copy, Silent())
    table = pd.read_parquet(copy.evaluation / "results.parquet")
    values = table.groupby("model", sort=False)["value"].agg(list)
    assert values.index.tolist() == ["prior", "uniform"] == table["mixture_id"].unique().tolist()
    assert values["prior"] == values["uniform"]
    assert not (copy.evaluation / "uniform" / "result.json").exists()


def test_promises_are_compared_with_what_was_measured(study: Study, tmp_path: Path) -> None:
    copy = finished_copy(study, tmp_path)
    assert copy.state(evaluate.STAGE) is State.STALE  # models changed
    evaluate.run(copy, Silent())
    promises = Promises.load(copy.evaluation / PROMISES)
    assert [(one.mixture, one.measured) for one in promises.mixtures] == [("prior", 3.0), ("uniform", 2.5)]
    assert promises.mixtures[0].predicted == pytest.approx(2.0 + 0.8, abs=0.01)
    assert copy.state(evaluate.STAGE) is State.DONE
    write_text(copy.mixture, "estimator: ridge\npredicted: {coverage: 0.5}\n")
    assert copy.changes(evaluate.STAGE) == ["5-mixture/mixture.yaml"]


def finished_copy(study: Study, folder: Path) -> Study:
    """The study with a fit, a choice, and losses of its final models."""
    shutil.copytree(study.root.parent, folder / "copy")
    copy = make_study(folder / "copy")
    weights = np.random.default_rng(0).dirichlet([1, 1], 20)
    mixtures = pd.DataFrame(weights, columns=list(WORDS))
    losses = pd.DataFrame(dict.fromkeys(WORDS, 2.0 + mixtures["numbers"]))
    MixtureRegressor("ridge").fit(mixtures, losses).save_pretrained(copy.regression / "ridge")
    write_json(copy.regression / "summary.json", {"estimator": "ridge"})
    write_text(copy.mixture, "estimator: ridge\npredicted: {coverage: 0.8}\n")
    results = pd.read_parquet(copy.models / "results.parquet").assign(scale="1k", num_train_tokens=1024)
    for name, share in (("numbers", 0.8), ("colours", 0.2)):
        results[f"weight/{name}"] = [share, 0.5, 0.5]
        results[f"loss/{name}"] = [3.0, 2.5, math.nan]
    write_parquet(copy.models / "results.parquet", results)
    return copy


@pytest.mark.parametrize("change", [{"limit": 6}, {"num_fewshot": 1}, {"tasks": []}])
def test_other_settings_make_results_stale(study: Study, change: dict[str, object]) -> None:
    other = make_study(study.root.parent, **change)
    assert other.state(evaluate.STAGE) is State.STALE
    (task, *_) = evaluate.tasks_of(other, Silent())
    assert status_of(task) is None


def test_a_model_trained_again_is_evaluated_again(study: Study) -> None:
    (task, *_) = evaluate.tasks_of(study, Silent())
    assert status_of(task) == "ok"
    frame = pd.read_parquet(study.models / "results.parquet").assign(run_id=["new0", "run1", "run2"])
    before = read_json(study.models / "prior" / "result.json")
    try:
        write_parquet(study.models / "results.parquet", frame)
        write_json(study.models / "prior" / "result.json", {**before, "run_id": "new0"})
        (task, *_) = evaluate.tasks_of(study, Silent())
        assert status_of(task) is None
    finally:
        write_parquet(study.models / "results.parquet", frame.assign(run_id=["run0", "run1", "run2"]))
        write_json(study.models / "prior" / "result.json", before)


class NoMemory:
    """A place where nothing fits."""

    def __init__(self) -> None:
        self.waiting: list[list[str]] = []

    def run(self, tasks: Sequence[Task], work: EvaluationWork, progress: Progress) -> Counter[str]:
        self.waiting.append([task.name for task in tasks if status_of(task) is None])
        for task in tasks:
            record_failed(task, "RuntimeError: out of memory")
        return Counter(failed=len(tasks))


def test_a_model_that_cannot_be_evaluated_stops_the_stage_and_is_tried_again(
    study: Study, tmp_path: Path
) -> None:
    shutil.copytree(study.root.parent, tmp_path / "copy")
    copy = make_study(tmp_path / "copy", limit=7)
    place = NoMemory()
    for _ in range(2):
        with pytest.raises(RegmixError, match="the model prior could not be evaluated: RuntimeError: out of"):
            evaluate.run(copy, Silent(), place)
    assert place.waiting == [["prior", "uniform"]] * 2
    assert copy.state(evaluate.STAGE) is State.STALE


def test_before_any_model_is_trained_the_verb_that_trains_is_named(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    study.open()
    with pytest.raises(StudyError, match=r"results\.parquet is not there yet") as caught:
        evaluate.run(study, Silent())
    assert caught.value.hint == "run `regmix train` first"


def test_a_model_that_is_gone_is_named(study: Study, tmp_path: Path) -> None:
    shutil.copytree(study.root.parent, tmp_path / "copy")
    copy = make_study(tmp_path / "copy")
    shutil.rmtree(copy.models / "uniform")
    with pytest.raises(StudyError, match="holds no model of uniform with seed 1"):
        evaluate.run(copy, Silent())


def test_workers_share_no_file_of_the_tasks_that_each_of_them_writes(study: Study, tmp_path: Path) -> None:
    work = EvaluationWork(study.corpus, tmp_path / "stage", study.recipe.evaluation, seed=0)
    work.open()
    assert not (tmp_path / "stage").exists()


def test_half_as_many_texts_at_once_until_they_fit_and_the_result_names_them(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = [4]

    def score(model: LanguageModel, corpus: object) -> list[Score]:
        if model.batch_size > most[0]:
            raise RuntimeError("CUDA out of memory. Tried to allocate 1 GiB")
        return []

    monkeypatch.setattr(validation, "score_validation", score)
    evaluation = study.recipe.evaluation.model_copy(update={"tasks": []})
    work = EvaluationWork(study.corpus, tmp_path, evaluation, seed=0)
    do, spec = work.open(), FinalModel(study.models / "prior", {}, "f")
    tries = []
    while not (tmp_path / "result.json").exists():
        tries.append(spec)
        try:
            do(spec, tmp_path, lambda num_tokens: None)
        except OutOfMemoryError:
            spec = work.smaller(spec)
    assert 2 < read_json(tmp_path / "result.json")["batch_size"] <= most[0]
    assert len(tries) == tries[-1].halvings + 1 > 5
    most[0] = 0
    with pytest.raises(RuntimeError, match="not even one text at once fits into memory: CUDA out of memory"):
        do(replace(spec, halvings=64), tmp_path, lambda num_tokens: None)
