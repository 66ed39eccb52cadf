"""The blocks of a run as a data set in whole steps, read in one order from any position."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

#: Label of a token whose loss does not count (the `ignore_index` of `transformers`' losses).
IGNORED = -100


class Blocks(Protocol):
    """The blocks of a run by position: read from disk, made while training, or received from another rank."""

    def __len__(self) -> int: ...

    def __getitems__(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the blocks at `indices` as int64 of shape `(len(indices), context_length)`."""


class TrainingBlocks(Dataset[dict[str, torch.Tensor]]):
    """A stream in whole steps: the last is filled up with blocks in which no label counts.

    So every layout sees full micro-batches, while the loss of the last step is still the mean over its
    real tokens.
    """

    def __init__(self, stream: Blocks, batch_blocks: int):
        self._stream = stream
        self._length = -(-len(stream) // batch_blocks) * batch_blocks

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Return the batch that holds block `index` alone."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """Return `input_ids` and `labels` as int64 of shape `(len(indices), context_length)`."""
        wanted = np.asarray(indices, dtype=np.int64)
        real = wanted < len(self._stream)
        blocks = self._stream.__getitems__(wanted[real])
        input_ids = torch.zeros((len(wanted), blocks.shape[1]), dtype=torch.int64)
        input_ids[torch.from_numpy(real)] = torch.from_numpy(blocks)
        labels = input_ids.clone()
        labels[:, 0] = IGNORED  # nothing predicts the first token
        labels[torch.from_numpy(~real)] = IGNORED
        return {"input_ids": input_ids, "labels": labels}


class FromPosition(Sampler[int]):
    """All positions in order, from the one where the run stands when reading begins.

    Args:
        length: Of the data set.
        position: Tells the first block not yet trained on.
    """

    def __init__(self, length: int, position: Callable[[], int]):
        self._length = length
        self._position = position

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._position(), self._length))

    def __len__(self) -> int:
        """Of the whole run, also when it goes on from its middle: `Trainer` takes it for an epoch."""
        return self._length
