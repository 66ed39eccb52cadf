"""Checkpoints that are whole or never read, and that belong to one run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import FSDP_MODEL_NAME

from regmix_hf.files import read_record, write_json

if TYPE_CHECKING:
    from accelerate import Accelerator

#: In a checkpoint's folder, written after everything else in it.
_MARKER = "complete.json"
#: The same, of a run that needs more than its position to go on reading.
_STREAM = "stream.json"


def last_checkpoint(folder: Path, run_id: str) -> Path | None:
    """Return the newest whole checkpoint of the run, or `None`."""
    found = [path for path in folder.glob("checkpoint-*") if _belongs_to(path, run_id)]
    return max(found, key=_step, default=None)


def is_sharded(checkpoint: Path) -> bool:
    """Tell whether it was written by FSDP, whose checkpoints have a form of their own."""
    return any(checkpoint.glob(f"{FSDP_MODEL_NAME}*"))


def _belongs_to(checkpoint: Path, run_id: str) -> bool:
    marker = checkpoint / _MARKER
    return marker.exists() and read_record(marker, run_id=str)["run_id"] == run_id


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def stream_state(checkpoint: Path) -> dict[str, Any]:
    """Return the state of the stream at a whole checkpoint that has one."""
    return read_record(checkpoint / _STREAM)


class WholeCheckpoints(TrainerCallback):
    """Marks a checkpoint once all ranks have written their part, then removes all but the newest.

    `Trainer` itself would remove the old one before the marker of the new one is there.

    Args:
        accelerator: Of the run.
        run_id: Whose checkpoints they are.
        keep: Number of checkpoints kept.
        state_of: Tells the state of the stream after a step, where it has one; the first rank is asked.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        run_id: str,
        keep: int,
        state_of: Callable[[int], dict[str, Any]] | None = None,
    ):
        self._accelerator = accelerator
        self._run_id = run_id
        self._keep = keep
        self._state_of = state_of

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the marker and clear away what is older, or half-written by a run that was killed."""
        self._accelerator.wait_for_everyone()
        if not state.is_world_process_zero:
            return
        folder = Path(str(args.output_dir))
        marker = folder / f"checkpoint-{state.global_step}" / _MARKER
        if self._state_of is not None:
            write_json(marker.with_name(_STREAM), self._state_of(state.global_step))
        write_json(marker, {"run_id": self._run_id, "step": state.global_step})
        whole = {path for path in folder.glob("checkpoint-*") if _belongs_to(path, self._run_id)}
        kept = set(sorted(whole, key=_step)[-self._keep :])
        for path in set(folder.glob("checkpoint-*")) - kept:
            (path / _MARKER).unlink(missing_ok=True)
            shutil.rmtree(path)
