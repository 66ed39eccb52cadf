"""Learning rates of the paper's schedules, from the very objects a run trains with."""

from dataclasses import replace

import pytest

from regmix_hf.training import run
from regmix_hf.training.arguments import check_arguments, merged_arguments

PROXY = {"learning_rate": 4e-4, "lr_scheduler_type": "constant_with_warmup", "warmup_steps": 100}
LARGE = {
    "learning_rate": 4e-4,
    "lr_scheduler_type": "cosine_with_min_lr",
    "lr_scheduler_kwargs": {"min_lr": 1e-5},
    "warmup_steps": 1000,
}


@pytest.mark.parametrize(
    ("schedule", "num_steps", "expected"),
    [
        (PROXY, 1000, {0: 0.0, 50: 2e-4, 100: 4e-4, 1000: 4e-4}),
        (LARGE, 25_000, {0: 0.0, 100: 4e-5, 1000: 4e-4, 13_000: 2.05e-4, 25_000: 1e-5}),
    ],
    ids=["proxy", "1b"],
)
def test_learning_rates_of_the_papers_schedules(spec, corpus, tmp_path, schedule, num_steps, expected):
    check_arguments(schedule, section="train")
    long = replace(
        spec,
        num_batch_tokens=spec.context_length,
        num_train_tokens=num_steps * spec.context_length,
        training_args=merged_arguments({**schedule, "per_device_train_batch_size": 1}),
    )
    assert long.num_steps == num_steps
    trainer = run._Run(long, corpus, tmp_path, None)._trainer
    trainer.create_optimizer()
    scheduler = trainer.create_scheduler(num_training_steps=trainer.args.max_steps)
    rates = [scheduler.get_last_lr()[0]]
    for _ in range(num_steps):
        trainer.optimizer.step()
        scheduler.step()
        rates.append(scheduler.get_last_lr()[0])
    for step, rate in expected.items():
        assert rates[step] == pytest.approx(rate, rel=1e-6, abs=1e-12), step


def test_the_floor_of_a_schedule_is_a_part_of_the_runs_name(spec, with_arguments):
    ids = {
        with_arguments(spec, **{**LARGE, **change}).run_id
        for change in ({}, {"lr_scheduler_kwargs": {"min_lr": 2e-5}}, {"lr_scheduler_type": "cosine"})
    }
    assert len(ids) == 3
