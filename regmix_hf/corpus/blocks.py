"""Write tokens as shuffled blocks in an Arrow stream file, in bounded memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from regmix_hf.errors import StudyError
from regmix_hf.files import atomic_path
from regmix_hf.seeds import generator
from regmix_hf.study.corpus_facts import SplitFacts

#: Tokens of one record batch: what is in memory while writing, and what a reader maps at once.
BATCH_TOKENS = 1 << 20
#: Tokens up to which a file is hashed whole when it is opened, and the blocks that are of a larger one.
WHOLE_TOKENS, SAMPLED_BLOCKS = 1 << 24, 64


@dataclass(frozen=True)
class WrittenBlocks:
    """What a block file holds.

    Attributes:
        num_blocks: Rows.
        sha256: Of the token ids in order, as little-endian int64.
        sample_sha256: The same of `SAMPLED_BLOCKS` of the blocks.
    """

    num_blocks: int
    sha256: str
    sample_sha256: str


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
    digest, sample, sampled = hashlib.sha256(), hashlib.sha256(), _sampled(num_blocks)
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
            here = sampled[(sampled >= start) & (sampled < start + rows)]
            sample.update(chosen[here - start].astype("<i8").tobytes())
            column = pa.FixedSizeListArray.from_arrays(pa.array(chosen.ravel()), type=schema.field(0).type)
            writer.write_batch(pa.record_batch([column], schema=schema))
    return WrittenBlocks(num_blocks, digest.hexdigest(), sample.hexdigest())


def check_blocks(path: Path, facts: SplitFacts, context_length: int, *, whole: bool = False) -> None:
    """Check that a file holds the blocks that were written: all of a small one, or if `whole`; else some.

    Raises:
        StudyError: It does not.
    """
    if not path.is_file():
        raise _damaged(path, "it is not there")
    status = path.stat()
    whole = whole or facts.num_blocks * context_length <= WHOLE_TOKENS
    state = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    _check_once(path, facts, context_length, whole, state)


@lru_cache(maxsize=1 << 10)
def _check_once(path: Path, facts: SplitFacts, context_length: int, whole: bool, state: Any) -> None:
    try:
        with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
            column = stream.schema.field(0).type
            if not pa.types.is_fixed_size_list(column) or column.list_size != context_length:
                raise _damaged(path, f"it holds {column}")
            rows, digest, sampled = 0, hashlib.sha256(), _sampled(facts.num_blocks)
            for batch in stream:
                end = rows + batch.num_rows
                wanted = sampled[(sampled >= rows) & (sampled < end)] - rows
                ids = batch.column(0).flatten().to_numpy().reshape(-1, context_length)
                digest.update((ids if whole else ids[wanted]).astype("<i8").tobytes())
                rows = end
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, (str(error).splitlines() or [type(error).__name__])[0]) from error
    if rows != facts.num_blocks:
        raise _damaged(path, f"it holds {rows:,} blocks, not {facts.num_blocks:,}")
    expected = facts.sha256 if whole else facts.sample_sha256
    if expected is not None and digest.hexdigest() != expected:
        raise _damaged(path, "its token ids are not those that were written")


def _sampled(num_blocks: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, max(0, num_blocks - 1), SAMPLED_BLOCKS).astype(np.int64))


def _damaged(path: Path, fault: str) -> StudyError:
    return StudyError(
        f"{path} is not what was prepared: {fault}.", "run `regmix prepare` again: it writes that file anew"
    )


def _schema(dtype: np.dtype[Any], context_length: int) -> pa.Schema:
    from datasets import Features, List, Value

    features = Features({"input_ids": List(Value(dtype.name), length=context_length)})
    return features.arrow_schema
