"""Experiment trackers that `report_to` names: there before anything runs, one run each, closed at its end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regmix_hf.errors import TrainingError, did_you_mean

if TYPE_CHECKING:
    from transformers import Trainer

#: What installs a tracker, where it is not the package of its own name.
_EXTRAS = {"tensorboard", "trackio", "wandb"}


def check_trackers(report_to: Any, *, key: str) -> None:
    """Check that all trackers of `report_to` are known and installed.

    Args:
        report_to: A name, several, or `None`; `all` and `none` are those of `transformers`.
        key: For the message.

    Raises:
        TrainingError: One is not.
    """
    names = report_to if isinstance(report_to, list) else [report_to or "none"]
    if set(names) <= {"none", "all"}:
        return
    from transformers.integrations import get_available_reporting_integrations
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    installed = get_available_reporting_integrations()
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            hint = did_you_mean(str(name), INTEGRATION_TO_CALLBACK)
            raise TrainingError(f"{key}: {name!r} is no tracker; {hint}")
        if name not in installed:
            package = f"'regmix_hf[{name}]'" if name in _EXTRAS else name
            raise TrainingError(
                f"{key}: the tracker {name!r} is not installed.",
                f"pip install {package}, or leave it out of report_to",
            )


def log_beside(folder: Path, trainer: Trainer) -> None:
    """Let TensorBoard write into the run's own folder: its default lies among checkpoints, which go."""
    from transformers.integrations import TensorBoardCallback

    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and "TENSORBOARD_LOGGING_DIR" not in os.environ:
            callback.logging_dir = str(folder / "tensorboard" / str(trainer.args.run_name))


def close_trackers(trainer: Trainer) -> None:
    """End what would go on into the next run of this process: `transformers` leaves W&B's run open."""
    if "wandb" in trainer.args.report_to and trainer.is_world_process_zero():
        import wandb

        wandb.finish()
