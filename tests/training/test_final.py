"""Final runs: what they leave, killed at any moment, on several ranks."""

import json
import random
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from regmix_hf.errors import TrainingError
from regmix_hf.files import read_json, read_parquet
from regmix_hf.jobs.accelerate_config import config_file
from regmix_hf.training.checkpoints import last_checkpoint
from regmix_hf.training.run import train_final, train_run

pytestmark = pytest.mark.processes

SHARDED = Path(__file__).parent / "work" / "sharded.py"
#: Logits at once, so that the loss is computed over 20 tokens at a time.
IN_PARTS = 20 * 48


@pytest.fixture(scope="module")
def undisturbed(spec, corpus, tmp_path_factory):
    """The folder and the row of a run nobody stopped."""
    folder = tmp_path_factory.mktemp("models") / "chosen"
    return folder, train_final(spec, corpus, folder)


def weights_of(folder):
    return load_file(folder / "model.safetensors")


def test_the_folder_holds_model_tokenizer_and_record_and_nothing_else(undisturbed):
    folder, row = undisturbed
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "result.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "trajectory.parquet",
    ]
    assert read_json(folder / "result.json") == row


def test_the_saved_model_has_the_recorded_loss(undisturbed, corpus):
    folder, row = undisturbed
    model = AutoModelForCausalLM.from_pretrained(folder)
    for name in corpus.facts.domains:
        blocks = torch.tensor(corpus.blocks(name, "validation")["input_ids"][:])
        with torch.no_grad():
            loss = model(input_ids=blocks, labels=blocks).loss
        assert loss.item() == pytest.approx(row[f"loss/{name}"], rel=1e-5)


def test_the_saved_model_goes_on_counting(undisturbed):
    folder, _ = undisturbed
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.config.use_cache
    prompt = tokenizer("5 6 7", return_tensors="pt")
    text = model.generate(**prompt, max_new_tokens=3, do_sample=False)
    assert text.shape == (1, 6)


def test_checkpoints_change_nothing(undisturbed, spec, corpus, tmp_path, outcome):
    _, row = undisturbed
    assert outcome(train_run(spec, corpus, tmp_path / "run")) == outcome(row)


def test_killed_again_and_again_it_ends_with_the_same_bits(
    undisturbed, spec, with_arguments, final_process, tmp_path, outcome
):
    """Killed while and soon after it writes checkpoints, and once while it saves the model."""
    folder, row = undisturbed
    chance = random.Random(0)
    often = with_arguments(spec, save_steps=1)
    for step in (1, 2, 4, 6, 8, 11):
        process = final_process(often, tmp_path / "run")
        reached = tmp_path / "run" / "checkpoints" / f"checkpoint-{step}"
        while process.is_alive() and not reached.exists():
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.02))
        process.kill()
        process.join()
        if step == 4:
            assert last_checkpoint(tmp_path / "run" / "checkpoints", spec.run_id) is not None
    process = final_process(often, tmp_path / "run")
    process.join()
    assert process.exitcode == 0
    ended, expected = weights_of(tmp_path / "run"), weights_of(folder)
    assert all(torch.equal(ended[name], weight) for name, weight in expected.items())
    assert outcome(read_json(tmp_path / "run" / "result.json")) == outcome(row)
    assert read_parquet(tmp_path / "run" / "trajectory.parquet").equals(
        read_parquet(folder / "trajectory.parquet")
    )


def test_a_half_written_checkpoint_is_never_resumed_from(undisturbed, spec, corpus, tmp_path, outcome):
    half = tmp_path / "run" / "checkpoints" / "checkpoint-9"
    half.mkdir(parents=True)
    (half / "trainer_state.json").write_text(json.dumps({"global_step": 9}))
    assert last_checkpoint(half.parent, spec.run_id) is None
    assert outcome(train_final(spec, corpus, tmp_path / "run")) == outcome(undisturbed[1])


def test_a_checkpoint_of_another_run_is_not_resumed_from(tmp_path):
    checkpoint = tmp_path / "checkpoint-9"
    checkpoint.mkdir()
    (checkpoint / "complete.json").write_text(json.dumps({"run_id": "another", "step": 9}))
    assert last_checkpoint(tmp_path, "this") is None
    assert last_checkpoint(tmp_path, "another") == checkpoint


@pytest.fixture(scope="module")
def wide_spec(spec):
    """8 blocks at once: 5 steps, and one of 3 blocks, which leaves a second rank none that counts."""
    arguments = {**spec.training_args, "per_device_train_batch_size": 8}
    return replace(spec, num_batch_tokens=8 * spec.context_length, training_args=arguments)


@pytest.fixture(scope="module")
def wide(wide_spec, corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wide") / "chosen"
    return folder, train_final(wide_spec, corpus, folder)


@pytest.fixture(scope="module")
def on_two_ranks(spec, wide_spec, with_arguments, final_process, launch, tmp_path_factory):
    """Runs of two ranks: one from the start, one that was begun on one rank, one of half the batch a step."""
    folder = tmp_path_factory.mktemp("two-ranks")
    begun = folder / "begun" / "checkpoints"
    process = final_process(with_arguments(spec, save_steps=1), begun.parent)
    while process.is_alive() and not (begun / "checkpoint-5").exists():
        time.sleep(0.001)
    process.kill()
    process.join()
    assert last_checkpoint(begun, spec.run_id) is not None
    launch(
        (spec, folder / "whole"),
        (spec, begun.parent),
        (with_arguments(wide_spec, per_device_train_batch_size=4), folder / "halves", IN_PARTS),
    )
    return folder


def test_two_ranks_train_the_same_model_as_one(undisturbed, on_two_ranks):
    same_model(on_two_ranks / "whole", *undisturbed)


def test_a_run_begun_on_one_rank_goes_on_on_two(undisturbed, on_two_ranks):
    same_model(on_two_ranks / "begun", *undisturbed)


def test_one_batch_of_8_is_2_of_4_and_2_ranks_of_4(
    wide, wide_spec, on_two_ranks, corpus, with_arguments, tmp_path
):
    train_final(with_arguments(wide_spec, per_device_train_batch_size=4), corpus, tmp_path / "halves")
    same_model(tmp_path / "halves", *wide)
    same_model(on_two_ranks / "halves", *wide)


def test_a_run_begun_on_two_ranks_goes_on_on_one(wide, wide_spec, corpus, with_arguments, launch, tmp_path):
    """Killed before a last step that has no block for the second rank."""
    often = with_arguments(wide_spec, per_device_train_batch_size=2, save_steps=1)
    launch((often, tmp_path), until=tmp_path / "checkpoints" / "checkpoint-4" / "complete.json")
    start = last_checkpoint(tmp_path / "checkpoints", often.run_id)
    assert start is not None
    assert start.name >= "checkpoint-4"
    train_final(often, corpus, tmp_path)
    same_model(tmp_path, *wide)


def test_ranks_that_share_the_model_out_train_the_same_one(
    undisturbed, spec, corpus, with_arguments, launch, tmp_path
):
    """Under this package's `fsdp2`, killed in its middle; the saved model is whole."""
    folder, row = undisturbed
    often = with_arguments(spec, save_steps=3)
    flags = ("--config_file", str(config_file("fsdp2")), "--num_processes", "2")
    reached = tmp_path / "checkpoints" / "checkpoint-3" / "complete.json"
    launch((often, tmp_path, IN_PARTS), script=SHARDED, flags=flags, until=reached)
    start = last_checkpoint(tmp_path / "checkpoints", spec.run_id)
    assert start is not None
    with pytest.raises(TrainingError, match="was written with FSDP"):
        train_final(often, corpus, tmp_path)
    launch((often, tmp_path, IN_PARTS), script=SHARDED, flags=flags)
    same_model(tmp_path, folder, row)
    assert AutoModelForCausalLM.from_pretrained(tmp_path).num_parameters() == sum(
        weight.numel() for weight in weights_of(folder).values()
    )


def same_model(folder, expected_folder, expected_row):
    row = read_json(folder / "result.json")
    for name, value in expected_row.items():
        if name.startswith(("loss/", "bpb/", "loss_stderr/")):
            assert row[name] == pytest.approx(value, rel=1e-4), name
        elif name.startswith(("realized/", "epochs/", "weight/", "run_id", "status", "num_")):
            assert row[name] == value, name
    expected = weights_of(expected_folder)
    for name, weight in weights_of(folder).items():
        np.testing.assert_allclose(weight, expected[name], rtol=1e-3, atol=1e-4)
    losses, expected_losses = (read_parquet(f / "trajectory.parquet") for f in (folder, expected_folder))
    np.testing.assert_allclose(
        losses.drop(columns="run_id").to_numpy(float),
        expected_losses.drop(columns="run_id").to_numpy(float),
        rtol=1e-4,
    )
