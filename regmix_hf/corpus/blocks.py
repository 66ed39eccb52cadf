"""Write tokens as shuffled blocks in an Arrow stream file, in bounded memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from regmix_hf.files import atomic_path
from regmix_hf.seeds import generator

#: Tokens of one record batch: what is in memory while writing, and what a reader maps at once.
BATCH_TOKENS = 1 << 20


@dataclass(frozen=True)
class WrittenBlocks:
    """What a block file holds.

    Attributes:
        num_blocks: Rows.
        sha256: Of the token ids in order, as little-endian int64.
    """

    num_blocks: int
    sha256: str


def shuffle_generator(seed: int, domain: str, split: str) -> np.random.Generator:
    """The generator that orders the blocks of one split of one domain; no other work draws from it."""
    key = hashlib.sha256(f"corpus/{domain}/{split}".encode()).digest()
    return generator(seed, int.from_bytes(key, "little"))


def write_blocks(
    path: Path, tokens: Callable[[], np.ndarray], context_length: int, generator: np.random.Generator
) -> WrittenBlocks:
    """Cut tokens into blocks, drop the remainder, write the blocks in random order.

    Args:
        path: Written atomically; `datasets.Dataset.from_file` reads it.
        tokens: Returns the tokens, an array that may be a memory map larger than memory. Called again for
            every batch: pages of a map count as this process's memory until the map is gone.
        context_length: Tokens of a block.
        generator: Draws the order. The order takes 8 bytes of memory per block.

    Returns:
        Number of blocks, and the hash of their content.
    """
    num_blocks = len(tokens()) // context_length
    order = generator.permutation(num_blocks)
    rows = max(1, BATCH_TOKENS // context_length)
    digest = hashlib.sha256()
    schema = _schema(tokens().dtype, context_length)
    with (
        atomic_path(path) as temporary,
        pa.OSFile(str(temporary), "wb") as file,
        pa.ipc.new_stream(file, schema) as writer,
    ):
        for start in range(0, num_blocks, rows):
            blocks = tokens()[: num_blocks * context_length].reshape(num_blocks, context_length)
            chosen = blocks[order[start : start + rows]]
            del blocks
            digest.update(chosen.astype("<i8").tobytes())
            column = pa.FixedSizeListArray.from_arrays(pa.array(chosen.ravel()), type=schema.field(0).type)
            writer.write_batch(pa.record_batch([column], schema=schema))
    return WrittenBlocks(num_blocks, digest.hexdigest())


def _schema(dtype: np.dtype[Any], context_length: int) -> pa.Schema:
    from datasets import Features, List, Value

    features = Features({"input_ids": List(Value(dtype.name), length=context_length)})
    return features.arrow_schema
