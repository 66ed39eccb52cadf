"""Where workers run: one GPU or one CPU core each, decided before anything imports torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from regmix_hf.errors import TrainingError

#: One CPU thread per worker: more of them slow each other down where every core has a worker.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

#: What torchrun, accelerate and MPI tell their ranks. A run that sees any of it joins the others' training.
_LAUNCHER_VARIABLES = frozenset(
    {
        *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"),
        *("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"),
    }
)
_LAUNCHER_PREFIXES = (
    *("GROUP_", "ROLE_", "TORCHELASTIC_", "ACCELERATE_", "FSDP_", "MEGATRON_LM_", "PARALLELISM_CONFIG_"),
)


@dataclass(frozen=True)
class Slot:
    """A place for one worker.

    Attributes:
        device: A GPU as `CUDA_VISIBLE_DEVICES` names it; `None` is the CPU.
    """

    device: str | None = None

    def environment(self) -> dict[str, str]:
        """Variables of a process that sees this one device and belongs to no launcher's group."""
        return {**unlaunched(os.environ), **ONE_THREAD, "CUDA_VISIBLE_DEVICES": self.device or ""}


def unlaunched(environment: Mapping[str, str]) -> dict[str, str]:
    """Return `environment` without what a launcher put there."""
    return {
        name: value
        for name, value in environment.items()
        if name not in _LAUNCHER_VARIABLES and not name.startswith(_LAUNCHER_PREFIXES)
    }


def num_cores() -> int:
    """CPU cores this process may use: its affinity and its container's quota count."""
    import joblib

    return int(joblib.cpu_count())


def cuda_devices() -> list[str]:
    """Name the GPUs that torch can use here, without importing torch into this process.

    A child asks torch, and only where there is a driver at all: on a machine without GPUs this costs nothing.
    """
    if not (shutil.which("nvidia-smi") or Path("/dev/nvidiactl").exists() or Path("/dev/kfd").exists()):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and not visible.strip():
        return []
    code = "import torch; print(torch.cuda.device_count())"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if answer.returncode:
        raise TrainingError(f"torch cannot count the GPUs: {answer.stderr.strip()[-500:]}")
    count = int(answer.stdout)
    names = [name.strip() for name in visible.split(",")] if visible else [str(k) for k in range(count)]
    return names[:count]


def worker_slots(num_workers: int | None, *, use_cpu: bool) -> list[Slot]:
    """Give every worker its place.

    Args:
        num_workers: How many; `None` is one per GPU, or one per core where there is none. More workers than
            GPUs share them in turn.
        use_cpu: Leave GPUs alone.
    """
    devices = [] if use_cpu else cuda_devices()
    if not devices:
        return [Slot()] * (num_workers or num_cores())
    return [Slot(devices[k % len(devices)]) for k in range(num_workers or len(devices))]


@dataclass(frozen=True)
class Rank:
    """One of several processes that `accelerate launch` started.

    Attributes:
        index: Over all machines.
        local_index: On this machine.
    """

    index: int
    local_index: int

    @classmethod
    def of_environment(cls, environment: Mapping[str, str]) -> Rank | None:
        """Read the rank from the launcher's variables; `None` when no launcher started several processes."""
        if int(environment.get("WORLD_SIZE", "1")) < 2 or "LOCAL_RANK" not in environment:
            return None
        return cls(int(environment.get("RANK", environment["LOCAL_RANK"])), int(environment["LOCAL_RANK"]))

    def slot(self, *, use_cpu: bool) -> Slot:
        """Return the one device of this rank."""
        devices = [] if use_cpu else cuda_devices()
        return Slot(devices[self.local_index % len(devices)]) if devices else Slot()
