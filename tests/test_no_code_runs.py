"""Code that lies where data should lie never runs, whatever the answer to a question whether it may."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from regmix_hf.errors import DataError, RegmixError, TrainingError
from regmix_hf.recipe import Domain

WORDS = {"a": 0, "b": 1}
AUTO_MAP = {
    "AutoTokenizer": ["planted.Planted", "planted.Planted"],
    "AutoConfig": "planted.Planted",
    "AutoModelForCausalLM": "planted.Planted",
}


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Put a module into a folder that leaves a trace when it runs; every question is answered with `y`."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 1000))
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))

    def make(folder: Path, name: str = "planted.py") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(
            f"open({str(tmp_path / 'it-ran')!r}, 'w').close()\nclass Planted:\n    pass\n"
        )

    return make


@pytest.fixture
def tokenizer(tmp_path: Path, plant: Callable[[Path], None]) -> Path:
    """The folder of a tokenizer that asks for a class of its own."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    folder = tmp_path / "tokenizer"
    plant(folder)
    Tokenizer(WordLevel(WORDS, unk_token="a")).save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "Planted", "auto_map": AUTO_MAP, "eos_token": "b"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"model_type": "planted", "auto_map": AUTO_MAP}))
    return folder


def ran(tmp_path: Path) -> bool:
    return (tmp_path / "it-ran").exists()


def test_the_plant_runs_where_it_is_let(tokenizer, tmp_path):
    from transformers import AutoConfig

    with suppress(Exception):  # what it gives is no config
        AutoConfig.from_pretrained(tokenizer, trust_remote_code=True)
    assert ran(tmp_path)


def test_no_code_of_a_recipes_tokenizer(tokenizer, tmp_path):
    from regmix_hf.corpus.tokenizer import _load

    with pytest.raises(DataError, match="cannot be had") as caught:
        _load(str(tokenizer))
    assert "custom code" in str(caught.value)
    assert not ran(tmp_path)


def test_no_code_of_a_tokenizer_in_a_corpus(tokenizer, tmp_path):
    from regmix_hf.corpus.corpus import Corpus

    corpus = Corpus.__new__(Corpus)
    object.__setattr__(corpus, "folder", tmp_path)
    with pytest.raises(ValueError, match="custom code"):
        corpus.tokenizer()
    assert not ran(tmp_path)


@pytest.mark.parametrize("model_type", ["planted", "llama"])
def test_no_code_of_a_final_model(tokenizer, tmp_path, model_type):
    from regmix_hf.evaluation.model import LanguageModel
    from regmix_hf.evaluation.scores import _wrap
    from regmix_hf.evaluation.validation import score_validation

    model = LanguageModel(tokenizer, tokenizer, 16, 1, "cpu")
    config = {"model_type": model_type, "auto_map": AUTO_MAP, "vocab_size": 2}
    (tokenizer / "config.json").write_text(json.dumps(config))
    for use in (lambda: model.batch_size, lambda: _wrap(model), lambda: score_validation(model, None)):
        with suppress(ValueError, OSError):  # no code may run, or there are no weights
            use()
        assert not ran(tmp_path)


@pytest.mark.parametrize("path", ["planted.py", "."])
@pytest.mark.parametrize("streaming", [False, True])
def test_no_code_of_a_data_set(plant, tmp_path, path, streaming):
    from regmix_hf.corpus.faults import explained
    from regmix_hf.corpus.opening import open_source

    folder = tmp_path / "planted"
    plant(folder)
    domain = Domain(path=str(folder / path), streaming=streaming)
    with pytest.raises((RegmixError, RuntimeError)), explained("web", domain, list):
        open_source("web", domain, "train")
    assert not ran(tmp_path)


def test_no_code_of_a_task_that_lies_beside_those_that_are_written(plant, tmp_path):
    from regmix_hf.evaluation.held_out_text import HELD_OUT_TEXT, write_tasks
    from regmix_hf.evaluation.tasks import load_tasks

    folder, corpus = tmp_path / "tasks", tmp_path / "corpus"
    plant(folder)
    (folder / "evil.yaml").write_text(
        f"task: evil\ntag: {HELD_OUT_TEXT}\ndataset_path: json\noutput_type: loglikelihood_rolling\n"
        "test_split: test\ndoc_to_text: ''\ndoc_to_target: !function planted.Planted\n"
    )
    (corpus / "web").mkdir(parents=True)
    (corpus / "web" / "validation.jsonl").write_text('{"text": "words"}\n')
    write_tasks(corpus, ["web"], folder)
    assert list(load_tasks([HELD_OUT_TEXT], folder).local.loaded["tasks"]) == ["held_out_text_web"]
    assert not ran(tmp_path)


@pytest.mark.parametrize(
    "keys",
    [
        {"attn_implementation": "kernels-community/flash-attn2"},
        {"attn_implementation": "some/kernel@v1:name"},
        {"attn_implementation": "paged|some/kernel"},
        {"attn_implementation": {"": "some/kernel"}},
        {"auto_map": AUTO_MAP},
    ],
)
def test_a_model_of_a_recipe_names_no_code(keys):
    from regmix_hf.training.models import build_config

    with pytest.raises(TrainingError, match=r"it is code|has no such key"):
        build_config({"model_type": "llama", **keys}, 16)


@pytest.mark.processes
def test_a_question_on_the_command_line_is_not_even_asked(tokenizer, tmp_path):
    (tmp_path / "web.jsonl").write_text('{"text": "a b a b"}\n' * 50)
    model = {"model_type": "llama"}
    recipe = {
        "name": "small",
        "output_dir": str(tmp_path / "study"),
        "context_length": 16,
        "tokenizer": str(tokenizer),
        "domains": {"web": {"path": "json", "data_files": str(tmp_path / "web.jsonl")}},
        "proxy": {"model": model, "num_train_tokens": 16},
        "train": {"model": model, "num_train_tokens": 16},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    done = subprocess.run(
        [sys.executable, "-m", "regmix_hf", "prepare", str(tmp_path / "recipe.yaml")],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")},
        input="y\n" * 1000,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "cannot be had" in done.stderr
    assert "[y/N]" not in done.stdout + done.stderr
    assert not ran(tmp_path)
