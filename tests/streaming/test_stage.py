"""The stage `train` straight from a stream, under the real launcher, with a corpus of little of the text."""

from collections.abc import Callable
from pathlib import Path

import pytest

from regmix_hf.files import read_parquet
from regmix_hf.progress import Silent
from regmix_hf.recipe import Recipe
from regmix_hf.stages import prepare, train
from regmix_hf.study import State, Study
from regmix_hf.study.corpus_facts import CorpusFacts

from ..tiny import LLAMA
from .server import FileServer

pytestmark = pytest.mark.processes


def test_final_run_trains_on_more_than_was_prepared(
    files: FileServer,
    as_lines: Callable[..., bytes],
    sentences: Callable[..., list[str]],
    make_recipe: Callable[..., Recipe],
    tmp_path: Path,
) -> None:
    run = {"model": LLAMA, "training_args": {"per_device_train_batch_size": 8, "use_cpu": True}}
    recipe = make_recipe(
        {
            name: {
                "path": "json",
                "data_files": files.add(f"{name}.jsonl", as_lines(sentences(4000, name))),
                "streaming": True,
                "num_tokens": 400_000,
            }
            for name in ("a", "b")
        },
        sampling={"max": {"a": 0.6, "b": 0.6}},
        proxy={**run, "num_train_tokens": 3200},
        train={**run, "num_train_tokens": 25_600, "mixtures": ["prior"], "streaming": True, "num_workers": 1},
    )
    study = Study(recipe)
    study.open()
    prepare.run(study, Silent())
    train.run(study, Silent())
    assert study.state(train.STAGE) is State.DONE
    row = read_parquet(study.models / "results.parquet").iloc[0]
    assert row["status"] == "ok"
    assert row["num_train_tokens"] == 25_600
    for name, facts in CorpusFacts.load(study.corpus).domains.items():
        assert facts.train is not None
        # More than the corpus holds, but little of what there is.
        assert row[f"realized/{name}"] * 25_600 > 1.5 * facts.train.num_tokens
        assert row[f"epochs/{name}"] == pytest.approx(row[f"realized/{name}"] * 25_600 / 400_000)
