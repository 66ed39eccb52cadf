"""The benchmark for GPUs runs in its small form on a CPU, and claims nothing it does not know."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from regmix_hf.training import run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def gpu():
    """The benchmark as a module."""
    spec = importlib.util.spec_from_file_location("gpu_benchmark", ROOT / "tests" / "benchmarks" / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("device", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA GeForce RTX 4090", None),
        ("cpu", None),
    ],
)
def test_the_peak_of_a_device_is_known_or_not_claimed(gpu, device, peak):
    assert gpu.peak_flops(device) == peak


def test_a_step_is_a_million_tokens(gpu):
    assert gpu.REAL.batch_blocks * gpu.REAL.context_length == 1 << 20
    for preset in gpu.REAL.presets:
        assert all(gpu.REAL.batch_blocks % micro == 0 for micro in gpu.MICRO_BATCH[preset])


@pytest.mark.processes
def test_in_small_it_runs_on_a_cpu(tmp_path):
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.benchmarks.gpu", "--small", "--json", str(file)]
    ways = ["--way", "parts, compiled", "--way", "liger"]
    done = subprocess.run([*command, *ways], cwd=ROOT, capture_output=True, text=True, check=True)
    figures = json.loads(file.read_text())
    trained, liger = figures["rows"]
    assert trained["tokens_per_second"] > 0
    assert 0 < trained["waiting"] < 1
    assert trained["memory_bytes"] > 1e7
    assert trained["utilisation"] is None
    assert not trained["diverged"]
    assert liger["failed"] == "its kernels are for GPUs"
    assert {"device", "date", "torch", "transformers", "accelerate"} <= figures["environment"].keys()
    head, first, second, *_ = done.stdout.splitlines()
    assert head.split()[:3] == ["preset", "way", "micro"]
    assert first.startswith("tiny        parts, compiled")
    assert second.endswith(liger["failed"])


def test_a_whole_proxy_is_timed_part_by_part(gpu, monkeypatch):
    monkeypatch.setattr(run, "MixtureTrainer", run.MixtureTrainer)  # which the benchmark replaces
    row = gpu.train_proxy("tiny", "parts", gpu.SMALL, 4, num_steps=8)
    assert [row[part]["steps"] for part in ("proxy", "next")] == [8, 2]
    assert [len(row[part]["evaluations"]) for part in ("proxy", "next")] == [4, 1]
    for part in (row["proxy"], row["next"]):
        assert part["status"] == "ok"
        assert part["start"] + part["training"] + sum(part["evaluations"]) == pytest.approx(part["seconds"])
        assert part["tokens_per_second"] == pytest.approx(part["steps"] * 8 * 32 / part["seconds"])
