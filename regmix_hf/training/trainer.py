"""`transformers.Trainer` for one run on a mixture: fixed order, all domains measured, no sync per step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from regmix_hf.errors import TrainingError
from regmix_hf.quantities import error_column
from regmix_hf.training.asked import Asked
from regmix_hf.training.blocks import FromPosition, TrainingBlocks
from regmix_hf.training.examinee import Examinee
from regmix_hf.training.loss_head import score_in_parts
from regmix_hf.training.losses import ValidationSet
from regmix_hf.training.spec import RunSpec

#: Steps between two looks at whether all losses were finite: a look waits for the device.
_FINITE_CHECK_STEPS = 16
#: Start of the names under which measured losses stand in the log.
LOSS, STDERR = "eval_loss/", "eval_loss_stderr/"
#: Start of the names under which scores stand there, before their columns.
SCORE = "eval_"


class MixtureTrainer(Trainer):
    """Trains on the blocks `[k * B, (k + 1) * B)` in step `k`, whatever the layout of devices.

    Args:
        spec: The run.
        model: Freshly initialised.
        args: Of `build_arguments`, with the layout of this machine.
        blocks: The run's blocks in whole steps.
        validation: What losses are measured on.
        asked: What tasks are scored on.
        flops_per_token: Of training, for the log.
        on_tokens: Told after every step how many tokens the run has trained on.

    Raises:
        TrainingError: The model cannot average its loss over a step of several micro-batches.
    """

    def __init__(
        self,
        spec: RunSpec,
        model: PreTrainedModel,
        args: TrainingArguments,
        blocks: TrainingBlocks,
        validation: ValidationSet,
        asked: Asked,
        flops_per_token: float,
        on_tokens: Callable[[int], None] | None = None,
    ):
        super().__init__(model=model, args=args, train_dataset=blocks, data_collator=_as_it_is)
        if not self.model_accepts_loss_kwargs:
            raise TrainingError(
                f"model.model_type {model.config.model_type!r} cannot average its loss over a whole step."
            )
        backend = (args.torch_compile_backend or "inductor") if args.torch_compile else None
        score_in_parts(self.model, train=not args.use_liger_kernel, backend=backend)
        self.remove_callback(PrinterCallback)  # it prints to stdout
        self.add_callback(_EveryStep(self, spec, on_tokens))
        self.diverged = False
        self._spec = spec
        self._validation = validation
        self._asked = asked
        self._flops_per_token = flops_per_token
        self._all_finite = torch.ones((), dtype=torch.bool, device=args.device)

    @property
    def examinee(self) -> Examinee:
        """The model as it is now, to be measured."""
        return Examinee(self.model, self.accelerator, self.args.per_device_eval_batch_size)

    def _get_train_sampler(self, train_dataset: Any = None) -> FromPosition:
        blocks = self.train_dataset if train_dataset is None else train_dataset
        return FromPosition(len(blocks), lambda: self.state.global_step * self._spec.batch_blocks)

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Run one micro-batch and note, without waiting for the device, whether its loss is finite."""
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        self._all_finite &= loss.isfinite()
        return loss

    def check_finite(self) -> bool:
        """Tell whether all losses so far, on all ranks, were finite. Waits for the device."""
        finite = self._all_finite
        if self.accelerator.num_processes > 1:
            finite = self.accelerator.gather(finite.reshape(1)).all()
        self.diverged = self.diverged or not bool(finite)
        return not self.diverged

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Training FLOPs of a micro-batch; `Trainer`'s own walks over all parameters every time."""
        return int(self._flops_per_token * inputs["input_ids"].numel())

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Measure the validation loss of every domain, and the tasks where that is due, and log them."""
        losses = self._validation.losses(self.examinee)
        metrics = {f"{LOSS}{name}": loss.mean for name, loss in losses.items()}
        metrics |= {f"{STDERR}{name}": loss.stderr for name, loss in losses.items()}
        means = [loss.mean for loss in losses.values()]
        if self.state.global_step in self._spec.scoring_steps:
            scores = self._asked.scores(self.examinee)
            metrics |= {f"{SCORE}{column}": score.mean for column, score in scores.items()}
            metrics |= {f"{SCORE}{error_column(column)}": score.stderr for column, score in scores.items()}
            means += [score.mean for score in scores.values()]
        self.log(dict(metrics))
        self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self.diverged = self.diverged or not all(map(math.isfinite, means))
        return metrics


def _as_it_is(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return batch


class _EveryStep(TrainerCallback):
    """After every step: says how far the run is, when losses are measured, and when it has diverged."""

    def __init__(self, trainer: MixtureTrainer, spec: RunSpec, on_tokens: Callable[[int], None] | None):
        self._trainer = trainer
        self._spec = spec
        self._on_tokens = on_tokens

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step == 0 and 0 in self._spec.evaluation_steps:
            self._trainer.evaluate()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._on_tokens is not None:
            self._on_tokens(self._spec.tokens_at(state.global_step))
        control.should_evaluate = state.global_step in self._spec.evaluation_steps
        if control.should_evaluate or state.global_step % _FINITE_CHECK_STEPS == 0:
            finite = self._trainer.check_finite()
            control.should_evaluate &= finite
            control.should_save &= finite
            control.should_training_stop |= not finite
