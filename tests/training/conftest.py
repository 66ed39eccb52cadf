"""A small corpus that can be learnt, runs on it, and ways to train them in other processes."""

import json
import multiprocessing
import runpy
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from regmix_hf.corpus.corpus import Corpus
from regmix_hf.training.arguments import merged_arguments
from regmix_hf.training.loss_head import LOGITS_AT_ONCE
from regmix_hf.training.presets import PRESETS
from regmix_hf.training.spec import RunSpec, identity_of

FINAL = Path(__file__).parent / "work" / "final.py"
TWO_RANKS = ("--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no")
VOCAB_SIZE, CONTEXT_LENGTH = 48, 16


def counting(rng: np.random.Generator, step: int, count: int) -> np.ndarray:
    """Blocks that count in steps of `step` from a random number on, with an error now and then."""
    blocks = (rng.integers(0, VOCAB_SIZE, (count, 1)) + step * np.arange(CONTEXT_LENGTH)) % VOCAB_SIZE
    return np.where(rng.random(blocks.shape) < 0.05, rng.integers(0, VOCAB_SIZE, blocks.shape), blocks)


def _save_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<eos>": 0, **{str(number): number for number in range(1, VOCAB_SIZE)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<eos>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>").save_pretrained(folder)


@pytest.fixture(scope="session")
def corpus(write_corpus, tmp_path_factory) -> Corpus:
    """Domains `ones` and `threes` that count in ones and threes, and `judge`, only validated on."""
    rng = np.random.default_rng(0)
    folder = write_corpus(
        tmp_path_factory.mktemp("study") / "1-corpus",
        VOCAB_SIZE,
        {
            "ones": (counting(rng, 1, 40), counting(rng, 1, 5)),
            "threes": (counting(rng, 3, 25), counting(rng, 3, 6)),
            "judge": (None, counting(rng, 1, 3)),
        },
    )
    _save_tokenizer(folder / "tokenizer")
    return Corpus(folder)


@pytest.fixture(scope="session")
def spec(corpus) -> RunSpec:
    """10 steps of 4 blocks, and one of 3."""
    shape = {**PRESETS["tiny"], "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    arguments = {"learning_rate": 1e-2, "per_device_train_batch_size": 4, "warmup_steps": 2}
    return RunSpec(
        mixture_id="m0",
        split="fit",
        scale=None,
        seed=11,
        weights={"ones": 0.7, "threes": 0.3},
        model={"vocab_size": VOCAB_SIZE, "max_position_embeddings": CONTEXT_LENGTH, **shape},
        context_length=CONTEXT_LENGTH,
        num_train_tokens=43 * CONTEXT_LENGTH + 5,
        num_batch_tokens=4 * CONTEXT_LENGTH,
        training_args=merged_arguments(arguments),
        num_evaluations=3,
        **identity_of(corpus.facts),
    )


@pytest.fixture(scope="session")
def with_arguments():
    """Give a spec other training arguments."""

    def change(spec: RunSpec, **arguments) -> RunSpec:
        return replace(spec, training_args={**spec.training_args, **arguments})

    return change


@pytest.fixture(scope="session")
def outcome():
    """What two equal runs share: their row but for the time taken."""

    def of(row: dict) -> dict:
        return {name: value for name, value in row.items() if name not in ("wall_seconds", "device")}

    return of


def run_words(spec: RunSpec, folder: Path, logits_at_once: int = LOGITS_AT_ONCE) -> list[object]:
    """A run as the programs in `work` read it."""
    return [asdict(spec), str(folder), logits_at_once]


@pytest.fixture(scope="session")
def final_process(corpus):
    """Begin a final run in a process of its own, which may be killed; forked with all imports done."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["regmix_hf.training.run"])

    def begin(spec: RunSpec, folder: Path) -> multiprocessing.Process:
        values = {"CORPUS": str(corpus.folder), "RUNS": json.dumps([run_words(spec, folder)])}
        process = context.Process(target=runpy.run_path, args=(str(FINAL), values, "__final__"))
        process.start()
        return process

    return begin


def kill_all(process: subprocess.Popen) -> None:
    """Kill a launcher and its ranks, which are in sessions of their own."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        member.kill()
    psutil.wait_procs(family)


@pytest.fixture(scope="session")
def launch(corpus):
    """Train final runs on two ranks under `accelerate launch`, to their end or until a file is there.

    Called with one tuple per run: its spec, its folder, and, if not all, how many logits there are at once.
    """

    def train(*runs: tuple, script: Path = FINAL, flags=TWO_RANKS, until: Path | None = None) -> None:
        command = [sys.executable, "-m", "accelerate.commands.launch", "--dynamo_backend", "no", *flags]
        process = subprocess.Popen(
            [*command, str(script), str(corpus.folder), json.dumps([run_words(*run) for run in runs])],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            while until and not until.exists():
                assert process.poll() is None, process.communicate()[0]
                time.sleep(0.001)
            if until:
                kill_all(process)
            output, _ = process.communicate(timeout=240)
        except BaseException:
            if process.poll() is None:
                kill_all(process)
            raise
        assert until or process.returncode == 0, output

    return train
