"""Each worker gets one device and one thread, and none of them learns that a launcher started it."""

import subprocess
from types import SimpleNamespace

import pytest

from regmix_hf.jobs import devices
from regmix_hf.jobs.devices import Rank, Slot, unlaunched, worker_slots
from regmix_hf.training.device import uses_cpu


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that torch counts some GPUs in the child that is asked."""

    def pretend(count, visible=None):
        monkeypatch.setattr(devices.shutil, "which", lambda name: f"/usr/bin/{name}")
        answer = SimpleNamespace(returncode=0, stdout=f"{count}\n", stderr="")
        monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: answer)
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return pretend


def test_gpus_are_numbered_or_called_what_the_environment_calls_them(gpus):
    gpus(2)
    assert devices.cuda_devices() == ["0", "1"]
    gpus(2, visible="5, GPU-ab")
    assert devices.cuda_devices() == ["5", "GPU-ab"]
    gpus(0, visible="5")
    assert devices.cuda_devices() == []
    gpus(2, visible="")
    assert devices.cuda_devices() == []


def test_one_worker_per_gpu_and_more_share_them(gpus):
    gpus(2)
    assert worker_slots(None, use_cpu=False) == [Slot("0"), Slot("1")]
    assert worker_slots(3, use_cpu=False) == [Slot("0"), Slot("1"), Slot("0")]
    assert worker_slots(2, use_cpu=True) == [Slot(), Slot()]


def test_one_worker_per_core_without_gpus(monkeypatch):
    monkeypatch.setattr(devices, "num_cores", lambda: 3)
    assert worker_slots(None, use_cpu=True) == [Slot()] * 3


def test_a_worker_sees_its_device_and_nothing_of_the_launcher(monkeypatch):
    launcher = {
        "RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29500",
        "GROUP_RANK": "0",
        "ROLE_WORLD_SIZE": "2",
        "TORCHELASTIC_RUN_ID": "x",
        "ACCELERATE_MIXED_PRECISION": "bf16",
        "FSDP_VERSION": "2",
    }
    assert unlaunched({**launcher, "HOME": "/h"}) == {"HOME": "/h"}
    for name, value in launcher.items():
        monkeypatch.setenv(name, value)
    seen = Slot("3").environment()
    assert not launcher.keys() & seen.keys()
    assert (seen["CUDA_VISIBLE_DEVICES"], seen["OMP_NUM_THREADS"]) == ("3", "1")
    assert Slot().environment()["CUDA_VISIBLE_DEVICES"] == ""


def test_a_rank_is_one_of_several(gpus):
    assert Rank.of_environment({}) is None
    assert Rank.of_environment({"WORLD_SIZE": "1", "LOCAL_RANK": "0", "RANK": "0"}) is None
    rank = Rank.of_environment({"WORLD_SIZE": "4", "LOCAL_RANK": "1", "RANK": "3"})
    assert rank == Rank(index=3, local_index=1)
    gpus(2, visible="6,7")
    assert rank.slot(use_cpu=False) == Slot("7")
    assert rank.slot(use_cpu=True) == Slot()


def test_the_recipe_or_the_launcher_keeps_runs_off_gpus(monkeypatch):
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    assert uses_cpu({"use_cpu": True})
    assert not uses_cpu({})
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert uses_cpu({})
