"""Servers on loopback, text on them, and short waits between tries."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pytest

from regmix_hf.recipe import Recipe

from .server import FileServer, serve_files

#: Words whose bytes are easily counted.
WORDS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta")


@pytest.fixture(autouse=True)
def _no_shared_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets-cache")


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a thousandth of the time between two tries."""
    monkeypatch.setattr("regmix_hf.corpus.patient_file.WAIT_UNIT_S", 0.001)
    monkeypatch.setattr("regmix_hf.corpus.patient_file._SILENCE_S", 0.5)


@pytest.fixture
def files() -> Iterator[FileServer]:
    """A server of plain files."""
    with serve_files() as server:
        yield server


@pytest.fixture(scope="session")
def as_lines() -> Callable[[Iterable[Any]], bytes]:
    """Write texts, or rows, as JSON lines."""

    def write(rows: Iterable[str | Mapping[str, Any]]) -> bytes:
        dicts = ({"text": row} if isinstance(row, str) else row for row in rows)
        return "".join(json.dumps(row) + "\n" for row in dicts).encode()

    return write


@pytest.fixture(scope="session")
def sentences() -> Callable[..., list[str]]:
    """`number` different texts of one to `words` words, no two alike."""

    def texts(number: int, prefix: str = "", words: int = 30) -> list[str]:
        return [
            f"{prefix}{i} " + " ".join(WORDS[(i * 7 + k * k) % len(WORDS)] for k in range(1 + i * 13 % words))
            for i in range(number)
        ]

    return texts


def byte_recipe(folder: Path, domains: Mapping[str, Mapping[str, Any]], **keys: Any) -> Recipe:
    """A recipe of the given domains whose tokens are bytes; its study is in `folder`."""
    run = {"model": {"preset": "tiny"}, "num_train_tokens": 4_000}
    tree = {
        "name": "test",
        "output_dir": str(folder / "study"),
        "context_length": 32,
        "tokenizer": {"train": {"vocab_size": 257}},
        "corpus": {"num_proc": 1, "validation_fraction": 0.2, "max_validation_tokens": 2000},
        "proxy": run,
        "train": run,
        "domains": domains,
    }
    return Recipe.model_validate({**tree, **keys})


@pytest.fixture
def make_recipe(tmp_path: Path) -> Callable[..., Recipe]:
    """Make a recipe whose study is in the test's folder."""
    return partial(byte_recipe, tmp_path)
