"""Final runs straight from a stream that fails: killed, on several ranks, with the same losses."""

import json
import multiprocessing
import os
import random
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from regmix_hf.corpus.corpus import Corpus
from regmix_hf.corpus.prepare import prepare_corpus
from regmix_hf.errors import TrainingError
from regmix_hf.files import read_json, read_parquet
from regmix_hf.recipe import Recipe
from regmix_hf.training.checkpoints import last_checkpoint
from regmix_hf.training.run import train_final
from regmix_hf.training.spec import RunSpec, final_specs

from ..tiny import LLAMA
from .conftest import WORDS
from .server import FileServer, serve_files

pytestmark = pytest.mark.processes

FINAL = Path(__file__).parent / "work" / "final.py"


@pytest.fixture(scope="module")
def server() -> Iterator[FileServer]:
    """Two domains of text, one of them soon read to its end."""
    draw = random.Random(0)
    with serve_files() as server:
        for name, number in (("large", 3000), ("small", 40)):
            texts = (
                f"{name}{i} " + " ".join(draw.choices(WORDS, k=draw.randint(3, 60))) for i in range(number)
            )
            server.add(f"{name}.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in texts).encode())
        yield server


@pytest.fixture(scope="module")
def study(server: FileServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, RunSpec]:
    """A corpus of the beginning of the text, and a run that needs more: 20 steps of 8 blocks, one of 5."""
    folder = tmp_path_factory.mktemp("live")
    arguments = {"learning_rate": 1e-2, "per_device_train_batch_size": 4, "use_cpu": True}
    run = {"model": LLAMA, "num_batch_tokens": 8 * 32, "training_args": arguments, "num_evaluations": 3}
    recipe = Recipe.model_validate(
        {
            "name": "live",
            "output_dir": str(folder / "study"),
            "context_length": 32,
            "tokenizer": {"train": {"vocab_size": 300}},
            "corpus": {"num_proc": 1, "max_validation_tokens": 1000},
            "domains": {
                name: {"path": "json", "data_files": f"{server.url}/{name}.jsonl", "streaming": True}
                for name in ("large", "small")
            },
            "proxy": {**run, "num_train_tokens": 320},
            "train": {**run, "num_train_tokens": 165 * 32 + 7, "streaming": True},
        }
    )
    facts = prepare_corpus(recipe, folder / "1-corpus", budgets={"large": 2000})
    [(_, spec)] = final_specs(recipe, facts, {"chosen": {"large": 0.7, "small": 0.3}})
    return Corpus(folder / "1-corpus"), spec


@pytest.fixture(autouse=True)
def _failing(server: FileServer, hurried: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small windows, short waits, and one request in five that goes wrong."""
    monkeypatch.setattr("regmix_hf.corpus.live_blocks.WINDOW_BLOCKS", 8)
    monkeypatch.setattr("regmix_hf.corpus.lines.ROWS", 16)
    server.fail(0, 0.2, (500, "drop", "hang up"))


@pytest.fixture(scope="module")
def undisturbed(study: tuple[Corpus, RunSpec], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run nobody stopped."""
    corpus, spec = study
    folder = tmp_path_factory.mktemp("models") / "chosen"
    process = begin(corpus, spec, folder)
    process.join()
    assert process.exitcode == 0
    return folder


def begin(corpus: Corpus, spec: RunSpec, folder: Path, **killed: tuple[int, float]) -> Any:
    """Begin the run in a process that may be killed, forked with all imports done."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["regmix_hf.training.run"])
    values = {"CORPUS": str(corpus.folder), "RUNS": json.dumps([[asdict(spec), str(folder)]]), **killed}
    process = context.Process(target=runpy.run_path, args=(str(FINAL), values, "__final__"))
    process.start()
    return process


def launch(corpus: Corpus, spec: RunSpec, folders: Sequence[Path]) -> None:
    """Train on two ranks, to the end, once in each folder."""
    flags = "--multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no"
    command = [sys.executable, "-m", "accelerate.commands.launch", *flags.split(), str(FINAL)]
    process = subprocess.Popen(
        [*command, str(corpus.folder), json.dumps([[asdict(spec), str(folder)] for folder in folders])],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=240)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0, output


def kill_after(step: int, corpus: Corpus, spec: RunSpec, folder: Path, wait_s: float = 0.0) -> None:
    process = begin(corpus, spec, folder, KILLED=(step, wait_s))
    process.join()
    assert process.exitcode == -signal.SIGKILL


def often(spec: RunSpec) -> RunSpec:
    return replace(spec, training_args={**spec.training_args, "save_steps": 1})


def outcome(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("wall_seconds", "device")}


def same_bits(folder: Path, expected: Path) -> None:
    ended, weights = load_file(folder / "model.safetensors"), load_file(expected / "model.safetensors")
    assert all(torch.equal(ended[name], weight) for name, weight in weights.items())
    assert outcome(read_json(folder / "result.json")) == outcome(read_json(expected / "result.json"))
    assert read_parquet(folder / "trajectory.parquet").equals(read_parquet(expected / "trajectory.parquet"))


def test_the_run_trains_on_what_the_corpus_does_not_hold(
    undisturbed: Path, study: tuple[Corpus, RunSpec]
) -> None:
    corpus, _ = study
    row = read_json(undisturbed / "result.json")
    assert row["num_train_tokens"] == 165 * 32
    assert row["realized/large"] == pytest.approx(0.7, abs=0.15)
    assert 165 * row["realized/large"] > 1.5 * corpus.blocks("large", "train").num_rows
    assert row["epochs/small"] > 1
    assert row["loss/large"] < 5.0


def test_killed_again_and_again_it_ends_with_the_same_bits(
    undisturbed: Path, study: tuple[Corpus, RunSpec], server: FileServer, tmp_path: Path
) -> None:
    corpus, spec = study
    chance = random.Random(1)
    for step in (2, 5, 11, 16):
        kill_after(step, corpus, often(spec), tmp_path / "run", chance.uniform(0, 0.02))
    process = begin(corpus, often(spec), tmp_path / "run")
    process.join()
    assert process.exitcode == 0
    same_bits(tmp_path / "run", undisturbed)


def test_killed_after_the_last_step_it_ends_with_the_same_bits(
    undisturbed: Path, study: tuple[Corpus, RunSpec], tmp_path: Path
) -> None:
    corpus, spec = study
    kill_after(21, corpus, often(spec), tmp_path / "run")
    process = begin(corpus, often(spec), tmp_path / "run")
    process.join()
    same_bits(tmp_path / "run", undisturbed)


def test_two_ranks_train_the_same_model_as_one(
    undisturbed: Path, study: tuple[Corpus, RunSpec], tmp_path: Path
) -> None:
    """From the start, and from a checkpoint of one rank."""
    corpus, spec = study
    whole, begun = tmp_path / "whole", tmp_path / "begun"
    kill_after(9, corpus, often(spec), begun)
    assert last_checkpoint(begun / "checkpoints", spec.run_id) is not None
    launch(corpus, spec, [whole, begun])
    for folder in (whole, begun):
        losses, expected = (
            read_parquet(place / "trajectory.parquet").drop(columns="run_id").to_numpy(float)
            for place in (folder, undisturbed)
        )
        np.testing.assert_allclose(losses, expected, rtol=1e-4)
        row, expected_row = read_json(folder / "result.json"), read_json(undisturbed / "result.json")
        for name in ("run_id", "realized/large", "realized/small", "epochs/large", "epochs/small"):
            assert row[name] == expected_row[name]


def test_workers_that_would_all_read_are_refused(study: tuple[Corpus, RunSpec], tmp_path: Path) -> None:
    corpus, spec = study
    arguments = {**spec.training_args, "dataloader_num_workers": 2}
    with pytest.raises(TrainingError, match="dataloader_num_workers 2 is given beside"):
        train_final(replace(spec, training_args=arguments), corpus, tmp_path)


def test_the_text_is_part_of_what_a_run_is(study: tuple[Corpus, RunSpec]) -> None:
    _, spec = study
    assert spec.sources is not None
    for key, value, same in (
        ("data_files", "other", False),
        ("filter", {"a": 1}, False),
        ("num_tokens", 5, True),
    ):
        sources = {**spec.sources, "large": {**spec.sources["large"], key: value}}
        assert (replace(spec, sources=sources).run_id == spec.run_id) is same
    assert replace(spec, sources=None).run_id != spec.run_id
