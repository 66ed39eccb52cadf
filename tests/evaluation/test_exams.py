"""Metrics of lm-eval that follow from likelihoods: the numbers of lm-eval itself, and what is refused."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from accelerate import Accelerator

from regmix_hf.corpus.exams import Exam
from regmix_hf.errors import DataError, RecipeError, StudyError
from regmix_hf.evaluation.answers import encoder_of
from regmix_hf.evaluation.exams import papers_of, prepare_exam
from regmix_hf.evaluation.metrics import check_metrics
from regmix_hf.evaluation.scores import score_tasks
from regmix_hf.evaluation.tasks import LoadedTasks, TaskSet, load_each
from tests.evaluation.conftest import CONTEXT_LENGTH, write_task

QUESTIONS = [
    {"q": "The cat sat on the", "c": ["mat", "sky"], "a": 1, "w": "mat"},
    {"q": "And then it", "c": ["Ça", "slept for the afternoon"], "a": 1, "w": "slept"},
    {"q": "one", "c": ["two", "cat"], "a": 0, "w": "two"},
    {"q": "whole afternoon, and", "c": ["then", "it sat"], "a": 0, "w": "it"},
    {"q": "on the mat, and", "c": ["then it", "one"], "a": 1, "w": "one"},
]
JUDGED = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "brier_score", "exact_match", "f1", "mcc")
WHOLE = ("bits_per_byte", "byte_perplexity", "word_perplexity")


@dataclass
class Facts:
    exams: dict
    context_length: int = CONTEXT_LENGTH


@dataclass
class Prepared:
    """What `ExamSet` needs of a corpus."""

    folder: Path
    facts: Facts


@pytest.fixture(scope="module")
def own_tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Choices, few choices, endings, whole texts, sums that are written, a judge of its own, and groups."""
    folder = tmp_path_factory.mktemp("tasks")
    choices = {"output_type": "multiple_choice", "doc_to_text": "{{q}}", "doc_to_target": "a"}
    listed = [{"metric": name} for name in JUDGED]
    write_task(folder, "choices", QUESTIONS, metric_list=listed, doc_to_choice="c", **choices)
    write_task(folder, "few", QUESTIONS[:2], metric_list=listed[:1], doc_to_choice="c", **choices)
    ends = {"output_type": "loglikelihood", "doc_to_text": "{{q}}", "doc_to_target": "{{w}}"}
    write_task(folder, "ends", QUESTIONS, metric_list=[{"metric": "perplexity"}, {"metric": "acc"}], **ends)
    texts = {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{q}}"}
    write_task(folder, "texts", QUESTIONS, metric_list=[{"metric": name} for name in WHOLE], **texts)
    sums = {"output_type": "generate_until", "doc_to_text": "{{q}}", "doc_to_target": "{{w}}"}
    sums |= {"generation_kwargs": {"until": ["."]}, "metric_list": [{"metric": "exact_match"}]}
    write_task(folder, "sums", QUESTIONS, **sums)
    own = (folder / "few.yaml").read_text().replace('"few"', '"own"')
    (folder / "own.yaml").write_text(own[:-1] + ', "process_results": "judge"}')
    for name, by_size in (("both", True), ("alike", False)):
        mean = [{"metric": "acc", "weight_by_size": by_size}]
        group = {"group": name, "task": ["choices", "few"], "aggregate_metric_list": mean}
        (folder / f"{name}.yaml").write_text(json.dumps(group))
    return folder


@pytest.fixture(scope="module")
def loaded(own_tasks: Path) -> dict[str, TaskSet]:
    return load_each(["choices", "ends", "texts", "both", "alike"], str(own_tasks), "proxy.metrics")


@pytest.fixture(scope="module")
def prepared(loaded, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("exams")
    encoder = encoder_of(AutoTokenizer.from_pretrained(corpus / "tokenizer"), CONTEXT_LENGTH, eos_token_id=0)
    asked = {
        "choices": JUDGED,
        "ends": ["perplexity", "acc"],
        "texts": WHOLE,
        "both": ["acc"],
        "alike": ["acc"],
    }
    facts = {
        name: prepare_exam(papers_of(name, metrics, loaded[name], limit=None, seed=0), name, encoder, folder)
        for name, metrics in asked.items()
    }
    return Prepared(folder, Facts(facts))


@pytest.fixture(scope="module")
def measures(prepared: Prepared, model_folder: Path) -> dict:
    from transformers import AutoModelForCausalLM

    from regmix_hf.training.examinee import Examinee
    from regmix_hf.training.exams import ExamSet
    from regmix_hf.training.loss_head import score_in_parts

    scored = AutoModelForCausalLM.from_pretrained(model_folder)
    score_in_parts(scored)
    return ExamSet(prepared).scores(Examinee(scored, Accelerator(cpu=True), 4))


@pytest.mark.parametrize("task", ["choices", "ends", "texts", "both", "alike"])
def test_metrics_and_their_errors_are_those_of_lm_eval(
    task, loaded, model, prepared, measures, monkeypatch
) -> None:
    monkeypatch.setattr("regmix_hf.evaluation.scores._BOOTSTRAP_SAMPLES", 2)
    tasks = LoadedTasks(local=None, public=loaded[task])
    scores = score_tasks(model, tasks, limit=None, num_fewshot=[None], seed=0)
    theirs = {score.metric: score for score in scores if score.task == task}
    for metric in prepared.facts.exams[task].metrics:
        ours = measures[f"{task}/{metric}"]
        assert ours.mean == pytest.approx(theirs[metric].value, rel=1e-5), metric
        if ours.stderr == ours.stderr:  # of the others lm-eval draws samples
            assert ours.stderr == pytest.approx(theirs[metric].stderr, rel=1e-5), metric
    assert 0 < measures["choices/acc"].mean < 1


def test_what_a_model_would_write_is_told_from_what_is_only_likely(model_folder: Path) -> None:
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM

    from regmix_hf.training.examinee import Examinee
    from regmix_hf.training.loss_head import score_in_parts
    from regmix_hf.training.requests import Requests

    model = AutoModelForCausalLM.from_pretrained(model_folder)
    context, written = [5, 9, 30], []
    with torch.no_grad():
        for _ in range(3):
            written.append(int(model(torch.tensor([[*context, *written]])).logits[0, -1].argmax()))
    score_in_parts(model)
    other = [(written[0] + 1) % 280, *written[1:]]
    tokens = [np.array([*context, *answer]) for answer in (written, other, written[:1])]
    requests = Requests(tokens, np.array([3, 3, 1]), CONTEXT_LENGTH)
    nats, is_written = requests.scores(Examinee(model, Accelerator(cpu=True), 1))
    assert is_written.tolist() == [True, False, True]
    assert (nats > 0).all()


def test_all_choices_are_asked_and_bare_ones_only_where_they_count(prepared, loaded) -> None:
    facts = prepared.facts.exams
    assert (facts["choices"].num_documents, facts["both"].num_documents) == (5, 7)
    asked = papers_of("choices", ["acc"], loaded["choices"], limit=2, seed=0).members[0][1]
    assert [one.asked for one in asked] == [
        (("The cat sat on the", " mat"), ("The cat sat on the", " sky")),
        (("And then it", " Ça"), ("And then it", " slept for the afternoon")),
    ]
    assert [
        len(one.asked)
        for one in papers_of("choices", JUDGED, loaded["choices"], limit=1, seed=0).members[0][1]
    ] == [4]


@pytest.mark.parametrize(
    ("task", "metric", "said"),
    [
        ("choices", "acc_nrm", r"lm-eval measures no 'acc_nrm' of 'choices'.*did you mean 'acc_norm'"),
        ("few", "acc_norm", r"lm-eval measures no 'acc_norm' of 'few'"),
        ("sums", "exact_match", r"'exact_match' of 'sums' judges what a model writes.*proxy.tasks: \[sums\]"),
        ("own", "acc", r"code of the task's own"),
        ("both", "acc_norm", r"no 'acc_norm' of the group 'both'.*known are 'acc'"),
    ],
)
def test_metrics_that_are_none_or_not_for_proxies_are_refused_by_files_alone(
    task, metric, said, own_tasks
) -> None:
    with pytest.raises(RecipeError, match=rf"(?s)proxy.metrics: .*{said}"):
        check_metrics({task: [metric]}, str(own_tasks))
    assert check_metrics({"choices": JUDGED, "both": ["acc"]}, str(own_tasks)) is None


def test_a_metric_that_documents_do_not_suit_is_refused_before_any_model_is_asked(
    own_tasks: Path, corpus: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    rows = [{"q": "one", "c": ["two", "cat", "mat"], "a": gold} for gold in (0, 1, 2)]
    choices = {"output_type": "multiple_choice", "doc_to_text": "{{q}}", "doc_to_target": "a"}
    write_task(tmp_path, "three", rows, metric_list=[{"metric": "f1"}], doc_to_choice="c", **choices)
    [tasks] = load_each(["three"], str(tmp_path), "proxy.metrics").values()
    papers = papers_of("three", ["f1"], tasks, limit=None, seed=0)
    encoder = encoder_of(AutoTokenizer.from_pretrained(corpus / "tokenizer"), CONTEXT_LENGTH, eos_token_id=0)
    with pytest.raises(
        DataError, match=r"lm-eval cannot compute f1 of the documents of 'three': .*multiclass"
    ):
        prepare_exam(papers, "three", encoder, tmp_path)


def test_a_damaged_exam_is_refused(prepared: Prepared, tmp_path: Path) -> None:
    facts = prepared.facts.exams["choices"]
    Exam.load(prepared.folder, "both", prepared.facts.exams["both"]).save(tmp_path, "choices")
    with pytest.raises(StudyError, match="holds other questions than were prepared"):
        Exam.load(tmp_path, "choices", facts)
