"""A stream that one rank reads for all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch.distributed as dist
from numpy.typing import NDArray

from regmix_hf.training.blocks import Blocks


class ReadByFirstRank:
    """Blocks by position, in every rank, where the first reads them and sends the others theirs.

    All ranks must read equally often, as ranks that take equal shares of every step do. They speak over a
    group of their own, so that blocks never come between gradients, whichever thread asks for them.

    Args:
        stream: Of this rank; that of the first rank is read.
    """

    def __init__(self, stream: Blocks):
        self._stream = stream
        self._group = dist.new_group(backend="gloo")
        self._is_first = dist.get_rank() == 0

    def __len__(self) -> int:
        return len(self._stream)

    def __getitems__(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the blocks at `indices` as int64 of shape `(len(indices), context_length)`.

        Raises:
            DataError: In the first rank: a source cannot be read. The others wait until they are ended.
        """
        wanted = np.asarray(indices, dtype=np.int64)
        asked: list[NDArray[np.int64]] | None = None
        parts: list[NDArray[np.int64]] | None = None
        if self._is_first:
            asked = [wanted] * dist.get_world_size()
        dist.gather_object(wanted, asked, dst=0, group=self._group)
        if asked is not None:
            blocks = self._stream.__getitems__(np.concatenate(asked))
            parts = np.split(blocks, np.cumsum([len(part) for part in asked])[:-1])
        received: list[NDArray[np.int64]] = [np.empty((0, 0), np.int64)]
        dist.scatter_object_list(received, parts, src=0, group=self._group)
        return received[0]
