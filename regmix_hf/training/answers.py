"""Scores of a model on the right answers of tasks, in bits per byte."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from regmix_hf.corpus.answers import Answers
from regmix_hf.training.blocks import IGNORED

if TYPE_CHECKING:
    from accelerate import Accelerator

    from regmix_hf.corpus.corpus import Corpus

#: Requests are filled up to a power of two, at least this many tokens, so that few shapes occur.
_SHORTEST = 16


@dataclass(frozen=True)
class Bits:
    """Bits per byte of the right answers of one task.

    Attributes:
        mean: Bits of all answers over bytes of all answers.
        stderr: Standard error of `mean` over documents; NaN for a single one.
    """

    mean: float
    stderr: float

    @classmethod
    def of(cls, nats: NDArray[np.float64], num_bytes: NDArray[np.int64]) -> Bits:
        """Compute them from every document's nats and bytes, both `(documents,)`.

        The standard error is that of a ratio of means, linearised: n / (n - 1) * sum((nats - ratio *
        bytes)^2) / sum(bytes)^2 is its square (Cochran, Sampling Techniques, 3rd ed., eq. 2.46 without the
        finite population correction).
        """
        n, total = len(nats), int(num_bytes.sum())
        if total == 0:
            return cls(math.nan, math.nan)
        ratio = float(nats.sum()) / total
        stderr = math.nan
        if n > 1:
            squares = float(((nats - ratio * num_bytes) ** 2).sum())
            stderr = math.sqrt(n / (n - 1) * squares) / total / math.log(2)
        return cls(ratio / math.log(2), stderr)


class AnswerSet:
    """The right answers of all tasks of a corpus.

    Raises:
        StudyError: They are not there, or others than were prepared.
    """

    def __init__(self, corpus: Corpus):
        facts = corpus.facts
        self._answers: Mapping[str, Answers] = {
            task: Answers.load(corpus.folder, task, of) for task, of in facts.tasks.items()
        }
        self._context_length = facts.context_length
        self._tokens = [tokens for answers in self._answers.values() for tokens in answers.tokens]
        scored = [answers.num_scored for answers in self._answers.values()]
        self._num_scored = np.concatenate(scored) if scored else np.empty(0, dtype=np.int64)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Their names, in the recipe's order."""
        return tuple(self._answers)

    def scores(self, model: nn.Module, accelerator: Accelerator, batch_size: int) -> dict[str, Bits]:
        """Score all answers; all ranks share the work and return the same.

        Args:
            model: A causal language model after `score_in_parts`; asked without dropout, left as it was.
            accelerator: Of the run.
            batch_size: Blocks at once on each device; as many tokens are asked at once.
        """
        if not self._tokens:
            return {}
        rank, num_ranks = accelerator.process_index, accelerator.num_processes
        batches = self._batches(batch_size)
        # Every rank runs the model equally often, as sharded models need; the last round may repeat a batch.
        rounds = -(-len(batches) // num_ranks)
        nats = torch.zeros(len(self._tokens), dtype=torch.float64, device=accelerator.device)
        was_training = model.training
        model.eval()
        with torch.no_grad():
            for turn in range(rank, rounds * num_ranks, num_ranks):
                rows = batches[min(turn, len(batches) - 1)]
                input_ids, targets = (part.to(accelerator.device) for part in self._batch(rows))
                losses = model(input_ids=input_ids, targets=targets, reduction="none").loss
                if turn < len(batches):
                    nats[torch.from_numpy(rows).to(nats.device)] = losses.double().sum(1)
        model.train(was_training)
        if num_ranks > 1:
            nats = accelerator.reduce(nats, reduction="sum")
        return dict(self._by_task(nats.cpu().numpy()))

    def nats_per_token(
        self, model: nn.Module, accelerator: Accelerator, batch_size: int
    ) -> dict[str, NDArray[np.float32]]:
        """Loss of every token of the answers, task by task, in their order, in nats; on one device alone.

        Args:
            model: As for `scores`.
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
        ends = np.cumsum([len(answers.tokens) for answers in self._answers.values()]).tolist()
        starts = [0, *ends[:-1]]
        return {
            task: np.concatenate(nats[start:end])
            for task, start, end in zip(self.tasks, starts, ends, strict=True)
        }

    @property
    def bits_per_nat(self) -> dict[str, float]:
        """What one nat per token of each task's answers is in bits per byte."""
        return {
            task: int(answers.num_scored.sum()) / int(answers.num_bytes.sum()) / math.log(2)
            for task, answers in self._answers.items()
        }

    def _by_task(self, nats: NDArray[np.float64]) -> list[tuple[str, Bits]]:
        ends = np.cumsum([len(answers.tokens) for answers in self._answers.values()])
        parts = np.split(nats, ends[:-1])
        return [
            (task, Bits.of(np.bincount(answers.documents, part).astype(np.float64), answers.num_bytes))
            for (task, answers), part in zip(self._answers.items(), parts, strict=True)
        ]

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
