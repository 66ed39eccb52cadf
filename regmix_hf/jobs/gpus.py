"""GPUs that a plan can reckon with where there is none to measure: their peaks, and the share that is had."""

from __future__ import annotations

import re
from dataclasses import dataclass

from regmix_hf.recipe import Executor

#: Dense bf16 FLOPs per second, from NVIDIA's data sheets.
PEAKS = {"l4": 121e12, "a10g": 70e12, "l40s": 362e12, "a100": 312e12, "h100": 989e12, "h200": 989e12}
#: Names of hardware on the Hub: `l4x4`, `a100-large`, `a10g-largex2`.
_FLAVOR = re.compile(r"(?P<gpu>[a-z0-9]+?)(?:-[a-z]+)?(?:x(?P<count>\d))?")


@dataclass(frozen=True)
class Fleet:
    """The GPUs of all workers together.

    Attributes:
        gpu: A key of `PEAKS`.
        count: How many of them.
        utilisation: Share of the peak that training gets.
    """

    gpu: str
    count: int
    utilisation: float

    @classmethod
    def of(cls, executor: Executor) -> Fleet | None:
        """Read it from a recipe; `None` where nothing there names a GPU."""
        gpu: str | None = executor.gpu
        per_worker = 1
        if executor.place == "jobs" and (found := _FLAVOR.fullmatch(executor.jobs.flavor)):
            per_worker = int(found["count"] or 1)
            gpu = gpu or (found["gpu"] if found["gpu"] in PEAKS else None)
        workers = executor.num_workers if executor.place in ("slurm", "jobs") else 1
        return None if gpu is None else cls(gpu, workers * per_worker, executor.utilisation)

    @property
    def flops_per_second(self) -> float:
        """Of one GPU."""
        return PEAKS[self.gpu] * self.utilisation

    def __str__(self) -> str:
        peak = f"{PEAKS[self.gpu] / 1e12:.0f} TFLOP/s"
        return f"{self.count} x {self.gpu.upper()} at {self.utilisation:.0%} of {peak} each"
