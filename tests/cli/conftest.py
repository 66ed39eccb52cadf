"""The command line, run in this process, and a recipe that needs no text to be checked."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from regmix_hf.cli import app

RECIPE = """
name: two
context_length: 16
tokenizer: {{train: {{vocab_size: 300}}}}
output_dir: {folder}/study
domains:
  a: {{path: json, data_files: {{train: {folder}/a.jsonl}}}}
  b: {{path: json, data_files: {{train: {folder}/b.jsonl}}}}
corpus: {{num_proc: 1}}
sampling: {{num_mixtures: 12, num_holdout: 4}}
regression: {{estimators: [ridge]}}
proxy: {{model: {{preset: tiny}}, num_train_tokens: 1_024, training_args: {{use_cpu: true}}}}
train: {{model: {{preset: tiny}}, num_train_tokens: 2_048, training_args: {{use_cpu: true}}}}
"""


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def regmix(capsys, monkeypatch) -> Callable[..., Outcome]:
    def call(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["regmix", *map(str, words)])
        code = app.run()
        return Outcome(code, *capsys.readouterr())

    return call


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    for name in "ab":
        lines = (f'{{"text": "{name} document number {i} says {i * 7919}"}}' for i in range(400))
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE.format(folder=tmp_path))
    return file
