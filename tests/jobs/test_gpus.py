"""What a plan reckons with on a machine without the GPUs of the recipe."""

import pytest

from regmix_hf.jobs.gpus import PEAKS, Fleet
from regmix_hf.recipe import Executor


@pytest.mark.parametrize(
    ("given", "gpu", "count"),
    [
        ({"gpu": "h200"}, "h200", 1),
        ({"gpu": "h200", "place": "slurm", "num_workers": 16}, "h200", 16),
        ({"place": "jobs", "num_workers": 8, "jobs": {"flavor": "l4x1"}}, "l4", 8),
        ({"place": "jobs", "num_workers": 2, "jobs": {"flavor": "a10g-largex4"}}, "a10g", 8),
        ({"place": "jobs", "num_workers": 2, "jobs": {"flavor": "a100-large"}}, "a100", 2),
    ],
)
def test_the_fleet_is_all_gpus_of_all_workers(given, gpu, count):
    fleet = Fleet.of(Executor.model_validate(given))
    assert (fleet.gpu, fleet.count) == (gpu, count)
    assert fleet.flops_per_second == 0.27 * PEAKS[gpu]


@pytest.mark.parametrize(
    "given", [{}, {"place": "slurm"}, {"place": "jobs", "jobs": {"flavor": "cpu-basic"}}]
)
def test_where_nothing_names_a_gpu_there_is_none(given):
    assert Fleet.of(Executor.model_validate(given)) is None


def test_the_stated_share_is_the_measured_one():
    fleet = Fleet("h200", 1, 0.27)
    flops_per_token = 5.6e19 / 570e9  # of `regmix-1m` with its head, recipes/pile-17
    assert fleet.flops_per_second / flops_per_token == pytest.approx(2.74e6, rel=0.02)  # measured there
