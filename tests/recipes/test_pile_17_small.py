"""The paper's own recipe in small form: 17 domains streamed over HTTP, every stage, a report at the end."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from regmix_hf.recipe import load_recipe

from ..hub.standin.server import StandIn, serve
from ..hub.standin.store import Blob

ROOT = Path(__file__).parents[2]
REPOSITORY = "sail/regmix-data"
DOMAINS = tuple(load_recipe(ROOT / "recipes" / "pile-17").domains)
#: Words of a document: the longest domain's documents are 600 times as long as the shortest one's.
WORDS = {"gutenberg_pg_19": 6000, "arxiv": 1500, "dm_mathematics": 10, "enron_emails": 20}
#: What makes the study small; everything else is the recipe's.
OVERRIDES = (
    "tokenizer={train: {vocab_size: 400}}",
    "context_length=32",
    "corpus={num_proc: 1, max_validation_tokens: 256}",
    "sampling.num_mixtures=12",
    "sampling.num_holdout=2",
    "sampling.min_weight=0.02",
    "proxy.model={preset: tiny, hidden_size: 16, num_hidden_layers: 1, intermediate_size: 16}",
    "proxy.num_train_tokens=4096",
    "proxy.num_batch_tokens=256",
    "proxy.num_evaluations=2",
    "proxy.training_args={learning_rate: 1e-2, use_cpu: true}",
    "choice.num_candidates=1000",
    "train.model={preset: tiny, hidden_size: 16, num_hidden_layers: 1, intermediate_size: 16}",
    "train.num_train_tokens=8192",
    "train.num_batch_tokens=256",
    "train.num_evaluations=2",
    "train.training_args={learning_rate: 1e-2, use_cpu: true}",
    "evaluation={tasks: [held_out_text], limit: 1}",
)


def documents(domain: str, num_words: int, draw: random.Random) -> bytes:
    """Lines of JSON: documents of words that this domain prefers, as `sail/regmix-data` writes them."""
    stems = [f"{domain[:3]}{k}" for k in range(20)] + ["the", "of", "and", "is"]
    lines, left = [], num_words
    while left > 0:
        length = max(3, round(draw.expovariate(1 / WORDS.get(domain, 200))))
        lines.append(json.dumps({"text": " ".join(draw.choices(stems, k=min(length, left)))}))
        left -= length
    return "\n".join(lines).encode() + b"\n"


@pytest.fixture
def hub():
    """A stand-in Hub that holds 17 groups of files, two for training and one for validation each."""
    with serve() as standin:
        draw = random.Random(17)
        repo = standin.store.create("dataset", REPOSITORY, private=False, author="sail")
        files = dict(repo.head.files)
        for domain in DOMAINS:
            for part in ("00-123", "01-45"):
                files[f"train/{domain}-{part}.jsonl"] = Blob(documents(domain, 4000, draw), large=False)
            files[f"valid/{domain}-00.jsonl"] = Blob(documents(domain, 800, draw), large=False)
        repo.add_commit("main", files, title="Upload", author="sail")
        yield standin
    assert standin.bugs == []


def run_all(hub: StandIn, folder: Path) -> str:
    """Do every stage of the small study in `folder`; return what was printed."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder.with_name("hf-home")),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    words = ["run", "recipes/pile-17", f"output_dir={folder}", *OVERRIDES]
    done = subprocess.run(
        [sys.executable, "-m", "regmix_hf", *words], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.timeout(900)
def test_every_stage_of_the_real_recipe_runs_on_files_over_http(hub, tmp_path):
    study = tmp_path / "study"
    printed = run_all(hub, study)
    check_report(study)
    check_losses(study)
    check_shares(study)
    assert "as much was read as the runs of this recipe can need" in printed


def check_report(study):
    report = (study / "report" / "README.md").read_text()
    assert "## Evaluation" in report
    for mixture in ("chosen", "human", "doremi", "pile_cc_only", "paper"):
        assert (study / "6-models" / mixture / "model.safetensors").exists()
        assert mixture in report


def check_losses(study):
    """All 17 domains are measured in every run, proxies and final ones."""
    for table in ("3-proxies/results.parquet", "6-models/results.parquet"):
        losses = pd.read_parquet(study / table).filter(regex="^loss/")
        assert set(losses) == {f"loss/{name}" for name in DOMAINS}
        assert np.isfinite(losses.to_numpy()).all()


def check_shares(study):
    """Token shares are the weights, within binomial noise, whatever the lengths of documents."""
    results = pd.read_parquet(study / "6-models" / "results.parquet")
    for _, run in results.iterrows():
        weights, realized = (run.filter(regex=f"^{kind}/").to_numpy(float) for kind in ("weight", "realized"))
        blocks = run["num_train_tokens"] // 32
        noise = np.sqrt(weights * (1 - weights) / blocks)
        assert (np.abs(realized - weights) <= 5 * noise + 1e-9).all()
