"""A tiny prepared study, copied for every test that needs one, and ways to run stages in other processes."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from regmix_hf.files import read_parquet, write_parquet
from regmix_hf.progress import Silent
from regmix_hf.recipe import load_recipe
from regmix_hf.study import Study
from tests.preloaded import Mode, starting
from tests.tiny import LLAMA

WORDS = {
    "prose": "the cat sat on a mat and ate what was there",
    "sums": "0 1 2 3 4 5 6 7 8 9 + = -",
    "code": "def return if else for in while import yield",
}
ARGUMENTS = {"per_device_train_batch_size": 8, "learning_rate": 1e-2, "use_cpu": True}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A folder with `recipe.json`, sources, and a `study` that is prepared and sampled: six mixtures."""
    from regmix_hf.stages import prepare, sample

    root = tmp_path_factory.mktemp("tiny")
    for name, words in WORDS.items():
        draw = random.Random(name)
        texts = [" ".join(draw.choices(words.split(), k=draw.randint(10, 60))) for _ in range(300)]
        (root / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    training = {"model": LLAMA, "num_evaluations": 2}
    recipe = {
        "name": "tiny",
        "seed": 3,
        "output_dir": str(root / "study"),
        "context_length": 16,
        "tokenizer": {"train": {"vocab_size": 280}},
        "domains": {name: {"path": "json", "data_files": str(root / f"{name}.jsonl")} for name in WORDS},
        "corpus": {"num_proc": 1, "max_validation_tokens": 320},
        "sampling": {"num_mixtures": 10, "num_holdout": 1, "max_epochs": None},
        "proxy": {**training, "num_train_tokens": 3200, "num_workers": 2, "training_args": ARGUMENTS},
        "train": {
            **training,
            "num_train_tokens": 6400,
            "num_workers": 2,
            "mixtures": ["chosen", "prior", "sums_first"],
            "training_args": {**ARGUMENTS, "save_steps": 5},
        },
        "baselines": {"sums_first": {"sums": 3, "code": 1}},
    }
    (root / "recipe.json").write_text(json.dumps(recipe))
    study = Study(load_recipe(root / "recipe.json"))
    study.open()
    prepare.run(study, Silent())
    sample.run(study, Silent())
    mixtures = read_parquet(study.mixtures)  # ten are the fewest that a recipe may ask for; six suffice here
    write_parquet(study.mixtures, mixtures.tail(6))
    study.finish(sample.STAGE)
    study.mixture.parent.mkdir()
    study.mixture.write_text("weights: {prose: 0.5, sums: 0.25, code: 0.25}\n")
    return root


@pytest.fixture(scope="session")
def new_study(prepared, tmp_path_factory):
    """Make a study with a corpus, mixtures and a chosen mixture, and overrides of its recipe."""

    def make(*overrides):
        folder = tmp_path_factory.mktemp("study") / "study"
        shutil.copytree(prepared / "study", folder)
        return Study(load_recipe(prepared / "recipe.json", [f"output_dir={folder}", *overrides]))

    return make


#: Overrides of a study of eighteen short runs.
SMALL = ("proxy.num_seeds=3", "proxy.num_train_tokens=1600", "proxy.num_workers=1")


@pytest.fixture(scope="session")
def alone(new_study):
    """A study of eighteen short runs, all of them done on this machine."""
    from regmix_hf.stages import proxies

    study = new_study(*SMALL)
    proxies.run(study, Silent())
    return study


def told_of(study):
    """Overrides of the recipe in a file by which another process knows the study."""
    return f"output_dir={study.root}", f"proxy.keep_models={json.dumps(study.recipe.proxy.keep_models)}"


@pytest.fixture
def start_stage(prepared, spawn):
    """Start a stage of a study in a process of its own, in the session of its own; end it afterwards."""

    def start(verb, study, *overrides):
        code = (
            "import sys; from regmix_hf.recipe import load_recipe; from regmix_hf.study import Study\n"
            f"from regmix_hf.stages import {verb}; from regmix_hf.progress import Silent\n"
            f"{verb}.run(Study(load_recipe(sys.argv[1], sys.argv[2:])), Silent())\n"
            "print('torch' in sys.modules)"
        )
        arguments = [str(prepared / "recipe.json"), *told_of(study), *overrides]
        return spawn([sys.executable, "-c", code, *arguments], stderr=subprocess.STDOUT)

    return start


@pytest.fixture
def killed_and_finished(start_stage):
    """Kill a stage (SIGKILL) some moments after each of some things has happened, then let a cold one end."""

    def run(verb, study, happenings, seed):
        draw = random.Random(seed)
        for happened in happenings:
            process = start_stage(verb, study)
            end = time.monotonic() + 120
            while not happened():
                assert process.poll() is None, process.communicate()[0]
                assert time.monotonic() < end, "it did not happen in time"
                time.sleep(0.01)
            time.sleep(draw.uniform(0, 0.5))
            process.kill()
            process.wait()
        with starting(Mode.COLD):
            process = start_stage(verb, study, "proxy.num_workers=1")
        said = process.communicate(timeout=120)[0]
        assert process.returncode == 0, said
        return said.strip()

    return run


@pytest.fixture(scope="session")
def accelerate_launch(prepared):
    """Run a module under `accelerate launch` on two ranks; return what it printed."""

    def launch(module, study, *arguments, flags=()):
        flags = ["--multi_gpu", "--num_processes", "2", "--main_process_port", "0", *flags]
        done = subprocess.run(
            [
                *(sys.executable, "-m", "accelerate.commands.launch", *flags, "-m", module),
                *(str(prepared / "recipe.json"), *told_of(study), *arguments),
            ],
            env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"},
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stderr

    return launch


@pytest.fixture(scope="session")
def tables():
    """Read results, without how long they took and where, and trajectories of a stage's folder."""
    import pandas as pd

    def read(folder: Path):
        results = pd.read_parquet(folder / "results.parquet").drop(columns="wall_seconds")
        return results, pd.read_parquet(folder / "trajectories.parquet")

    return read
