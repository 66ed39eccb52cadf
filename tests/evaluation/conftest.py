"""A real tiny language model, its tokenizer, and validation documents of two domains."""

import json
from pathlib import Path

import pytest

from regmix_hf.evaluation.model import LanguageModel

CONTEXT_LENGTH = 16
DOCUMENTS = {
    "prose": ["The cat sat on the mat, and then it slept for the whole afternoon.\n", "Ça va? 日本語", "one"],
    # A template that renders to a Python list must stay text, and a bare `no` must stay a name.
    "no": ["[1, 2, 3]", "def f(x):\n    return {{x}}\n", "", "    \t  spaces  "],
}


def write_task(folder: Path, name: str, rows: list[dict], **config: object) -> None:
    """Write a task of one's own with its documents."""
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        **config,
    }
    (folder / f"{name}.yaml").write_text(json.dumps(task))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The validation documents of a corpus, one of them empty, and its tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("1-corpus")
    for domain, documents in DOCUMENTS.items():
        (folder / domain).mkdir()
        lines = [json.dumps({"text": text}) for text in documents]
        (folder / domain / "validation.jsonl").write_text("\n".join(lines) + "\n")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=280,
        special_tokens=["<eos>", "<bos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator([text for texts in DOCUMENTS.values() for text in texts], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", bos_token="<bos>")
    fast.save_pretrained(folder / "tokenizer")
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of 20 thousand random parameters whose config allows more than the training context."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=280,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=4 * CONTEXT_LENGTH,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=0,
    )
    folder = tmp_path_factory.mktemp("models") / "chosen"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def model(corpus: Path, model_folder: Path) -> LanguageModel:
    return LanguageModel(
        folder=model_folder,
        tokenizer=corpus / "tokenizer",
        context_length=CONTEXT_LENGTH,
        eos_token_id=0,
        device="cpu",
    )
