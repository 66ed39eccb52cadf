"""One run: the same as a bare loop, in every layout; what it measures, records and refuses."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import get_scheduler

from regmix_hf.corpus.stream import MixtureStream
from regmix_hf.errors import TrainingError
from regmix_hf.files import read_json, read_parquet
from regmix_hf.runs import experts
from regmix_hf.runs.experts import Experts
from regmix_hf.training import run as run_module
from regmix_hf.training.models import build_config, build_model
from regmix_hf.training.run import train_run

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def finished(spec, corpus, tmp_path_factory):
    """The folder and the row of a run, and what it told of its tokens."""
    folder, told = tmp_path_factory.mktemp("runs") / spec.run_id, []
    return folder, train_run(spec, corpus, folder, told.append), told


@pytest.fixture
def trained(monkeypatch, corpus, tmp_path):
    """Train a run; return its weights, the learning rate of every step, and the blocks as they were read."""

    def train(spec):
        seen = {"rates": [], "blocks": []}

        class Watched(run_module.MixtureTrainer):
            def training_step(self, model, inputs, num_items_in_batch=None):
                real = inputs["labels"][:, 1] != -100
                seen["blocks"].extend(inputs["input_ids"][real].tolist())
                if self.accelerator.sync_gradients:
                    seen["rates"].append(self.lr_scheduler.get_last_lr()[0])
                seen["model"] = self.model
                return super().training_step(model, inputs, num_items_in_batch)

        monkeypatch.setattr(run_module, "MixtureTrainer", Watched)
        train_run(spec, corpus, tmp_path / "watched")
        return seen["model"].state_dict(), seen["rates"], seen["blocks"]

    return train


def bare_loop(spec, corpus):
    """The same training, with nothing of `Trainer` in it."""
    stream = MixtureStream(corpus, spec.weights, spec.num_blocks, spec.seed)
    model = build_model(build_config(spec.model, spec.context_length), spec.seed)
    names = dict(model.named_parameters())
    arguments = spec.training_args
    groups = [
        {"params": [p for n, p in names.items() if "norm" not in n], "weight_decay": 0.1},
        {"params": [p for n, p in names.items() if "norm" in n], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, arguments["learning_rate"], betas=(0.9, 0.95))
    scheduler = get_scheduler(
        arguments["lr_scheduler_type"], optimizer, arguments["warmup_steps"], spec.num_steps
    )
    rates, read = [], []
    for start in range(0, spec.num_blocks, spec.batch_blocks):
        blocks = torch.tensor(stream.__getitems__(range(start, min(start + 4, spec.num_blocks))))
        logits = model(input_ids=blocks).logits[:, :-1]
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), blocks[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        read.extend(blocks.tolist())
    return model.state_dict(), rates, read


@pytest.mark.parametrize("per_device", [4, 2, 1])
def test_every_layout_trains_as_a_bare_loop_does_partial_last_step_included(
    spec, corpus, trained, with_arguments, per_device
):
    assert (spec.num_blocks, spec.num_steps, spec.num_blocks % spec.batch_blocks) == (43, 11, 3)
    expected, expected_rates, expected_blocks = bare_loop(spec, corpus)
    weights, rates, blocks = trained(with_arguments(spec, per_device_train_batch_size=per_device))
    assert blocks == expected_blocks
    assert rates == expected_rates
    for name, weight in expected.items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-4, atol=2e-5, msg=name)


@pytest.mark.parametrize("per_device", [4, 2])
def test_the_gradient_of_a_partial_step_is_the_mean_over_its_real_tokens(
    spec, corpus, trained, with_arguments, per_device
):
    """With plain gradient descent, which does not hide a wrong scale as Adam does."""
    short = with_arguments(
        replace(spec, num_train_tokens=3 * spec.context_length),
        optim="sgd",
        learning_rate=0.5,
        warmup_steps=0,
        weight_decay=0.0,
        max_grad_norm=0.0,
        per_device_train_batch_size=per_device,
    )
    model = build_model(build_config(spec.model, spec.context_length), spec.seed)
    blocks = torch.tensor(MixtureStream(corpus, spec.weights, 3, spec.seed).__getitems__(range(3)))
    logits = model(input_ids=blocks).logits[:, :-1]
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), blocks[:, 1:].flatten()).backward()
    weights, *_ = trained(short)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(weights[name], parameter - 0.5 * parameter.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("schedule", "steps", "expected"),
    [
        (
            {"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 4, "learning_rate": 4e-4},
            11,
            {0: 0.0, 1: 1e-4, 4: 4e-4, 10: 4e-4},
        ),
        (
            {
                "lr_scheduler_type": "cosine_with_min_lr",
                "lr_scheduler_kwargs": {"min_lr": 1e-5},
                "warmup_steps": 1,
                "learning_rate": 4e-4,
            },
            11,
            {0: 0.0, 1: 4e-4, 6: 2.05e-4, 10: 1e-5 + 3.9e-4 * (1 + math.cos(math.pi * 0.9)) / 2},
        ),
    ],
)
def test_learning_rates_of_single_steps(spec, trained, with_arguments, schedule, steps, expected):
    _, rates, _ = trained(with_arguments(spec, **schedule))
    assert len(rates) == steps
    assert {step: rates[step] for step in expected} == pytest.approx(expected, rel=1e-6)


def test_the_row_says_what_was_trained_on_what(finished, spec, corpus):
    folder, row, _ = finished
    stream = MixtureStream(corpus, spec.weights, 43, spec.seed)
    assert row["run_id"] == spec.run_id
    assert (row["mixture_id"], row["split"], row["seed"], row["status"]) == ("m0", "fit", 11, "ok")
    assert row["num_train_tokens"] == 43 * 16
    assert [row["weight/ones"], row["weight/threes"]] == [0.7, 0.3]
    assert {name: row[f"realized/{name}"] for name in spec.weights} == stream.realized()
    assert row["realized/ones"] * 43 == pytest.approx(row["epochs/ones"] * 40)
    assert row["scale"] == "2.6K"
    assert row["num_parameters"] > 2_600  # embeddings included
    assert "torch " in row["versions"]
    assert row["device"] == "cpu"
    assert read_json(folder / "result.json") == row


def test_bits_per_byte_are_nats_per_token_in_other_units(finished, corpus):
    _, row, _ = finished
    for name in corpus.facts.domains:  # every token of this corpus is four bytes
        assert row[f"bpb/{name}"] == pytest.approx(row[f"loss/{name}"] / math.log(2) / 4)


def test_all_domains_are_measured_at_even_steps_and_at_the_end(finished, spec, corpus):
    folder, row, _ = finished
    trajectory = read_parquet(folder / "trajectory.parquet")
    assert trajectory["step"].tolist() == [4, 7, 11]
    assert trajectory["num_tokens"].tolist() == [4 * 64, 7 * 64, 43 * 16]
    assert set(trajectory["run_id"]) == {spec.run_id}
    for name in corpus.facts.domains:
        assert trajectory[f"loss/{name}"].iloc[-1] == row[f"loss/{name}"]


def test_a_run_learns(finished):
    losses = read_parquet(finished[0] / "trajectory.parquet")["loss/ones"]
    assert losses.iloc[-1] < losses.iloc[0] < math.log(48)


def test_a_run_tells_its_tokens_after_every_step(finished):
    assert finished[2] == [*range(64, 641, 64), 43 * 16]


def test_equal_seeds_give_equal_bits_and_others_do_not(finished, spec, corpus, tmp_path, outcome):
    again = train_run(spec, corpus, tmp_path / "again")
    other = train_run(replace(spec, seed=12), corpus, tmp_path / "other")
    assert outcome(again) == outcome(finished[1])
    assert other["loss/ones"] != again["loss/ones"]


def test_a_finished_run_is_not_done_again_and_a_failed_one_is(finished, spec, corpus, tmp_path, outcome):
    folder, row, _ = finished
    told = []
    assert train_run(spec, corpus, folder, told.append) == row
    assert told == []
    (tmp_path / "result.json").write_text(f'{{"run_id": "{spec.run_id}", "status": "failed"}}')
    assert outcome(train_run(spec, corpus, tmp_path)) == outcome(row)


def test_the_result_of_another_run_is_not_taken_for_this_one(finished, spec, corpus, tmp_path):
    (tmp_path / "result.json").write_text('{"run_id": "another", "status": "ok"}')
    assert train_run(spec, corpus, tmp_path)["run_id"] == spec.run_id


def test_a_learning_rate_beyond_reason_is_recorded_as_divergence(spec, corpus, with_arguments, tmp_path):
    wild = with_arguments(spec, learning_rate=1e30, max_grad_norm=0.0, warmup_steps=0)
    row = train_run(wild, corpus, tmp_path)
    assert row["status"] == "diverged"
    assert row["loss/ones"] is None
    assert row["bpb/judge"] is None
    assert read_json(tmp_path / "result.json") == row
    trajectory = read_parquet(tmp_path / "trajectory.parquet")
    assert list(trajectory.columns) == [
        "run_id",
        "step",
        "num_tokens",
        *(f"loss/{d}" for d in corpus.facts.domains),
    ]


def test_a_diverged_run_stops_early(spec, corpus, tmp_path, monkeypatch):
    def broken(config, seed):
        model = build_model(config, seed)
        with torch.no_grad():
            model.lm_head.weight[3] = math.nan
        return model

    monkeypatch.setattr(run_module, "build_model", broken)
    told = []
    long = replace(spec, num_train_tokens=400 * spec.context_length, num_evaluations=1)
    row = train_run(long, corpus, tmp_path, told.append)
    assert row["status"] == "diverged"
    assert told[-1] == 16 * 64  # seen at the first look, of 100 steps


def test_stderr_is_that_of_the_mean_over_blocks(finished, spec, corpus, trained):
    _, row, _ = finished
    model = build_model(build_config(spec.model, spec.context_length), spec.seed)
    model.load_state_dict(trained(spec)[0])
    blocks = torch.tensor(corpus.blocks("ones", "validation")["input_ids"][:])
    losses = []
    for block in blocks:
        with torch.no_grad():
            losses.append(model(input_ids=block[None], labels=block[None]).loss.item())
    assert row["loss/ones"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert row["loss_stderr/ones"] == pytest.approx(np.std(losses, ddof=1) / math.sqrt(5), rel=1e-4)


def test_the_batch_of_an_evaluation_changes_no_loss(finished, spec, corpus, with_arguments, tmp_path):
    row = train_run(with_arguments(spec, per_device_eval_batch_size=3), corpus, tmp_path)
    for name in corpus.facts.domains:
        assert row[f"loss/{name}"] == pytest.approx(finished[1][f"loss/{name}"], rel=1e-6)


def test_a_vocabulary_below_the_tokenizers_is_refused(spec, corpus, tmp_path):
    small = replace(spec, model={**spec.model, "vocab_size": 40})
    with pytest.raises(TrainingError, match=r"vocab_size 40 is below the tokenizer's 48"):
        train_run(small, corpus, tmp_path)


def test_a_run_on_a_part_reads_that_part_as_often_as_its_epochs_say(spec, corpus, trained, tmp_path):
    part = {"ones": 6, "threes": 4}
    _, _, blocks = trained(replace(spec, part=part))
    row = read_json(tmp_path / "watched/result.json")
    read = {
        name: np.array(corpus.blocks(name, "train")["input_ids"][:count]).tolist()
        for name, count in part.items()
    }
    assert all(block in read["ones"] + read["threes"] for block in blocks)
    for name, count in part.items():
        times = [blocks.count(block) for block in read[name]]
        assert max(times) - min(times) <= 1
        assert row[f"epochs/{name}"] == sum(times) / count


def test_a_long_proxy_goes_on_from_a_checkpoint_where_the_recipe_asks_for_some(
    spec, corpus, finished, tmp_path, outcome
):
    saving = replace(spec, training_args={**spec.training_args, "save_steps": 0.25})

    def stop(num_tokens):
        if num_tokens > 0.6 * spec.num_tokens:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(saving, corpus, tmp_path, stop)
    told = []
    assert outcome(train_run(saving, corpus, tmp_path, told.append)) == outcome(finished[1])
    assert told[0] > 0.5 * spec.num_tokens, "what was trained before the last checkpoint is not trained again"
    assert not list(tmp_path.glob("checkpoint*"))


def test_an_expert_leaves_what_it_gives_each_token_and_is_trained_as_any_run(
    spec, corpus, finished, outcome, tmp_path, monkeypatch
):
    expert = replace(spec, split="expert", is_expert=True)
    assert expert.run_id == spec.run_id
    row = train_run(expert, corpus, tmp_path / "all")
    assert outcome(row) == {**outcome(finished[1]), "split": "expert"}
    assert not (finished[0] / "experts.safetensors").exists()
    kept = Experts.read(tmp_path / "all" / "experts.safetensors")
    assert kept.weights.loc[spec.run_id].to_dict() == spec.weights
    assert {name: text.sha256 for name, text in kept.texts.items()} == spec.measured
    for name, logs in kept.logs.items():
        assert logs.shape == (1, corpus.facts.domains[name].validation.num_blocks * (spec.context_length - 1))
        assert -logs.astype(float).mean() == pytest.approx(row[f"loss/{name}"], abs=1e-3)
        text = kept.texts[name]
        assert row[f"bpb/{name}"] == pytest.approx(row[f"loss/{name}"] * text.bits_per_nat)
    monkeypatch.setattr(experts, "KEPT_TOKENS", 20)
    train_run(expert, corpus, tmp_path / "few")
    few = Experts.read(tmp_path / "few" / "experts.safetensors")
    for name, logs in few.logs.items():
        np.testing.assert_array_equal(logs, kept.logs[name][:, few.texts[name].kept])
