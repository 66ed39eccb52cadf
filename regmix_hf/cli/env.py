"""`regmix env`: what a bug report needs to say about the machine."""

from __future__ import annotations

import typer

from regmix_hf.cli.arguments import OutputFormat
from regmix_hf.cli.console import Console, Format, Table

_PACKAGES = (
    "regmix_hf",
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "huggingface_hub",
    "lightgbm",
    "scikit-learn",
    "evaluate",
    "lm_eval",
    "numpy",
    "pandas",
    "pyarrow",
)
#: What makes a run faster or shows it elsewhere, and need not be there.
_OPTIONAL_PACKAGES = ("liger-kernel", "triton", "tensorboard", "tensorboardX", "trackio", "wandb")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="env", help="Say what this machine has: versions, cores, memory, GPUs.")(_env)


def _env(format: OutputFormat = Format.HUMAN) -> None:
    import os
    import platform
    import shutil
    from importlib import metadata

    import psutil
    import torch

    from regmix_hf.jobs.accelerate_config import FOLDER, config_names

    disk = shutil.disk_usage(os.getcwd())  # noqa: PTH109 - as the shell shows it
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    machine = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "memory (GB)": round(psutil.virtual_memory().total / 1e9, 1),
        "free disk (GB)": round(disk.free / 1e9, 1),
        "GPUs": ", ".join(gpus) or "none",
        "CUDA of torch": torch.version.cuda or "none",
        "accelerate configs": f"{FOLDER} ({', '.join(config_names())})",
    }
    versions = {name: metadata.version(name) for name in _PACKAGES}
    versions |= {name: _version(name) for name in _OPTIONAL_PACKAGES}
    rows = [{"what": what, "value": str(value)} for what, value in {**machine, **versions}.items()]
    Console(format).tables([Table("environment", rows)])


def _version(package: str) -> str:
    """Its version, or that it is not installed."""
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
