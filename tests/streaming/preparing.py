"""Prepare a corpus in a process that can be killed, of files of every kind."""

import gzip
import io
import multiprocessing
import runpy
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from regmix_hf.recipe import Recipe
from regmix_hf.study.corpus_facts import CorpusFacts

from .server import FileServer

PREPARE = Path(__file__).parent / "work" / "prepare.py"


def begin(recipe: Recipe, folder: Path, budgets: Mapping[str, int] | None = None) -> Any:
    """Begin to prepare in a process of its own, forked with all imports done."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["regmix_hf.corpus.prepare", "regmix_hf.corpus.file_source"])
    values = {"RECIPE": recipe.model_dump_json(), "FOLDER": str(folder), "BUDGETS": budgets}
    process = context.Process(target=runpy.run_path, args=(str(PREPARE), values))
    process.start()
    return process


def finish(recipe: Recipe, folder: Path, budgets: Mapping[str, int] | None = None) -> CorpusFacts:
    process = begin(recipe, folder, budgets)
    process.join()
    assert process.exitcode == 0
    return CorpusFacts.load(folder)


def kill_after_bytes(
    server: FileServer, num_bytes: int, recipe: Recipe, folder: Path, budgets: Mapping[str, int] | None = None
) -> bool:
    """Kill the process once so much more was sent; tell whether it was not done before."""
    process, before = begin(recipe, folder, budgets), server.num_bytes()
    while process.is_alive() and server.num_bytes() - before < num_bytes:
        time.sleep(0.001)
    process.kill()
    process.join()
    return bool(process.exitcode == -signal.SIGKILL)


def compressed(kind: str, lines: bytes) -> bytes:
    if kind == "jsonl.gz":
        half = lines.index(b"\n", len(lines) // 2) + 1
        return gzip.compress(lines[:half]) + gzip.compress(lines[half:])  # two members
    if kind == "jsonl.zst":
        return pa.Codec("zstd").compress(lines, asbytes=True)
    return lines


def parquet(texts: list[str], **columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": texts, "n": range(len(texts)), **columns}), sink, row_group_size=100)
    return sink.getvalue()


def domain_of(kind: str, addresses: list[str], **keys: Any) -> dict[str, Any]:
    path = "parquet" if kind == "parquet" else "json"
    return {"path": path, "data_files": addresses, "streaming": True, **keys}


def tokenizer(folder: Path) -> str:
    """A tokenizer that needs no text to be trained on."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: number for number, letter in enumerate(["<eos>", *alphabet])}
    model = Tokenizer(models.BPE(vocab, []))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=model, eos_token="<eos>").save_pretrained(folder / "tokenizer")
    return str(folder / "tokenizer")
