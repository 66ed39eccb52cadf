"""A model that is measured: by all ranks together, and left as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Examinee:
    """A causal language model after `score_in_parts`, which is asked and measured.

    Attributes:
        model: The model.
        accelerator: Of its run.
        batch_size: Blocks at once on each device.
    """

    model: nn.Module
    accelerator: Accelerator
    batch_size: int

    @contextmanager
    def at_rest(self) -> Iterator[torch.device]:
        """Have the model without dropout and gradients, afterwards as it was; yield its device."""
        was_training = self.model.training
        self.model.eval()
        with torch.no_grad():
            yield self.accelerator.device
        self.model.train(was_training)

    def turns(self, count: int) -> Iterator[tuple[int, bool]]:
        """Which of `count` batches this rank takes, one after the other, and whether what it finds counts.

        Every rank runs the model equally often, as sharded models need; the last round may repeat a batch.
        """
        num_ranks = self.accelerator.num_processes
        rounds = -(-count // num_ranks)
        for turn in range(self.accelerator.process_index, rounds * num_ranks, num_ranks):
            yield min(turn, count - 1), turn < count

    def of_all_ranks(self, found: torch.Tensor) -> torch.Tensor:
        """Put together, on the CPU, what each rank found; what it left to others is 0."""
        if self.accelerator.num_processes == 1:
            return found
        whole: torch.Tensor = self.accelerator.reduce(found.to(self.accelerator.device), reduction="sum")
        return whole.cpu()
