"""Scores of a model on the right answers of tasks, in bits per byte."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from regmix_hf.corpus.answers import Answers
from regmix_hf.training.examinee import Examinee
from regmix_hf.training.requests import Requests

if TYPE_CHECKING:
    from regmix_hf.corpus.corpus import Corpus


@dataclass(frozen=True)
class Measure:
    """What a model comes to on one task.

    Attributes:
        mean: Over all documents.
        stderr: Standard error of `mean` over documents; NaN where there is none.
    """

    mean: float
    stderr: float


@dataclass(frozen=True)
class Bits(Measure):
    """Bits per byte of the right answers of one task: `mean` is bits of all over bytes of all."""

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
        self._requests = Requests(
            [tokens for answers in self._answers.values() for tokens in answers.tokens],
            np.concatenate([np.empty(0, np.int64), *(one.num_scored for one in self._answers.values())]),
            facts.context_length,
        )

    @property
    def tasks(self) -> tuple[str, ...]:
        """Their names, in the recipe's order."""
        return tuple(self._answers)

    def scores(self, of: Examinee) -> dict[str, Bits]:
        """Score all answers, see `Requests.scores`."""
        nats, _ = self._requests.scores(of)
        ends = np.cumsum([len(answers.tokens) for answers in self._answers.values()])
        parts = np.split(nats, ends[:-1])
        return {
            task: Bits.of(np.bincount(answers.documents, part).astype(np.float64), answers.num_bytes)
            for (task, answers), part in zip(self._answers.items(), parts, strict=False)
        }

    def nats_per_token(self, of: Examinee) -> dict[str, NDArray[np.float32]]:
        """Loss of every token of the answers, task by task in their order, see `Requests.nats_per_token`."""
        nats = self._requests.nats_per_token(of)
        ends = np.cumsum([0, *(len(answers.tokens) for answers in self._answers.values())]).tolist()
        return {
            task: np.concatenate(nats[start:end])
            for task, start, end in zip(self.tasks, ends, ends[1:], strict=False)
        }

    @property
    def bits_per_nat(self) -> dict[str, float]:
        """What one nat per token of each task's answers is in bits per byte."""
        return {
            task: int(answers.num_scored.sum()) / int(answers.num_bytes.sum()) / math.log(2)
            for task, answers in self._answers.items()
        }
