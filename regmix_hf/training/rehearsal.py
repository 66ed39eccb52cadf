"""What a run builds before its first step, built once beforehand: arguments, optimiser and schedule."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any

import torch
from accelerate.utils import TorchDynamoPlugin
from torch import nn
from transformers import Trainer, TrainingArguments
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION
from transformers.trainer_utils import SchedulerType

from regmix_hf.errors import TrainingError
from regmix_hf.training.arguments import keywords, merged_arguments, with_saving
from regmix_hf.training.spec import RunSpec

#: What makes `TrainingArguments` set flags of the whole process.
_FLAGS = ("tf32", "torch_compile")


class _Arguments(TrainingArguments):
    """`TrainingArguments` that touch no device and begin no process group."""

    @cached_property
    def _setup_devices(self) -> torch.device:
        self._n_gpu, self.distributed_state = 0, None
        return torch.device("cpu")


class _Rehearsal(Trainer):
    """A `Trainer` that can make its optimiser and its schedule and nothing else."""

    def __init__(self, args: TrainingArguments, model: nn.Module):
        # Not `Trainer.__init__`: it makes an accelerator, which is one for the whole process.
        self.args, self.model = args, model
        self.optimizer = self.lr_scheduler = self.optimizer_cls_and_kwargs = None


def rehearse(spec: RunSpec, model: nn.Module, given: Mapping[str, Any], *, section: str) -> None:
    """Build arguments, optimiser and schedule as the run `spec` will, by the functions that it will use.

    Args:
        spec: A run that the recipe asks for; of its number of steps.
        model: With the names of the run's own parameters, see `models.skeleton`.
        given: The recipe's `training_args`, after `check_arguments`.
        section: `proxy` or `train`: final runs keep checkpoints.

    Raises:
        TrainingError: They cannot be built, or the learning rate would not have risen before the run ends.
    """

    def attempt(given: Mapping[str, Any]) -> TrainingArguments:
        with _environment_kept():
            return _build(merged_arguments(given), model, spec.num_steps, saves=section == "train")

    try:
        arguments = attempt(given)
    except Exception as error:  # everything that is built fails in its own way, and says what is wrong
        raise _refusal(error, _culprits(given, attempt), section) from error
    _check_warm_up(arguments, spec.num_steps, section)


def _build(given: Mapping[str, Any], model: nn.Module, num_steps: int, *, saves: bool) -> TrainingArguments:
    if {"torch_compile_backend", "torch_compile_mode"} & given.keys():  # else it takes seconds for nothing
        backend, mode = given.get("torch_compile_backend") or "inductor", given.get("torch_compile_mode")
        TorchDynamoPlugin(backend=backend, mode=mode)
        torch.compile(nn.Identity(), backend=backend, mode=mode)
    calm = {key: value for key, value in given.items() if not key.startswith(_FLAGS)}
    own = {"output_dir": os.devnull, "max_steps": num_steps}
    arguments = _Arguments(**keywords(with_saving(calm, saves=saves), own))
    rehearsal = _Rehearsal(arguments, model)
    rehearsal.create_optimizer_and_scheduler(num_training_steps=num_steps)
    for rate in getattr(rehearsal.lr_scheduler, "lr_lambdas", ()):
        for step in {0, num_steps // 2, num_steps - 1, num_steps}:  # a wrong value may tell only later on
            float(rate(step))
    return arguments


def _culprits(given: Mapping[str, Any], attempt: Any) -> dict[str, Any]:
    """The keys without any one of which the first fault would not be there.

    Keys are given one after the other until they fail; of those, each is left out.
    """
    first: dict[str, Any] = {}
    for key, value in given.items():
        first[key] = value
        try:
            attempt(first)
        except Exception:
            break
    found = {}
    for key in first:
        with suppress(Exception):  # then it is not this one, or not this one alone
            attempt({other: value for other, value in first.items() if other != key})
            found[key] = first[key]
    return found


def _refusal(error: Exception, culprits: Mapping[str, Any], section: str) -> TrainingError:
    named = " and ".join(f"{key} {value!r}" for key, value in culprits.items())
    said = " ".join(str(error).split()) or type(error).__name__
    hint = _way_out(culprits)
    if isinstance(error, ImportError):
        hint = f"install what is missing; or {hint}"
    return TrainingError(f"{section}.training_args{named and '.'}{named} cannot be used: {said}", hint)


def _way_out(culprits: Mapping[str, Any]) -> str:
    if not culprits.keys() & {"lr_scheduler_type", "lr_scheduler_kwargs"}:
        return f"write another value of {' or '.join(culprits) or 'one of them'}, or leave it out"
    kind = SchedulerType(merged_arguments(culprits)["lr_scheduler_type"])
    words = inspect.signature(TYPE_TO_SCHEDULER_FUNCTION[kind]).parameters.values()
    taken = [
        word.name
        for word in words
        if word.kind is not word.VAR_KEYWORD
        and word.name not in ("optimizer", "num_warmup_steps", "num_training_steps", "last_epoch")
    ]
    if not taken:
        return "write another lr_scheduler_type, and leave lr_scheduler_kwargs out"
    return f"{kind.value!r} takes lr_scheduler_kwargs {', '.join(taken)}; or write another lr_scheduler_type"


def _check_warm_up(arguments: TrainingArguments, num_steps: int, section: str) -> None:
    kind = arguments.lr_scheduler_type
    warms_up = "num_warmup_steps" in inspect.signature(TYPE_TO_SCHEDULER_FUNCTION[kind]).parameters
    steps = arguments.get_warmup_steps(num_steps) if warms_up else 0
    if steps and steps >= num_steps:
        raise TrainingError(
            f"{section}.training_args.warmup_steps {arguments.warmup_steps:g} is a warm-up of {steps} steps, "
            f"and the run has {num_steps}: it would end before its learning rate is reached.",
            f"write warmup_steps: {num_steps // 10}, or raise {section}.num_train_tokens",
        )


@contextmanager
def _environment_kept() -> Iterator[None]:
    """Undo what `TrainingArguments` leave in the environment of this process."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
