"""The right answers of tasks: found with the context that a task gives, scored to the numbers of lm-eval."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from accelerate import Accelerator

from regmix_hf.corpus.answers import Answers
from regmix_hf.errors import DataError, RecipeError, StudyError
from regmix_hf.evaluation.answers import encoder_of, prepare_answers, questions_of
from regmix_hf.evaluation.model import LanguageModel
from regmix_hf.evaluation.scores import score_tasks
from regmix_hf.evaluation.tasks import LoadedTasks, TaskSet, load_each
from tests.evaluation.conftest import CONTEXT_LENGTH, write_task

CHOICES = [
    {"question": "The cat sat on the", "choices": ["mat", "sky"], "answer": 0},
    {"question": "And then it", "choices": ["Ça", "slept for the afternoon"], "answer": 1},
    {"question": "one", "choices": ["two", "cat"], "answer": 0},
]
SUMS = [{"q": f"{a} + {a} =", "a": str(2 * a)} for a in (3, 21, 50)]
TEXTS = [
    {"text": "The cat sat on the mat, and then it slept for the whole afternoon. " * 2},
    {"text": "Ça va?"},
]


@dataclass
class Facts:
    tasks: dict
    context_length: int = CONTEXT_LENGTH


@dataclass
class Asked:
    """What `AnswerSet` needs of a corpus."""

    folder: Path
    facts: Facts


@pytest.fixture(scope="module")
def own_tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four tasks: choices, sums with two solved examples, whole texts, and numbers for answers; a group."""
    folder = tmp_path_factory.mktemp("tasks")
    mean = {"metric": "acc", "aggregation": "mean", "higher_is_better": True}
    choices = {"doc_to_text": "{{question}}", "doc_to_target": "answer", "doc_to_choice": "choices"}
    write_task(folder, "choices", CHOICES, output_type="multiple_choice", metric_list=[mean], **choices)
    exact = {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}
    sums = {"doc_to_text": "{{q}}", "doc_to_target": "{{a}}", "fewshot_split": "test", "num_fewshot": 2}
    generate = {"output_type": "generate_until", "generation_kwargs": {"until": ["\n"]}}
    write_task(folder, "sums", SUMS, metric_list=[exact], **generate, **sums)
    bits = {"metric": "bits_per_byte", "aggregation": "bits_per_byte", "higher_is_better": False}
    texts = {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "text"}
    write_task(folder, "texts", TEXTS, metric_list=[bits], **texts)
    numbers = {"doc_to_text": "{{q}}", "doc_to_target": "a"}
    rows = [{"q": "1 + 1 =", "a": 2}]
    write_task(folder, "numbers", rows, metric_list=[exact], **generate, **numbers)
    group = {"group": "both", "task": ["choices", "texts"]}
    (folder / "both.yaml").write_text(json.dumps(group))
    return folder


@pytest.fixture(scope="module")
def loaded(own_tasks: Path) -> dict[str, TaskSet]:
    return load_each(["choices", "sums", "texts", "both"], str(own_tasks), "proxy.tasks")


@pytest.fixture(scope="module")
def asked(loaded, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("asked")
    encoder = encoder_of(AutoTokenizer.from_pretrained(corpus / "tokenizer"), CONTEXT_LENGTH, eos_token_id=0)
    facts = {
        name: prepare_answers(questions_of(name, tasks, limit=None, seed=0), name, encoder, folder)
        for name, tasks in loaded.items()
    }
    return Asked(folder, Facts(facts))


@pytest.fixture(scope="module")
def network(model_folder: Path):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model_folder)


@pytest.fixture(scope="module")
def bits(asked: Asked, model_folder: Path) -> dict:
    from transformers import AutoModelForCausalLM

    from regmix_hf.training.answers import AnswerSet
    from regmix_hf.training.examinee import Examinee
    from regmix_hf.training.loss_head import score_in_parts

    scored = AutoModelForCausalLM.from_pretrained(model_folder)
    score_in_parts(scored)
    answers = AnswerSet(asked)
    few, many = (Examinee(scored, Accelerator(cpu=True), size) for size in (1, 64))
    found = [answers.scores(of) for of in (few, many)]
    for name, one in found[0].items():
        assert one.mean == pytest.approx(found[1][name].mean, rel=1e-6)
    alone, together = (answers.nats_per_token(of) for of in (few, many))
    for name, nats in alone.items():  # in an order that does not depend on how many are asked at once
        np.testing.assert_allclose(nats, together[name], rtol=1e-4)
        assert nats.mean() * answers.bits_per_nat[name] == pytest.approx(found[1][name].mean, rel=1e-6)
    return found[1]


def nats_of(network, tokens: list[int], count: int) -> float:
    """Directly: the log-probabilities of the last `count` tokens after all before them."""
    import torch

    with torch.no_grad():
        logits = network(input_ids=torch.tensor([tokens[:-1]])).logits[0].double()
    chosen = logits.log_softmax(-1)[range(len(tokens) - 1), tokens[1:]]
    return -float(chosen[-count:].sum())


def test_choices_and_sums_have_the_bits_of_a_direct_computation(corpus, network, bits) -> None:
    from transformers import AutoTokenizer

    encode = AutoTokenizer.from_pretrained(corpus / "tokenizer").encode
    nats, num_bytes = [], []
    for row in CHOICES:
        answer = row["choices"][row["answer"]]
        context, whole = encode(row["question"]), encode(f"{row['question']} {answer}")
        count = len(whole) - len(context)
        nats.append(nats_of(network, whole[-CONTEXT_LENGTH - 1 :], count))
        num_bytes.append(len(answer.encode()))
    assert bits["choices"].mean == pytest.approx(sum(nats) / sum(num_bytes) / math.log(2), rel=1e-6)
    each = np.array(nats) / math.log(2)
    ratio = each.sum() / sum(num_bytes)
    squares = ((each - ratio * np.array(num_bytes)) ** 2).sum()
    assert bits["choices"].stderr == pytest.approx(math.sqrt(3 / 2 * squares) / sum(num_bytes), rel=1e-6)


def test_whole_texts_have_the_bits_and_the_error_that_lm_eval_gives(loaded, model, bits) -> None:
    tasks = LoadedTasks(local=None, public=loaded["texts"])
    [score] = score_tasks(model, tasks, limit=None, num_fewshot=[None], seed=0)
    assert bits["texts"].mean == pytest.approx(score.value, rel=1e-6)
    assert bits["texts"].stderr == pytest.approx(score.stderr, rel=1e-6)


@pytest.mark.parametrize("name", ["choices", "sums"])
def test_right_answers_have_the_likelihood_that_lm_eval_gives(
    name, loaded, model: LanguageModel, bits
) -> None:
    from lm_eval.api.instance import Instance

    from regmix_hf.evaluation.scores import _wrap

    questions = questions_of(name, loaded[name], limit=None, seed=0).asked
    requests = [
        Instance(request_type="loglikelihood", doc={}, arguments=(one.context, one.answer), idx=0)
        for one in questions
    ]
    nats = [-value for value, _ in _wrap(model).loglikelihood(requests, disable_tqdm=True)]
    num_bytes = sum(one.num_bytes for one in questions)
    assert bits[name].mean == pytest.approx(sum(nats) / num_bytes / math.log(2), rel=1e-6)


def test_contexts_show_the_solved_examples_that_a_task_says(loaded) -> None:
    first, *_ = questions_of("sums", loaded["sums"], limit=None, seed=0).asked
    assert first.context.endswith("\n\n3 + 3 =")
    assert first.context.count("=") == 3
    assert (first.answer, first.num_bytes) == (" 6", 1)


def test_a_group_has_the_documents_of_all_its_tasks(asked: Asked, loaded, bits) -> None:
    facts = asked.facts.tasks
    assert facts["both"].num_documents == facts["choices"].num_documents + facts["texts"].num_documents
    nats = sum(bits[name].mean * facts[name].num_bytes for name in ("choices", "texts"))
    assert bits["both"].mean == pytest.approx(nats / facts["both"].num_bytes, rel=1e-9)
    assert len(questions_of("both", loaded["both"], limit=1, seed=0).asked) == 2


def test_what_was_cut_is_counted(asked: Asked) -> None:
    assert asked.facts.tasks["sums"].num_cut > 0
    assert asked.facts.tasks["choices"].num_tokens < 60


def test_an_answer_that_is_no_text_is_named(own_tasks: Path) -> None:
    [tasks] = load_each(["numbers"], str(own_tasks), "proxy.tasks").values()
    with pytest.raises(DataError, match=r"'numbers' has no document whose right answer is a text; .* is 2"):
        questions_of("numbers", tasks, limit=None, seed=0)


def test_a_folder_of_tasks_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"evaluation.include_path: .* is no folder"):
        load_each(["choices"], str(tmp_path / "none"), "proxy.tasks")


def test_damaged_answers_are_refused(asked: Asked, tmp_path: Path) -> None:
    facts = asked.facts.tasks["choices"]
    Answers.load(asked.folder, "sums", asked.facts.tasks["sums"]).save(tmp_path, "choices")
    with pytest.raises(StudyError, match="holds other answers than were prepared"):
        Answers.load(tmp_path, "choices", facts)
