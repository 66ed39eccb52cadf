"""The recipe for mid-training in small form: its sets in their own layouts and its models, over HTTP."""

import io
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from regmix_hf.evaluation.tasks import check_task_names
from regmix_hf.recipe import load_recipe
from regmix_hf.study.corpus_facts import CorpusFacts

from ..hub.standin.server import serve
from ..hub.standin.store import Blob
from ..streaming.preparing import tokenizer

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "recipes" / "mid-training"
#: What the words of two domains begin with, in the text that is served.
STEMS = {"french": "fra_Latn", "german": "deu_Latn"}
MODELS = ("HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-360M")
#: What makes the study small; everything else is the recipe's.
OVERRIDES = (
    "context_length=32",
    "corpus={num_proc: 1, max_validation_tokens: 128}",
    "proxy.num_train_tokens=512",
    "proxy.num_batch_tokens=256",
    "proxy.tasks=[]",
    "proxy.training_args={use_cpu: true}",
    "train.training_args={use_cpu: true}",
    "regression.target=mean",
    "train.num_train_tokens=512",
    "train.num_batch_tokens=256",
)


def words(domain: str, draw: random.Random) -> list[str]:
    """Documents of words that this domain prefers."""
    stems = [f"{domain[:3]}{k}" for k in range(20)] + ["the", "of", "and", "is"]
    return [" ".join(draw.choices(stems, k=60)) for _ in range(120)]


def parquet(texts: list[str], **columns: object) -> bytes:
    """A file as `datasets` shards are: some columns beside the text."""
    table = pa.table({"text": texts, **{name: [value] * len(texts) for name, value in columns.items()}})
    pq.write_table(table, file := io.BytesIO(), row_group_size=40)
    return file.getvalue()


def lines(texts: list[str], column: str, **columns: object) -> bytes:
    return "".join(json.dumps({column: text, **columns}) + "\n" for text in texts).encode()


def data_sets() -> dict[str, dict[str, bytes]]:
    """Repository -> file -> content, each set as it lies on the Hub."""
    draw = random.Random(13)
    web = {"id": "<urn:uuid:1>", "dump": "CC-MAIN-2024-10", "url": "http://a.b", "token_count": 60}
    zst = pa.Codec("zstd")
    dclm = zst.compress(lines(words("dclm", draw), "text", url="http://a.b"), asbytes=True)
    return {
        "HuggingFaceFW/fineweb-edu": {
            "sample/10BT/000_00000.parquet": parquet(words("fineweb_edu", draw), **web, score=3.1),
            "data/CC-MAIN-2024-10/train-00000-of-00001.parquet": b"of the whole set: never read",
        },
        "mlfoundations/dclm-baseline-1.0": {
            "global-shard_01_of_10/local-shard_0_of_10/shard_00000000_processed.jsonl.zst": dclm,
        },
        "HuggingFaceTB/finemath": {
            "finemath-4plus/train-00000-of-00064.parquet": parquet(words("finemath", draw), url="http://a.b"),
            "finemath-3plus/train-00000-of-00128.parquet": b"another configuration: never read",
        },
        "HuggingFaceTB/smollm-corpus": {
            "cosmopedia-v2/train-00000-of-00104.parquet": parquet(
                words("cosmopedia", draw), prompt="Write a story.", audience="children", format="story"
            ),
        },
        "bigcode/the-stack-smol": {
            f"data/{name}/data.json": lines(words("code", draw), "content", lang=name, size=3)
            for name in ("c", "python")
        },
        "wikimedia/wikipedia": {
            "20231101.en/train-00000-of-00041.parquet": parquet(words("wikipedia", draw), title="A", id="1"),
        },
        "HuggingFaceFW/fineweb-2": {
            f"data/{name}/train/000_00000.parquet": parquet(words(name, draw), **web, language="xxx")
            for name in ("fra_Latn", "deu_Latn")
        },
    }


def small_model(folder: Path) -> dict[str, bytes]:
    """A model in the place of SmolLM2: the same kind, its tokenizer beside it, hardly a weight."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer_folder = Path(tokenizer(folder))
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=True,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(tokenizer_folder)
    return {path.name: path.read_bytes() for path in tokenizer_folder.iterdir()}


def test_its_benchmarks_exist():
    check_task_names(load_recipe(FOLDER).proxy.tasks, key="proxy.tasks")


def test_its_sets_are_read_in_their_layouts_and_its_model_is_fetched_over_http(tmp_path):
    with serve() as hub:
        model = small_model(tmp_path)
        for kind, name, files in [
            *(("dataset", name, files) for name, files in data_sets().items()),
            *(("model", name, model) for name in MODELS),
        ]:
            repo = hub.store.create(kind, name, private=False, author=name.split("/")[0])
            blobs = {path: Blob(content, large=kind == "model") for path, content in files.items()}
            repo.add_commit("main", {**repo.head.files, **blobs}, title="Upload", author="team")
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hf-home"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        words = ["prepare", str(FOLDER), *OVERRIDES, f"output_dir={tmp_path / 'study'}"]
        done = subprocess.run(
            [sys.executable, "-m", "regmix_hf", *words], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    assert hub.bugs == []
    facts = CorpusFacts.load(tmp_path / "study" / "1-corpus")
    assert list(facts.domains) == list(load_recipe(FOLDER).domains)
    for name, domain in facts.domains.items():
        assert domain.train.num_blocks > 0, name
        held_out = (tmp_path / "study" / "1-corpus" / name / "validation.jsonl").read_text()
        assert f"{STEMS.get(name, name)[:3]}1" in held_out
    assert facts.vocab_size == 257
    assert {checkpoint.config["hidden_size"] for checkpoint in facts.checkpoints.values()} == {16}
    assert len({checkpoint.sha256 for checkpoint in facts.checkpoints.values()}) == 1
