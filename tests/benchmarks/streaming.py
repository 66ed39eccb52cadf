"""Streams over loopback: what going on asks for again, what reading ahead hides, how fast blocks are made.

python -m tests.benchmarks.streaming
"""

from __future__ import annotations

import json
import logging
import random
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import datasets
import numpy as np

from regmix_hf.corpus import lines
from regmix_hf.corpus.encode import DocumentEncoder
from regmix_hf.corpus.holdout import HoldoutRule
from regmix_hf.corpus.live_blocks import WINDOW_BLOCKS, LiveBlocks
from regmix_hf.corpus.live_tokens import LiveTokens, Place
from regmix_hf.corpus.opening import open_source
from regmix_hf.recipe import Domain
from tests.streaming import server as file_server
from tests.streaming.server import FileServer, serve_files

CONTEXT_LENGTH = 2048


def environment_lines(num_bytes: int) -> bytes:
    """Source code of this Python environment as JSON lines."""
    source = open_source("a", Domain(path="python_environment", name="installed_packages"), "train")
    texts = [text for piece in source.pieces(None) for text in piece.texts]
    draw, lines, size = random.Random(0), [], 0
    while size < num_bytes:
        lines.append(json.dumps({"text": f"{len(lines)} {draw.choice(texts)}"}).encode() + b"\n")
        size += len(lines[-1])
    return b"".join(lines)


def train_tokenizer(file: Path, lines: bytes) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=8192, special_tokens=["<eos>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator((json.loads(line)["text"] for line in lines.splitlines()[:400]), trainer)
    tokenizer.save(str(file))


def bytes_asked_for_again(server: FileServer, address: str) -> None:
    """Read 90 % of the first file, then go on in a fresh data set."""
    size = len(server.files["/a.jsonl"])
    keys = {"data_files": address, "streaming": True, "split": "train"}
    rows = datasets.load_dataset("json", **keys)
    state, read = None, 0
    for row in rows:
        read += len(row["text"])
        if read > 0.9 * size:
            state = rows.state_dict()
            break
    resumed = datasets.load_dataset("json", **keys)
    resumed.load_state_dict(state)
    server.sent.clear()
    next(iter(resumed))
    by_datasets = server.num_bytes()
    own = open_source("a", Domain(path="json", data_files=address, streaming=True), "train")
    with closing(own.pieces(None)) as pieces:
        position = next(
            piece.position for piece in pieces if piece.position and piece.position[1] > 0.9 * size
        )
    server.sent.clear()
    with closing(own.pieces(position)) as pieces:
        next(pieces)
    print(f"going on at 90 % of {size / 1e6:.0f} MB asks for: datasets {by_datasets / 1e6:.1f} MB, "
          f"a position in the file {server.num_bytes() / 1e6:.1f} MB")  # fmt: skip


def reading_ahead(address: str, encoder: DocumentEncoder) -> None:
    """Download and tokenize in one process over a slow line, with and without the thread that reads ahead."""

    def at_once(items: Iterator[bytes], stop: object) -> Iterator[bytes]:
        yield from items

    source = open_source("a", Domain(path="json", data_files=address, streaming=True), "train")
    ahead, seconds = lines.one_ahead, {}
    for name, way, encodes in (
        ("download", at_once, False),
        ("in turn", at_once, True),
        ("ahead", ahead, True),
    ):
        lines.one_ahead = way  # type: ignore[assignment]
        start = time.perf_counter()
        for piece in source.pieces(None):
            if encodes:
                encoder.encode(piece.texts)
        seconds[name] = time.perf_counter() - start
    lines.one_ahead = ahead
    shorter = min(seconds["download"], seconds["in turn"] - seconds["download"])
    hidden = (seconds["in turn"] - seconds["ahead"]) / shorter
    print(
        f"download : download and tokenize in turn : read ahead = 1 : "
        f"{seconds['in turn'] / seconds['download']:.2f} : {seconds['ahead'] / seconds['download']:.2f}; "
        f"{hidden:.0%} of the shorter of the two is hidden"
    )


def blocks_while_training(address: str, encoder: DocumentEncoder) -> None:
    """Make blocks in windows, by processor time."""
    rule = HoldoutRule(0, np.empty(0, np.uint64), 0)
    source = open_source("a", Domain(path="json", data_files=address, streaming=True), "train")
    with ThreadPoolExecutor(1) as executor:
        blocks = LiveBlocks("a", partial(LiveTokens, "a", source, encoder, rule), CONTEXT_LENGTH, 0, executor)
        blocks.begin(0, Place())
        start, wall = time.process_time(), time.perf_counter()
        count = 8 * WINDOW_BLOCKS
        for first in range(0, count, 32):
            blocks.read(np.arange(first, first + 32))
        used, wall = time.process_time() - start, time.perf_counter() - wall
        blocks.close()
    tokens = count * CONTEXT_LENGTH
    print(f"blocks while training: {tokens / used:,.0f} tokens per second of processor time "
          f"({tokens / wall:,.0f} by the clock)")  # fmt: skip


def main() -> None:
    """Print all three."""
    logging.disable(logging.WARNING)
    with serve_files() as server, tempfile.TemporaryDirectory() as folder:
        datasets.config.HF_DATASETS_CACHE = Path(folder)
        datasets.disable_progress_bars()
        lines = environment_lines(12_000_000)
        train_tokenizer(Path(folder) / "tokenizer.json", lines)
        encoder = DocumentEncoder(Path(folder) / "tokenizer.json", 0, 8192)
        address = server.add("a.jsonl", lines)
        bytes_asked_for_again(server, address)
        start = time.perf_counter()
        texts = [json.loads(line)["text"] for line in lines.splitlines()[:800]]
        encoder.encode(texts)
        speed = sum(map(len, texts)) / (time.perf_counter() - start)
        file_server.PIECE_PAUSE_S = file_server.PIECE_BYTES / speed
        reading_ahead(address, encoder)
        file_server.PIECE_PAUSE_S = 0.0
        blocks_while_training(address, encoder)


if __name__ == "__main__":
    main()
