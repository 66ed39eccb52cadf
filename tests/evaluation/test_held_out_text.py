"""lm-eval over a corpus's own validation documents."""

import math
from pathlib import Path

import pytest

from regmix_hf.errors import StudyError
from regmix_hf.evaluation.held_out_text import write_tasks
from regmix_hf.evaluation.model import LanguageModel, Score
from regmix_hf.evaluation.scores import score_tasks
from regmix_hf.evaluation.tasks import load_tasks
from tests.held_out import held_out_texts

DOMAINS = ["prose", "no"]


@pytest.fixture(scope="module")
def scores(corpus: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Score]:
    """All documents of both domains, scored once."""
    model = LanguageModel(model_folder, corpus / "tokenizer", context_length=16, eos_token_id=0, device="cpu")
    folder = tmp_path_factory.mktemp("tasks")
    write_tasks(corpus, DOMAINS, folder)
    return score_tasks(model, load_tasks(["held_out_text"], folder), limit=None, num_fewshot=[None], seed=0)


def log_likelihood(model: LanguageModel, text: str) -> float:
    """Nats of a text, computed with transformers alone.

    Every token is scored once, in windows of a block: the first follows the EOS, the next ones the
    token before them, and the last one, when it is short, as much as fits before it.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    network = AutoModelForCausalLM.from_pretrained(model.folder)
    tokens = AutoTokenizer.from_pretrained(model.tokenizer).encode(text, add_special_tokens=False)
    tokens = [model.eos_token_id, *tokens]
    total = 0.0
    for start in range(1, len(tokens), model.context_length):
        end = min(start + model.context_length, len(tokens))
        inputs = tokens[max(0, end - 1 - model.context_length) : end - 1]
        with torch.no_grad():
            logits = network(torch.tensor([inputs])).logits[0, -(end - start) :].double()
        total += float(torch.log_softmax(logits, -1)[torch.arange(end - start), tokens[start:end]].sum())
    return total


@pytest.mark.parametrize("domain", DOMAINS)
def test_bits_per_byte_agree_with_a_direct_computation(
    domain: str, scores: list[Score], corpus: Path, model: LanguageModel
) -> None:
    texts = held_out_texts(corpus, domain)
    nats = sum(log_likelihood(model, text) for text in texts)
    num_bytes = sum(len(text.encode()) for text in texts)
    (score,) = [s for s in scores if s.domain == domain and s.metric == "bits_per_byte"]
    assert score.value == pytest.approx(-nats / num_bytes / math.log(2), rel=1e-6)
    assert score.num_samples == len(texts)
    assert score.higher_is_better is False


def test_some_document_is_longer_than_the_context(corpus: Path, model: LanguageModel) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model.tokenizer)
    lengths = [len(tokenizer.encode(text)) for text in held_out_texts(corpus, "prose")]
    assert max(lengths) > 2 * model.context_length


def test_every_domain_gets_a_standard_error_over_documents(
    scores: list[Score], corpus: Path, model: LanguageModel
) -> None:
    texts = held_out_texts(corpus, "prose")
    pairs = [(log_likelihood(model, text), len(text.encode())) for text in texts]
    total, size = (sum(column) for column in zip(*pairs, strict=True))
    residuals = [nats - total / size * num for nats, num in pairs]
    variance = len(pairs) / (len(pairs) - 1) * sum(residual**2 for residual in residuals) / size**2
    (score,) = [s for s in scores if s.domain == "prose" and s.metric == "bits_per_byte"]
    assert score.stderr == pytest.approx(math.sqrt(variance) / math.log(2), rel=1e-5)


def test_limit_is_the_number_of_documents(corpus: Path, model: LanguageModel, tmp_path: Path) -> None:
    write_tasks(corpus, DOMAINS, tmp_path)
    tasks = load_tasks(["held_out_text"], tmp_path)
    scores = score_tasks(model, tasks, limit=1, num_fewshot=[None], seed=0)
    text = held_out_texts(corpus, "prose")[0]
    (score,) = [s for s in scores if s.domain == "prose" and s.metric == "bits_per_byte"]
    assert score.num_samples == 1
    assert score.stderr is None
    assert score.value == pytest.approx(
        -log_likelihood(model, text) / len(text.encode()) / math.log(2), rel=1e-6
    )


def test_a_domain_without_validation_documents_is_named(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"poems.validation\.jsonl is not there"):
        write_tasks(corpus, ["prose", "poems"], tmp_path)


def test_lm_eval_draws_no_bars_and_prints_nothing(
    corpus: Path,
    model: LanguageModel,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("transformers.utils.logging._tqdm_active", False)
    write_tasks(corpus, DOMAINS, tmp_path)
    tasks = load_tasks(["held_out_text"], tmp_path)
    capfd.readouterr()
    score_tasks(model, tasks, limit=1, num_fewshot=[None], seed=0)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
