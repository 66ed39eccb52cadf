"""Validation losses of all domains, by block."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from regmix_hf.corpus.stream import BlockRows
from regmix_hf.errors import TrainingError
from regmix_hf.training.examinee import Examinee

if TYPE_CHECKING:
    from regmix_hf.corpus.corpus import Corpus
    from regmix_hf.study.corpus_facts import CorpusFacts


@dataclass(frozen=True)
class Loss:
    """Mean loss over the validation blocks of one domain, in nats per token.

    Attributes:
        mean: Over blocks; all have the same number of tokens.
        stderr: Standard error of `mean` over blocks; NaN for a single block.
    """

    mean: float
    stderr: float

    def bits_per_byte(self, tokens_per_byte: float) -> float:
        """The same loss per byte of text, in bits: comparable between tokenizers."""
        return self.mean / math.log(2) * tokens_per_byte


def loss_columns(losses: Mapping[str, Loss | None], facts: CorpusFacts) -> dict[str, float | None]:
    """What a row says of losses, if there are any: `loss/`, `bpb/` and `loss_stderr/` of every domain."""
    return {
        **{f"loss/{name}": finite(loss.mean) if loss else None for name, loss in losses.items()},
        **{
            f"bpb/{name}": finite(loss.bits_per_byte(facts.domains[name].validation.tokens_per_byte))
            if loss
            else None
            for name, loss in losses.items()
        },
        **{f"loss_stderr/{name}": finite(loss.stderr) if loss else None for name, loss in losses.items()},
    }


def finite(value: float | None) -> float | None:
    """The value, where it is a number that a row may hold."""
    return value if value is not None and math.isfinite(value) else None


class ValidationSet:
    """All validation blocks of a corpus, validation-only domains included.

    Raises:
        TrainingError: A domain has no validation block.
    """

    def __init__(self, corpus: Corpus):
        self.domains = tuple(corpus.facts.domains)
        for name, facts in corpus.facts.domains.items():
            if facts.validation.num_blocks == 0:
                raise TrainingError(
                    f"domain {name!r} has {facts.validation.num_tokens} validation tokens: no whole block.",
                    "raise corpus.validation_fraction or lower context_length",
                )
        self._rows = BlockRows([corpus.blocks(name, "validation") for name in self.domains])

    @property
    def num_blocks(self) -> int:
        """Blocks of all domains together."""
        return int(self._rows.ends[-1])

    def losses(self, of: Examinee) -> dict[str, Loss]:
        """Measure the loss of every domain; all ranks share the work and return the same."""
        starts = range(0, self.num_blocks, of.batch_size)
        measured: list[tuple[slice, torch.Tensor]] = []
        with of.at_rest() as device:
            for number, counts in of.turns(len(starts)):
                rows = np.arange(starts[number], self.num_blocks)[: of.batch_size]
                losses = block_losses(of.model, torch.from_numpy(self._rows.read(rows)).to(device))
                if counts:
                    measured.append((slice(int(rows[0]), int(rows[-1]) + 1), losses))
        per_block = torch.zeros(self.num_blocks, dtype=torch.float64)
        for place, losses in measured:  # only now, so that the device was never waited for
            per_block[place] = losses.cpu().double().mean(1)  # not every device knows float64
        return dict(zip(self.domains, self._by_domain(of.of_all_ranks(per_block).numpy()), strict=True))

    def nats_per_token(self, of: Examinee) -> dict[str, NDArray[np.float32]]:
        """Loss of every token that has one before it, domain by domain, in nats; on one device alone."""
        rows, parts = np.arange(self.num_blocks), []
        with of.at_rest() as device:
            for start in range(0, self.num_blocks, of.batch_size):
                blocks = self._rows.read(rows[start : start + of.batch_size])
                losses = block_losses(of.model, torch.from_numpy(blocks).to(device))
                parts.append(losses.float().cpu().numpy())
        by_domain = np.split(np.concatenate(parts), self._rows.ends[:-1])
        return {name: part.reshape(-1) for name, part in zip(self.domains, by_domain, strict=True)}

    def _by_domain(self, per_block: NDArray[np.float64]) -> Iterable[Loss]:
        for part in np.split(per_block, self._rows.ends[:-1]):
            stderr = part.std(ddof=1) / math.sqrt(len(part)) if len(part) > 1 else math.nan
            yield Loss(float(part.mean()), float(stderr))


def block_losses(model: nn.Module, input_ids: torch.Tensor) -> torch.Tensor:
    """Next-token losses of every block, in nats.

    Args:
        model: A causal language model after `score_in_parts`.
        input_ids: Shape `(blocks, context_length)`.

    Returns:
        Shape `(blocks, context_length - 1)`: of the tokens that have one before them.
    """
    losses: torch.Tensor = model(input_ids=input_ids, labels=input_ids, reduction="none").loss
    return losses[:, :-1]  # nothing follows the last token
