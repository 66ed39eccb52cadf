"""The paper's own recipe in small form: 17 domains streamed over HTTP, every stage, a report at the end."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from regmix_hf.recipe import load_recipe
from regmix_hf.study.corpus_facts import CorpusFacts

from ..hub.standin.server import StandIn, serve
from ..hub.standin.store import Blob
from ..streaming.preparing import tokenizer

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "recipes" / "pile-17"
REPOSITORY, ONE_STREAM = "sail/regmix-data", "monology/pile-uncopyrighted"
DOMAINS = tuple(load_recipe(FOLDER).domains)
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
    "proxy.num_train_tokens=2048",
    "proxy.num_batch_tokens=256",
    "proxy.num_evaluations=2",
    "proxy.training_args={learning_rate: 1e-2, use_cpu: true}",
    "choice.num_candidates=1000",
    "choice.num_confirm=0",
    "train.model={preset: tiny, hidden_size: 16, num_hidden_layers: 1, intermediate_size: 16}",
    "train.num_train_tokens=8192",
    "train.num_batch_tokens=256",
    "train.num_evaluations=2",
    "train.training_args={learning_rate: 1e-2, use_cpu: true}",
    "evaluation={tasks: [held_out_text], limit: 1}",
)
#: The command, with fewer trees than the paper's thousand a target: there is no key for them.
COMMAND = (
    "from regmix_hf.cli import main; from regmix_hf.regression.lightgbm import LightGBM\n"
    "LightGBM.__init__.__defaults__ = (40, *LightGBM.__init__.__defaults__[1:]); main()"
)


def documents(domain: str, num_words: int, draw: random.Random, **columns: object) -> list[str]:
    """Lines of JSON: documents of words that this domain prefers."""
    stems = [f"{domain[:3]}{k}" for k in range(20)] + ["the", "of", "and", "is"]
    lines, left = [], num_words
    while left > 0:
        length = max(3, round(draw.expovariate(1 / WORDS.get(domain, 200))))
        text = " ".join(draw.choices(stems, k=min(length, left)))
        lines.append(json.dumps({"text": text, **columns}) + "\n")
        left -= length
    return lines


def groups_of_files() -> dict[str, bytes]:
    """As in `sail/regmix-data`: of every domain two files to train on and one to validate on."""
    draw, files = random.Random(17), {}
    for domain in DOMAINS:
        for part in ("00-123", "01-45"):
            files[f"train/{domain}-{part}.jsonl"] = "".join(documents(domain, 4000, draw)).encode()
        files[f"valid/{domain}-00.jsonl"] = "".join(documents(domain, 800, draw)).encode()
    return files


def one_stream() -> dict[str, bytes]:
    """As in `monology/pile-uncopyrighted`: documents of all domains in random order, compressed."""
    draw, files = random.Random(18), {}
    for name, num_words in (("train/00", 200), ("train/01", 4000), ("val", 400)):
        lines = []
        for domain, source in load_recipe(FOLDER / "uncopyrighted.yaml").domains.items():
            meta = {"pile_set_name": source.filter["meta.pile_set_name"]}
            lines += documents(domain, num_words, draw, meta=meta)
        draw.shuffle(lines)
        files[f"{name}.jsonl.zst"] = pa.Codec("zstd").compress("".join(lines).encode(), asbytes=True)
    return files


@pytest.fixture
def hub():
    """A stand-in Hub that holds the text of both recipes."""
    with serve() as standin:
        for name, files in ((REPOSITORY, groups_of_files()), (ONE_STREAM, one_stream())):
            repo = standin.store.create("dataset", name, private=False, author=name.split("/")[0])
            blobs = {path: Blob(content, large=False) for path, content in files.items()}
            repo.add_commit("main", {**repo.head.files, **blobs}, title="Upload", author="sail")
        yield standin
    assert standin.bugs == []


def small(hub: StandIn, verb: str, recipe: str, *overrides: str, folder: Path) -> str:
    """Do a verb on the small study in `folder`; return what was printed."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder.with_name("hf-home")),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    words = [verb, recipe, f"output_dir={folder}", *OVERRIDES, *overrides]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *words], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.timeout(900)
def test_every_stage_of_the_real_recipe_runs_on_files_over_http(hub, tmp_path):
    study = tmp_path / "study"
    printed = small(hub, "run", "recipes/pile-17", folder=study)
    assert load_recipe(FOLDER, OVERRIDES).train.streaming  # the final models read their text from the Hub
    check_report(study)
    check_losses(study)
    check_shares(study)
    assert "as much was read as the runs of this recipe can need" in printed


def test_the_variant_reads_its_one_stream_once_for_all_17_domains(hub, tmp_path):
    words = ["recipes/pile-17/uncopyrighted.yaml", f"tokenizer={tokenizer(tmp_path)}"]
    small(hub, "prepare", *words, folder=tmp_path / "study")
    facts = CorpusFacts.load(tmp_path / "study" / "1-corpus")
    assert tuple(facts.domains) == DOMAINS
    assert all(domain.train and domain.train.num_blocks for domain in facts.domains.values())
    # Each domain looks at the beginning of the first file; the second one is not looked at.
    last = "train/01.jsonl.zst"
    taken = [entry.sent for entry in hub.log if entry.request.startswith("GET") and last in entry.request]
    assert sum(taken) == len(one_stream()[last])


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
