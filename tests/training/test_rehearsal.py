"""What a run builds before its first step fails before anything runs, with key, value and a way out."""

import os

import pytest
import torch
from transformers import TrainingArguments

from regmix_hf.errors import TrainingError
from regmix_hf.recipe import Recipe
from regmix_hf.training.arguments import check_arguments
from regmix_hf.training.models import build_config, build_model, skeleton
from regmix_hf.training.planned import rehearse_runs
from regmix_hf.training.presets import PRESETS

TINY = {"preset": "tiny", "num_hidden_layers": 1}


@pytest.fixture
def check():
    """Check the runs of a section of a recipe with given training arguments, 64 steps of 8 blocks of 64."""

    def of(arguments, section="train", tokenizer=None, **keys):
        training = {"model": TINY, "num_train_tokens": 64 * 8 * 64, **keys}
        recipe = Recipe.model_validate(
            {
                "name": "small",
                "context_length": 64,
                "tokenizer": tokenizer or {"train": {"vocab_size": 300}},
                "domains": {name: {"path": "json", "data_files": f"{name}.jsonl"} for name in "ab"},
                "proxy": {**training, "training_args": arguments if section == "proxy" else {}},
                "train": {**training, "training_args": arguments if section == "train" else {}},
            }
        )
        check_arguments(arguments, section=section)
        rehearse_runs(recipe, section, getattr(recipe, section), None)

    return of


@pytest.mark.parametrize("section", ["proxy", "train"])
@pytest.mark.parametrize(
    ("arguments", "says", "way_out"),
    [
        (
            {"lr_scheduler_type": "cosine_with_min_lr"},
            "lr_scheduler_type 'cosine_with_min_lr'",
            "min_lr_rate",
        ),
        (
            {"lr_scheduler_type": "warmup_stable_decay"},
            "lr_scheduler_type 'warmup_stable_decay'",
            "num_decay_steps",
        ),
        (
            {"lr_scheduler_type": "reduce_lr_on_plateau"},
            "lr_scheduler_type 'reduce_lr_on_plateau'",
            "another lr_scheduler_type",
        ),
        ({"optim": "paged_adamw_8bit"}, "optim 'paged_adamw_8bit' .*bitsandbytes", "install what is missing"),
        ({"optim_args": "fast"}, "optim_args 'fast'", "another value of optim_args"),
        ({"logging_steps": 1.5}, "logging_steps 1.5 .*integer", "another value of logging_steps"),
        ({"deepspeed": "ds.json"}, "deepspeed: there is no file 'ds.json'", "write its path"),
        ({"fsdp_config": "fsdp.json"}, "fsdp_config: there is no file 'fsdp.json'", "write its path"),
        ({"torch_compile_backend": "inductr"}, "torch_compile_backend 'inductr'", "another value"),
        ({"dataloader_prefetch_factor": 2}, "dataloader_prefetch_factor 2", "leave it out"),
        (
            {"fp16": True, "use_cpu": True},
            "fp16 True needs a GPU, and the run stays on the CPU",
            "bf16: true",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_no_run_could_begin_with(check, monkeypatch, section, arguments, says, way_out):
    monkeypatch.setattr("transformers.trainer_optimizer.is_bitsandbytes_available", lambda: False)
    with pytest.raises(TrainingError, match=rf"^{section}\.training_args\.{says}") as refusal:
        check({"learning_rate": 1e-3, **arguments}, section)
    assert way_out in refusal.value.hint


def test_two_keys_that_do_not_go_together_are_both_named(check):
    both = {"lr_scheduler_type": "cosine", "weight_decay": 0.0, "lr_scheduler_kwargs": {"min_lr": 1e-5}}
    with pytest.raises(TrainingError, match=r"type 'cosine' and lr_scheduler_kwargs {'min_lr'") as refusal:
        check(both)
    assert "takes lr_scheduler_kwargs num_cycles;" in refusal.value.hint
    check({**both, "lr_scheduler_type": "cosine_with_min_lr"})


def test_a_wrong_value_that_a_schedule_reads_only_after_its_warm_up(check):
    with pytest.raises(TrainingError, match="num_cycles"):
        check({"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"num_cycles": "x"}, "warmup_steps": 20})


def test_the_first_of_two_faults_is_named(check):
    with pytest.raises(TrainingError, match=r"training_args\.logging_steps 1\.5"):
        check({"logging_steps": 1.5, "lr_scheduler_type": "cosine_with_min_lr"})


@pytest.mark.parametrize(("steps", "ends"), [(63, True), (64, False), (100, False), (0.5, True)])
def test_a_warm_up_ends_before_the_run(check, steps, ends):
    arguments = {"warmup_steps": steps}
    if ends:
        check(arguments)
        return
    with pytest.raises(TrainingError, match=f"a warm-up of {steps} steps, and the run has 64") as refusal:
        check(arguments)
    assert "write warmup_steps: 6," in refusal.value.hint
    check({**arguments, "lr_scheduler_type": "constant"})  # which has no warm-up


def test_steps_are_counted_as_the_run_counts_them(check):
    with pytest.raises(TrainingError, match="the run has 32"):
        check({"warmup_steps": 32}, num_batch_tokens=16 * 64)


def test_only_final_runs_save(check):
    check({"save_steps": 2.5}, "proxy")
    with pytest.raises(TrainingError, match=r"save_steps 2\.5"):
        check({"save_steps": 2.5}, "train")


def test_nothing_of_this_process_is_touched(check, monkeypatch):
    from accelerate.state import AcceleratorState, PartialState

    monkeypatch.setenv("WORLD_SIZE", "2")  # as under a launcher, where a group would be waited for
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(TrainingArguments, "_setup_devices", property(lambda _: pytest.fail("devices")))
    states = dict(PartialState._shared_state), dict(AcceleratorState._shared_state)
    before, precision = dict(os.environ), torch.backends.fp32_precision
    check({"fsdp": "full_shard", "torch_compile": True})
    assert dict(os.environ) == before
    assert torch.backends.fp32_precision == precision
    assert states == (dict(PartialState._shared_state), dict(AcceleratorState._shared_state))
    assert not torch.distributed.is_initialized()


def test_a_vocabulary_that_is_not_known_yet_hides_no_mistake(check):
    check({}, tokenizer="some/where")
    with pytest.raises(TrainingError, match="cosine_with_min_lr"):
        check({"lr_scheduler_type": "cosine_with_min_lr"}, tokenizer="some/where")
    with pytest.raises(TrainingError, match="hiden_size"):
        check({}, tokenizer="some/where", model={**TINY, "hiden_size": 3})


def test_a_skeleton_has_the_names_of_the_model_and_hardly_a_number():
    config = build_config({**PRESETS["llama-7b"], "vocab_size": 100}, 32)
    small = {**PRESETS["llama-7b"], "hidden_size": 64, "intermediate_size": 8, "vocab_size": 100}
    named = dict(skeleton(config).named_parameters())
    assert named.keys() == dict(build_model(build_config(small, 32), 0).named_parameters()).keys()
    assert all(parameter.numel() <= 4 for parameter in named.values())
