"""Token sequences whose ends a model scores: how improbable each end is after what stands before it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from regmix_hf.training.blocks import IGNORED
from regmix_hf.training.examinee import Examinee

#: Requests are filled up to a power of two, at least this many tokens, so that few shapes occur.
_SHORTEST = 16


class Requests:
    """What a model is asked, in batches of about one length.

    Args:
        tokens: Context and answer of every request, at most one token more than a block.
        num_scored: How many tokens at the end of each are the answer, `(requests,)`.
        context_length: Tokens of a block.
    """

    def __init__(
        self, tokens: Sequence[NDArray[np.int64]], num_scored: NDArray[np.int64], context_length: int
    ):
        self._tokens, self._num_scored, self._context_length = tokens, num_scored, context_length

    def scores(self, of: Examinee) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Score all of them; all ranks share the work and return the same.

        Returns:
            How improbable each end is, in nats, and whether the model would have written it, each time taking
            the likeliest token; both `(requests,)`.
        """
        nats, rivals = both = np.zeros((2, len(self._tokens)))
        if not self._tokens:
            return nats, rivals == 0
        batches = self._batches(of.batch_size)
        with of.at_rest() as device:
            for number, counts in of.turns(len(batches)):
                rows = batches[number]
                input_ids, targets = (part.to(device) for part in self._batch(rows))
                found = of.model(input_ids=input_ids, targets=targets)
                if counts:
                    nats[rows] = found.loss.cpu().double().sum(1).numpy()  # not every device knows float64
                    rivals[rows] = found.logits.amax(1).cpu().numpy()
        nats, rivals = of.of_all_ranks(torch.from_numpy(both)).numpy()
        return nats, rivals == 0

    def nats_per_token(self, of: Examinee) -> list[NDArray[np.float32]]:
        """Score every token of each answer in its order, in nats; on one device alone."""
        nats: list[NDArray[np.float32]] = [np.empty(0, dtype=np.float32)] * len(self._tokens)
        with of.at_rest() as device:
            for rows in self._batches(of.batch_size):
                input_ids, targets = (part.to(device) for part in self._batch(rows))
                losses = of.model(input_ids=input_ids, targets=targets, reduction="none").loss.float()
                for row, loss, target in zip(rows, losses, targets, strict=True):
                    nats[row] = loss[target != IGNORED].cpu().numpy()
        return nats

    def _batches(self, batch_size: int) -> list[NDArray[np.int64]]:
        """Requests of about one length together, as many tokens as so many blocks; the longest first."""
        widths = np.array([self._width(len(tokens) - 1) for tokens in self._tokens])
        batches = []
        for width in sorted(set(widths.tolist()), reverse=True):
            rows = np.flatnonzero(widths == width)
            count = max(1, batch_size * self._context_length // width)
            batches += [rows[start : start + count] for start in range(0, len(rows), count)]
        return batches

    def _width(self, num_tokens: int) -> int:
        return min(self._context_length, max(_SHORTEST, 1 << (num_tokens - 1).bit_length()))

    def _batch(self, rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """What a model reads, and what it is to predict after each token; what fills up comes last."""
        width = max(self._width(len(self._tokens[row]) - 1) for row in rows)
        input_ids = torch.zeros((len(rows), width), dtype=torch.int64)
        targets = torch.full((len(rows), width), IGNORED, dtype=torch.int64)
        for place, row in enumerate(rows):
            tokens = torch.from_numpy(self._tokens[row])
            end, count = len(tokens) - 1, int(self._num_scored[row])
            input_ids[place, :end] = tokens[:-1]
            targets[place, end - count : end] = tokens[-count:]
        return input_ids, targets
