"""`regmix env`: what a bug report needs to say about the machine."""

from __future__ import annotations

from regmix_hf.cli.arguments import OutputFormat
from regmix_hf.cli.console import Console, Format
from regmix_hf.cli.tables import ENVIRONMENT, Table

_PACKAGES = (
    *("regmix_hf", "torch", "transformers", "accelerate", "datasets", "huggingface_hub", "lightgbm"),
    *("scikit-learn", "evaluate", "lm_eval", "numpy", "pandas", "pyarrow"),
)
#: What makes a run faster or shows it elsewhere, and need not be there.
_OPTIONAL_PACKAGES = ("liger-kernel", "triton", "tensorboard", "tensorboardX", "trackio", "wandb")


def env(format: OutputFormat = Format.HUMAN) -> None:
    """Say what this machine has: versions, cores, memory, GPUs."""
    import os
    import platform
    import shutil

    import psutil
    import torch

    from regmix_hf.cli.schema import Environment
    from regmix_hf.jobs.accelerate_config import FOLDER, config_names

    found = Environment(
        python=platform.python_version(),
        platform=platform.platform(),
        cores=os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        free_disk_bytes=shutil.disk_usage(os.getcwd()).free,  # noqa: PTH109 - as the shell shows it
        gpus=[torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        cuda=torch.version.cuda,
        accelerate_config_folder=str(FOLDER),
        accelerate_configs=config_names(),
        packages={name: _version(name) for name in (*_PACKAGES, *_OPTIONAL_PACKAGES)},
    )
    console = Console(format)
    if format is Format.JSON:
        console.json(found.model_dump())
        return
    machine = {
        "python": found.python,
        "platform": found.platform,
        "cores": str(found.cores),
        "memory (GB)": f"{found.memory_bytes / 1e9:.1f}",
        "free disk (GB)": f"{found.free_disk_bytes / 1e9:.1f}",
        "GPUs": ", ".join(found.gpus) or "none",
        "CUDA of torch": found.cuda or "none",
        "accelerate configs": f"{FOLDER} ({', '.join(found.accelerate_configs)})",
        **{name: version or "not installed" for name, version in found.packages.items()},
    }
    rows = [{"what": what, "value": value} for what, value in machine.items()]
    console.tables([Table(ENVIRONMENT, rows, "environment")])


def _version(package: str) -> str | None:
    """Its version; `None`: it is not installed."""
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
