"""A proxy that does not fit is trained on fewer blocks at once, and on as many a step."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from regmix_hf.jobs.proxies import ProxyWork, proxy_tasks
from regmix_hf.jobs.tasks import OutOfMemoryError
from regmix_hf.training import run
from regmix_hf.training.layout import smaller_micro_batch
from regmix_hf.training.spec import RunSpec
from tests.tiny import LLAMA


@pytest.fixture
def work(write_corpus, tmp_path):
    draw = np.random.default_rng(0)
    splits = (draw.integers(48, size=(40, 16)), draw.integers(48, size=(4, 16)))
    return ProxyWork(write_corpus(tmp_path / "corpus", 48, {"a": splits}))


@pytest.fixture
def spec():
    arguments = {"per_device_train_batch_size": 6, "gradient_accumulation_steps": 1, "use_cpu": True}
    return RunSpec(
        mixture_id="m",
        split="fit",
        scale=None,
        seed=1,
        weights={"a": 1.0},
        model={**LLAMA, "vocab_size": 48},
        context_length=16,
        num_train_tokens=192,
        num_batch_tokens=96,
        training_args=arguments,
        num_evaluations=1,
        text={"a": "0" * 64},
        tokenizer="0" * 64,
        validation={"a": "1" * 64},
        corpus="2" * 64,
    )


def test_half_the_blocks_or_the_next_fewer_that_come_out_even():
    assert [smaller_micro_batch(64, size) for size in (100, 64, 2, 1)] == [32, 32, 1, None]
    assert [smaller_micro_batch(6, size) for size in (6, 5, 3)] == [3, 2, 1]


def test_out_of_memory_is_told_apart_and_what_fits_has_the_same_name_and_step(
    work, spec, tmp_path, monkeypatch
):
    train, asked = run.train_run, []

    def on_a_small_device(spec, *rest):
        asked.append(spec.training_args["per_device_train_batch_size"])
        if asked[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 26.00 GiB.")
        return train(spec, *rest)

    monkeypatch.setattr(run, "train_run", on_a_small_device)
    do, left = work.open(), spec
    for _ in range(2):
        with pytest.raises(OutOfMemoryError, match="Tried to allocate"):
            do(left, tmp_path, lambda tokens: None)
        left = work.smaller(left)
    do(left, tmp_path, lambda tokens: None)
    assert asked == [6, 3, 1]
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["run_id"] == spec.run_id
    assert (result["micro_batch"], result["num_train_tokens"], left.batch_blocks) == (1, 192, 6)
    assert work.smaller(left) is None


def test_another_error_is_itself(work, spec, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(run, "train_run", fail)
    with pytest.raises(RuntimeError, match="illegal memory"):
        work.open()(spec, tmp_path, lambda tokens: None)


def test_mixtures_that_are_the_same_run_are_one_task(spec, tmp_path):
    (task,) = proxy_tasks([spec, spec], tmp_path)
    assert (task.name, task.folder, task.num_tokens) == (spec.run_id, tmp_path / spec.run_id, 192)


def test_a_mixture_of_one_domain_that_is_an_expert_too_is_still_fitted_on(spec, tmp_path):
    expert = replace(spec, mixture_id="e", split="expert")
    for specs in ([spec, expert], [expert, spec]):
        (task,) = proxy_tasks(specs, tmp_path)
        assert (task.head["mixture_id"], task.head["split"]) == ("m", "fit")
        assert task.leaves == ("experts.safetensors",)
        assert task.spec.is_expert
    (task,) = proxy_tasks([expert], tmp_path)
    assert (task.head["split"], task.spec.is_expert) == ("expert", True)
    assert not proxy_tasks([spec], tmp_path)[0].leaves
