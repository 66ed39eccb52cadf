"""Recipes and sources of text, small enough to check by hand."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import datasets
import pytest

from regmix_hf.recipe import Recipe

#: Words whose bytes are easily counted.
WORDS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta")


@pytest.fixture(autouse=True)
def _no_shared_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets-cache")


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a thousandth of the time between two looks at an address."""
    monkeypatch.setattr("regmix_hf.corpus.patient_file.WAIT_UNIT_S", 0.001)


@pytest.fixture
def write_jsonl(tmp_path: Path) -> Callable[..., Path]:
    """Write rows, or texts, to a JSONL file in the test's folder; return its path."""

    def write(name: str, rows: Iterable[str | Mapping[str, Any]]) -> Path:
        path = tmp_path / name
        dicts = [{"text": row} if isinstance(row, str) else row for row in rows]
        path.write_text("".join(json.dumps(row) + "\n" for row in dicts), encoding="utf-8")
        return path

    return write


@pytest.fixture
def make_recipe() -> Callable[..., Recipe]:
    """A recipe of the given domains whose tokens are bytes: a BPE of 256 bytes and EOS has no merges."""

    def make(domains: Mapping[str, Mapping[str, Any]], **keys: Any) -> Recipe:
        run = {"model": {"preset": "tiny"}, "num_train_tokens": 100_000}
        tree = {
            "name": "test",
            "context_length": 32,
            "tokenizer": {"train": {"vocab_size": 257}},
            "corpus": {"num_proc": 1, "validation_fraction": 0.2},
            "proxy": run,
            "train": run,
            "domains": domains,
        }
        return Recipe.model_validate({**tree, **keys})

    return make


@pytest.fixture
def jsonl_domain(write_jsonl: Callable[..., Path]) -> Callable[..., dict[str, Any]]:
    """A domain of the given texts in a JSONL file, read as a stream unless told otherwise."""

    def domain(name: str, rows: Iterable[str | Mapping[str, Any]], **keys: Any) -> dict[str, Any]:
        path = write_jsonl(f"{name}.jsonl", rows)
        return {"path": "json", "data_files": str(path), "streaming": True, **keys}

    return domain


@pytest.fixture
def sentences() -> Callable[..., list[str]]:
    """`number` different texts of `words` words each; the seed of a text is its place and `prefix`."""

    def texts(number: int, prefix: str = "", words: int = 8) -> list[str]:
        return [
            f"{prefix}{i} " + " ".join(WORDS[(i * 7 + k * k) % len(WORDS)] for k in range(words))
            for i in range(number)
        ]

    return texts
