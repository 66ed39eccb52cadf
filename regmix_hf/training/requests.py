"""Token sequences whose ends a model scores: how improbable each end is after what stands before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from regmix_hf.training.blocks import IGNORED

if TYPE_CHECKING:
    from accelerate import Accelerator

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

    def nats(self, model: nn.Module, accelerator: Accelerator, batch_size: int) -> NDArray[np.float64]:
        """Score all of them, `(requests,)`, in nats, see `scores`."""
        return self.scores(model, accelerator, batch_size)[0]

    def scores(
        self, model: nn.Module, accelerator: Accelerator, batch_size: int
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Score all of them; all ranks share the work and return the same.

        Args:
            model: A causal language model after `score_in_parts`; asked without dropout, left as it was.
            accelerator: Of the run.
            batch_size: Blocks at once on each device; as many tokens are asked at once.

        Returns:
            How improbable each end is, in nats, and whether the model would have written it, each time taking
            the likeliest token; both `(requests,)`.
        """
        nats, rivals = both = np.zeros((2, len(self._tokens)))
        if not self._tokens:
            return nats, rivals == 0
        rank, num_ranks = accelerator.process_index, accelerator.num_processes
        batches = self._batches(batch_size)
        # Every rank runs the model equally often, as sharded models need; the last round may repeat a batch.
        rounds = -(-len(batches) // num_ranks)
        was_training = model.training
        model.eval()
        with torch.no_grad():
            for turn in range(rank, rounds * num_ranks, num_ranks):
                rows = batches[min(turn, len(batches) - 1)]
                input_ids, targets = (part.to(accelerator.device) for part in self._batch(rows))
                found = model(input_ids=input_ids, targets=targets)
                if turn < len(batches):
                    nats[rows] = found.loss.cpu().double().sum(1).numpy()  # not every device knows float64
                    rivals[rows] = found.logits.amax(1).cpu().numpy()
        model.train(was_training)
        if num_ranks > 1:
            shared = torch.from_numpy(both).to(accelerator.device)
            nats, rivals = accelerator.reduce(shared, reduction="sum").cpu().numpy()
        return nats, rivals == 0

    def nats_per_token(
        self, model: nn.Module, accelerator: Accelerator, batch_size: int
    ) -> list[NDArray[np.float32]]:
        """Score every token of each answer in its order, in nats; on one device alone.

        Args:
            model: As for `nats`.
            accelerator: Of the run.
            batch_size: Blocks at once.
        """
        nats: list[NDArray[np.float32]] = [np.empty(0, dtype=np.float32)] * len(self._tokens)
        was_training = model.training
        model.eval()
        with torch.no_grad():
            for rows in self._batches(batch_size):
                input_ids, targets = (part.to(accelerator.device) for part in self._batch(rows))
                losses = model(input_ids=input_ids, targets=targets, reduction="none").loss.float()
                for row, loss, target in zip(rows, losses, targets, strict=True):
                    nats[row] = loss[target != IGNORED].cpu().numpy()
        model.train(was_training)
        return nats

    def _batches(self, batch_size: int) -> list[NDArray[np.int64]]:
        """Requests of about one length together, the longest first."""
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
