"""The recipe's section `executor`: where and how runs are done."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from regmix_hf.recipe.section import Section

#: An option of `sbatch`, by its name without the `--`.
_Option = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$")]
_SHARD = r"^[1-9][0-9]*/[1-9][0-9]*$"


class Ray(Section):
    """Proxies and evaluations on a Ray cluster."""

    address: str | None = None
    """`auto`, the cluster that this machine belongs to, or `HOST:PORT`; `null` starts Ray here alone."""
    num_cpus: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 1.0
    """Cores that one run asks for; it uses one."""
    num_gpus: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0
    """GPUs that one run asks for: `0.25` lets four runs share one."""


class Slurm(Section):
    """Workers as an array of Slurm."""

    options: dict[_Option, str | int | bool] = Field(default_factory=dict)
    """Options of `sbatch` by their long names, `{partition: gpu, time: "12:00:00", gres: "gpu:1"}`; `true`
    for one that takes no value."""
    setup: list[str] = Field(default_factory=list)
    """Lines of shell before the worker starts, `module load cuda`, say."""


class Jobs(Section):
    """Workers as jobs on the Hub, each with one shard of the proxies."""

    image: str = "pytorch/pytorch:2.13.0-cuda13.0-cudnn9-runtime"
    """Image of a container, or `hf.co/spaces/NAMESPACE/NAME`."""
    flavor: str = "l4x1"
    """Hardware by the Hub's name; `--dry-run` says what it costs."""
    timeout: Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?[smhd]$")] = "12h"
    """When the Hub ends a job that has not ended; the Hub itself would say after 30 minutes."""
    attempts: Annotated[int, Field(ge=1)] = 3
    """Times that the Hub starts a job which fails."""
    setup: list[str] = ["pip install -q regmix_hf"]
    """Lines of shell before the worker starts."""


class Executor(Section):
    """Where and how proxies, final models and evaluations are done; decides nothing of what comes of them."""

    place: Literal["local", "ray", "slurm", "jobs"] = "local"
    """This machine, a Ray cluster, or workers that are submitted: an array to Slurm, jobs to the Hub."""
    num_workers: Annotated[int, Field(ge=1)] = 4
    """Workers that are submitted; on this machine `proxy.num_workers` counts, on Ray the cluster."""
    shard: Annotated[str, StringConstraints(pattern=_SHARD)] | None = None
    """`2/8`: only the second eighth of the runs, by a hash of their names, where workers share no folder and
    meet in the repository of runs."""
    gpu: Literal["l4", "a10g", "l40s", "a100", "h100", "h200"] | None = None
    """The GPU of a worker, for `--dry-run` on a machine without it."""
    utilisation: Annotated[float, Field(gt=0.0, le=1.0)] = 0.27
    """Share of that GPU's peak which training gets, for `--dry-run`: 0.27 was measured for `regmix-1m`
    without the kernel for Hopper; with it an H200 reaches 0.42, and 0.49 for `regmix-60m`."""
    ray: Ray = Ray()
    """How runs are handed to Ray."""
    slurm: Slurm = Slurm()
    """How workers are submitted to Slurm."""
    jobs: Jobs = Jobs()
    """How workers are submitted to the Hub."""
    wait: bool = False
    """A worker that finds nothing free stays until others have ended their runs, and does those of the dead;
    else it ends. `regmix run` always stays, because the next stage needs all runs."""

    @field_validator("shard", mode="before")
    @classmethod
    def _shard_is_k_of_n(cls, shard: object) -> object:
        if shard is not None and not (isinstance(shard, str) and re.fullmatch(_SHARD, shard)):
            raise ValueError("should be K/N, 2/8 say, counted from 1")
        return shard

    @model_validator(mode="after")
    def _shard_is_one_of(self) -> Self:
        if self.shard is not None and self.own_shard[0] > self.own_shard[1]:
            raise ValueError(f"shard {self.shard} is beyond the last one")
        if self.shard is not None and self.place in ("slurm", "jobs"):
            raise ValueError(f"shard: workers on {self.place} share out all runs themselves; leave it out")
        return self

    @property
    def own_shard(self) -> tuple[int, int]:
        """Which shard of how many, counted from 1."""
        number, count = (self.shard or "1/1").split("/")
        return int(number), int(count)
