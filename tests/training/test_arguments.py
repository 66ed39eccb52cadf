"""Training arguments: checked before anything runs, refused with a reason, completed as the paper trains."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainingArguments

from regmix_hf.errors import TrainingError
from regmix_hf.recipe.outcome import changes_outcome
from regmix_hf.training.arguments import DEFAULTS, REFUSED, build_arguments, check_arguments, merged_arguments


def test_what_the_papers_recipes_give_is_accepted():
    check_arguments(
        {
            "learning_rate": 4e-4,
            "lr_scheduler_type": "cosine_with_min_lr",
            "lr_scheduler_kwargs": {"min_lr": 1e-5},
            "warmup_steps": 1000,
            "per_device_train_batch_size": 16,
            "bf16": True,
            "torch_compile": True,
            "use_liger_kernel": True,
            "report_to": "none",
            "save_steps": 500,
        },
        section="train",
    )


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("learning_rat", 1e-3, "proxy.training_args.learning_rat: .* did you mean 'learning_rate'"),
        ("warmup_ratio", 0.1, "no such training argument"),
        ("learning_rate", "4e-4", "learning_rate: .* number .value '4e-4'"),
        ("bf16", "yes", "bf16: .* boolean .value 'yes'"),
        ("per_device_train_batch_size", 1.5, "integer"),
        ("per_device_train_batch_size", -4, "greater than or equal to 1 .value -4"),
        ("learning_rate", -1e-3, "greater than or equal to 0"),
        ("adam_beta2", 1.0, "less than 1"),
        ("optim", "adamw_torch_fussed", "did you mean 'adamw_torch_fused'"),
        ("lr_scheduler_type", "cosin", "'cosin' does not exist; did you mean 'cosine'"),
        ("max_steps", 100, "num_train_tokens and num_batch_tokens"),
        ("hub_token", "hf_secret", "hub_token cannot be given"),
        ("seed", 3, "the recipe says it elsewhere: seed"),
        ("run_name", "mine", "named after its mixture and its run_id"),
        ("logging_nan_inf_filter", True, "diverged"),
    ],
)
def test_arguments_that_are_refused(key, value, says):
    with pytest.raises(TrainingError, match=says):
        check_arguments({key: value}, section="proxy")


def test_a_refused_token_is_not_repeated():
    with pytest.raises(TrainingError) as refusal:
        check_arguments({"hub_token": "hf_secret"}, section="proxy")
    assert "hf_secret" not in str(refusal.value)


def test_every_name_this_package_knows_exists():
    known = {field.name for field in dataclasses.fields(TrainingArguments)}
    assert known >= REFUSED.keys()
    assert known >= DEFAULTS.keys()


def test_every_default_is_of_the_right_type():
    check_arguments(DEFAULTS, section="proxy")


def test_the_recipe_wins_over_defaults():
    merged = merged_arguments({"weight_decay": 0.0})
    assert (merged["weight_decay"], merged["adam_beta2"], merged["max_grad_norm"]) == (0.0, 0.95, 1.0)


def test_arguments_are_built_for_comparable_runs(tmp_path):
    arguments = build_arguments(
        merged_arguments({}), {"output_dir": str(tmp_path), "use_cpu": True, "max_steps": 3}
    )
    assert not arguments.logging_nan_inf_filter
    assert not arguments.remove_unused_columns
    assert arguments.ignore_data_skip
    assert arguments.report_to == []
    assert (arguments.adam_beta1, arguments.adam_beta2, arguments.weight_decay) == (0.9, 0.95, 0.1)


def test_what_transformers_refuses_is_one_message(tmp_path):
    with pytest.raises(TrainingError, match=r"training_args: .*sqare"):
        build_arguments({"lr_scheduler_type": "sqare"}, {"output_dir": str(tmp_path), "use_cpu": True})


@pytest.mark.parametrize("name", ["learning_rate", "optim", "bf16", "tf32", "lr_scheduler_kwargs"])
def test_arguments_that_decide_the_outcome(name):
    assert changes_outcome(name)


@pytest.mark.parametrize(
    "name",
    [
        "dataloader_num_workers",
        "report_to",
        "save_steps",
        "torch_compile",
        "torch_compile_mode",
        "use_liger_kernel",
        "ddp_find_unused_parameters",
    ],
)
def test_arguments_that_do_not(name):
    assert not changes_outcome(name)


@pytest.fixture
def build(tmp_path):
    """Build the arguments of a run on the CPU."""

    def of(**given):
        return build_arguments({"use_cpu": True, **given}, {"output_dir": str(tmp_path), "max_steps": 3})

    return of


def test_kernels_for_gpus_are_left_out_on_a_cpu(build):
    assert not build(use_liger_kernel=True).use_liger_kernel


def test_kernels_that_are_not_installed_are_missed_where_they_would_run(monkeypatch):
    monkeypatch.setattr("transformers.utils.is_liger_kernel_available", lambda: False)
    check_arguments({"use_liger_kernel": True}, section="proxy")  # no GPU here
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    check_arguments({"use_liger_kernel": True, "use_cpu": True}, section="proxy")
    with pytest.raises(TrainingError, match=r"proxy.training_args.use_liger_kernel(.|\n)*regmix_hf\[gpu\]"):
        check_arguments({"use_liger_kernel": True}, section="proxy")


def test_kernels_that_cannot_be_compiled_are_refused_where_they_would_run(monkeypatch):
    both = {"use_liger_kernel": True, "torch_compile": True}
    check_arguments(both, section="proxy")  # no GPU here
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    with pytest.raises(TrainingError, match=r"proxy.training_args.use_liger_kernel(.|\n)*leave use_liger"):
        check_arguments(both, section="proxy")


def test_a_precision_that_only_the_launcher_knows_is_refused(build, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    with pytest.raises(TrainingError, match=r"asks for mixed precision 'bf16', the recipe for 'no'"):
        build()
    assert build(bf16=True).bf16


def test_a_launcher_that_was_told_to_use_the_cpu_is_obeyed(build, monkeypatch):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert build(use_cpu=False).use_cpu


def test_every_device_is_looked_after_without_waiting(build, monkeypatch):
    assert not build().dataloader_pin_memory
    assert build().ddp_find_unused_parameters is False
    given = {}
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(
        "transformers.TrainingArguments",
        lambda **keys: (
            given.update(keys) or SimpleNamespace(mixed_precision="no", device=torch.device("cuda"))
        ),
    )
    build(use_cpu=False)
    assert given["dataloader_pin_memory"]
    assert given["accelerator_config"] == {"non_blocking": True}
