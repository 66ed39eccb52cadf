"""`training_args` of a recipe: defaults, what is refused and why, and what leaves the outcome alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from regmix_hf.errors import TrainingError, did_you_mean
from regmix_hf.training.device import uses_cpu
from regmix_hf.training.trackers import check_trackers

if TYPE_CHECKING:
    from transformers import TrainingArguments

#: Steps between two lines in a tracker; each waits for the device.
_LOGGING_STEPS = 10

#: Where these differ from `TrainingArguments`: the optimiser is the paper's (appendix, table 7).
DEFAULTS: dict[str, Any] = {
    "optim": "adamw_torch_fused",
    "learning_rate": 4e-4,
    "lr_scheduler_type": "constant_with_warmup",
    "warmup_steps": 0,
    "adam_beta1": 0.9,
    "adam_beta2": 0.95,
    "weight_decay": 0.1,
    "max_grad_norm": 1.0,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
}

_BY_RECIPE = "the recipe says it elsewhere: "
_ORDER = "every run must read its blocks in one order, whatever the devices"
_LOSS = "runs are compared by their loss, which must stay the mean cross-entropy per token"
_HUB = "checkpoints would carry the token, or be published half-trained; use `regmix push`"
_RESUME = "a resumed run must end with the same numbers as one never stopped"

#: Arguments a recipe may not give, with the reason.
REFUSED: dict[str, str] = {
    "output_dir": _BY_RECIPE + "output_dir",
    **dict.fromkeys(("seed", "data_seed"), _BY_RECIPE + "seed, from which every run's own follows"),
    **dict.fromkeys(("max_steps", "num_train_epochs"), _BY_RECIPE + "num_train_tokens and num_batch_tokens"),
    "auto_find_batch_size": _BY_RECIPE + "num_batch_tokens",
    **dict.fromkeys(
        ("eval_strategy", "eval_steps", "eval_delay", "eval_on_start"), _BY_RECIPE + "num_evaluations"
    ),
    "run_name": "a run is named after its mixture and its run_id",
    **dict.fromkeys(("do_train", "do_eval", "do_predict"), "the stage decides what is done"),
    "resume_from_checkpoint": "a run goes on from its last whole checkpoint by itself",
    **dict.fromkeys(("save_only_model", "ignore_data_skip"), _RESUME),
    "load_best_model_at_end": "the final model is the one after num_train_tokens",
    **dict.fromkeys(("train_sampling_strategy", "accelerator_config"), _ORDER),
    **dict.fromkeys(("dataloader_drop_last", "dataloader_in_order"), _ORDER),
    **dict.fromkeys(("average_tokens_across_devices", "label_smoothing_factor", "label_names"), _LOSS),
    "remove_unused_columns": "blocks have no columns to remove",
    "logging_nan_inf_filter": "it hides losses that are not finite, by which diverged runs are known",
    **dict.fromkeys(("push_to_hub", "hub_token", "hub_model_id", "hub_strategy"), _HUB),
    **dict.fromkeys(("hub_private_repo", "hub_always_push", "hub_revision"), _HUB),
}

_NotNegative, _Momentum = Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0, lt=1)]
_Count = Annotated[int, Field(ge=1)]
#: Narrower types than those of `TrainingArguments`, which takes these values and fails, or not even that.
_NARROWER: dict[str, Any] = {
    "learning_rate": _NotNegative,
    "warmup_steps": _NotNegative,
    "weight_decay": _NotNegative,
    "max_grad_norm": _NotNegative,
    "adam_epsilon": _NotNegative,
    "adam_beta1": _Momentum,
    "adam_beta2": _Momentum,
    "per_device_train_batch_size": _Count,
    "per_device_eval_batch_size": _Count,
    "gradient_accumulation_steps": _Count,
    "save_strategy": Literal["no", "steps", "epoch"],  # `best` asks for a metric that runs do not have
}
#: Arguments whose text is the path of a file.
_FILES = ("deepspeed", "fsdp_config")


def merged_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Put the recipe's `training_args` over this package's defaults. Checks nothing."""
    return {**DEFAULTS, **given}


def check_arguments(given: Mapping[str, Any], *, section: str) -> None:
    """Check `training_args` against the installed `transformers.TrainingArguments`.

    Args:
        given: The recipe's keys and values.
        section: `proxy` or `train`, for the message.

    Raises:
        TrainingError: A key does not exist, is refused, its value has the wrong type or names a file that is
            not there, or this machine cannot do what is asked.
    """
    from transformers import SchedulerType, TrainingArguments
    from transformers.training_args import OptimizerNames

    types = {**get_type_hints(TrainingArguments), **_NARROWER}
    choices = {"optim": OptimizerNames, "lr_scheduler_type": SchedulerType}
    known = TrainingArguments.__dataclass_fields__
    for key, value in given.items():
        where = f"{section}.training_args.{key}"
        if key in REFUSED:
            shown = "" if key == "hub_token" else f" ({value!r})"
            raise TrainingError(f"{where}{shown} cannot be given: {REFUSED[key]}.", "leave it out")
        if key not in known:
            usable = [name for name in known if name not in REFUSED]
            raise TrainingError(f"{where}: no such training argument; {did_you_mean(key, usable)}")
        try:
            TypeAdapter(types[key]).validate_python(value, strict=True)
        except ValidationError as error:
            complaint = error.errors(include_url=False)[0]["msg"]
            raise TrainingError(f"{where}: {complaint} (value {value!r}).") from None
        if key in choices and value not in (names := [str(choice.value) for choice in choices[key]]):
            raise TrainingError(f"{where} {value!r} does not exist; {did_you_mean(value, names)}")
        is_path = key in _FILES and isinstance(value, str) and not value.startswith("{")
        if is_path and not Path(value).is_file():
            raise TrainingError(
                f"{where}: there is no file {value!r} (from {Path.cwd()}).", "write its path, or leave it out"
            )
    check_trackers(given.get("report_to"), key=f"{section}.training_args.report_to")
    if given.get("use_liger_kernel") and not uses_cpu(given):
        _check_liger(given, key=f"{section}.training_args.use_liger_kernel")
    _check_number_formats(given, section=section)


def _stays_on_cpu(given: Mapping[str, Any]) -> bool:
    """Tell whether a run is on the CPU of this machine: it is to be, or there is nothing else."""
    import torch

    return uses_cpu(given) or not torch.accelerator.is_available()


def _check_number_formats(given: Mapping[str, Any], *, section: str) -> None:
    """Complain about what needs a GPU: `fp16` everywhere, `tf32` one that has it."""
    from transformers.utils import is_torch_tf32_available

    if given.get("fp16") and _stays_on_cpu(given):
        where = "the run stays on the CPU" if uses_cpu(given) else "this machine has none"
        raise TrainingError(
            f"{section}.training_args.fp16 True needs a GPU, and {where}.",
            "write bf16: true instead, which a CPU can do, or leave fp16 out",
        )
    if given.get("tf32") and not is_torch_tf32_available():
        raise TrainingError(
            f"{section}.training_args.tf32 True needs an NVIDIA GPU from Ampere on: there is none here.",
            "leave tf32 out",
        )


def _check_liger(given: Mapping[str, Any], *, key: str) -> None:
    """Complain where Liger's kernels are to run and cannot: on a machine with a GPU only."""
    from torch import cuda
    from transformers.utils import is_liger_kernel_available

    if not cuda.is_available():
        return
    if given.get("torch_compile"):
        raise TrainingError(
            f"{key} is given beside torch_compile, which fails on Liger's loss (0.8.5 with torch 2.11).",
            "leave use_liger_kernel out: compiled, the loss in parts is faster",
        )
    if not is_liger_kernel_available():
        raise TrainingError(
            f"{key}: the package liger-kernel is not installed.",
            "pip install 'regmix_hf[gpu]', or leave the key out",
        )


def with_saving(given: Mapping[str, Any], *, saves: bool) -> dict[str, Any]:
    """Say when a run saves, where `given` does not: final runs keep checkpoints, others never do."""
    given = {"per_device_eval_batch_size": given["per_device_train_batch_size"], **given}
    return {"save_strategy": "steps", **given} if saves else {**given, "save_strategy": "no"}


def keywords(given: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """What a run tells `TrainingArguments`.

    Args:
        given: `RunSpec.training_args`.
        own: What the run itself decides: folder, seed, steps, saving.
    """
    import torch

    use_cpu = _stays_on_cpu(given)
    pinned = torch.cuda.is_available() and not use_cpu
    tracked = given.get("report_to") not in (None, "none", [], ["none"])
    return {
        "report_to": "none",
        "disable_tqdm": True,
        "logging_strategy": "steps" if tracked or "logging_steps" in given else "no",
        "logging_steps": _LOGGING_STEPS,
        "dataloader_pin_memory": pinned,
        "ddp_find_unused_parameters": False,  # looking for them costs a walk over the graph in every step
        **given,
        "use_cpu": use_cpu,
        # Liger's kernels are for GPUs, and change no number beyond noise: a small form on a CPU may leave
        # them out.
        "use_liger_kernel": bool(given.get("use_liger_kernel")) and not use_cpu,
        # Else every copy of a batch to the GPU waits until the GPU has done all it was given before.
        "accelerator_config": {"non_blocking": pinned},
        "logging_nan_inf_filter": False,
        "remove_unused_columns": False,
        "ignore_data_skip": True,  # the sampler starts at the position itself
        "average_tokens_across_devices": True,
        "eval_strategy": "no",  # `RunSpec.evaluation_steps` says when
        **own,
    }


def build_arguments(given: Mapping[str, Any], own: Mapping[str, Any]) -> TrainingArguments:
    """Build the `TrainingArguments` of a run; the arguments are those of `keywords`.

    Raises:
        TrainingError: `transformers` refuses a value, or this machine cannot do what is asked (e.g. `bf16`).
    """
    import torch
    from transformers import TrainingArguments

    check_trackers(given.get("report_to"), key="training_args.report_to")
    words = keywords(given, own)
    if words["use_liger_kernel"]:
        _check_liger(given, key="training_args.use_liger_kernel")
    try:
        arguments = TrainingArguments(**words)
    except (ValueError, TypeError, ImportError) as error:
        raise TrainingError(f"training_args: {error}") from error
    _check_precision(arguments, given)
    if arguments.device.type == "cpu":
        # One of several ranks is on "cpu:0", where `torch.load` of transformers 5.17 can put no checkpoint.
        arguments._setup_devices = torch.device("cpu")
    return arguments


def _check_precision(arguments: TrainingArguments, given: Mapping[str, Any]) -> None:
    """Complain when the launcher asks for a precision that the recipe does not: it decides the numbers."""
    named = next((name for name in ("bf16", "fp16") if given.get(name)), "no")
    if arguments.mixed_precision != named:
        raise TrainingError(
            f"the launcher asks for mixed precision {arguments.mixed_precision!r}, the recipe for {named!r}, "
            "and a run is named after what its recipe says.",
            f"write training_args.{arguments.mixed_precision}: true, or `mixed_precision: 'no'` in the "
            "launcher's config",
        )
