"""How one optimiser step is cut into micro-batches. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from regmix_hf.errors import TrainingError


@dataclass(frozen=True)
class Layout:
    """`micro_batch` blocks at once on each of `num_devices` devices, `accumulation` times per step."""

    micro_batch: int
    accumulation: int
    num_devices: int


def step_layout(batch_blocks: int, per_device: int, num_devices: int) -> Layout:
    """Cut a step of `batch_blocks` blocks for devices that take at most `per_device` blocks at once.

    Raises:
        TrainingError: The step cannot be shared equally, or does not come out in whole micro-batches.
    """
    share, rest = divmod(batch_blocks, num_devices)
    if rest or not share:
        raise TrainingError(
            f"a step of {batch_blocks} blocks cannot be shared equally by {num_devices} devices.",
            f"write num_batch_tokens as a multiple of {num_devices} x context_length",
        )
    micro_batch = min(per_device, share)
    if share % micro_batch:
        fitting = max(size for size in range(1, micro_batch) if share % size == 0)
        raise TrainingError(
            f"a step has {share} blocks per device, which is no multiple of "
            f"per_device_train_batch_size {per_device}.",
            f"write training_args.per_device_train_batch_size: {fitting}",
        )
    return Layout(micro_batch, share // micro_batch, num_devices)


def smaller_micro_batch(batch_blocks: int, per_device: int) -> int | None:
    """Half of the blocks that one device takes at once of a step, or the next fewer that come out even.

    Args:
        batch_blocks: That one device does of a step.
        per_device: Blocks at once, at the most, that were too many.

    >>> smaller_micro_batch(64, 64), smaller_micro_batch(64, 100), smaller_micro_batch(6, 6)
    (32, 32, 3)
    """
    half = min(per_device, batch_blocks) // 2
    return next((size for size in range(half, 0, -1) if batch_blocks % size == 0), None)
