"""Configs of `accelerate launch`: those of this package, by name, and a user's own, by file."""

from __future__ import annotations

from pathlib import Path

from regmix_hf.errors import TrainingError, did_you_mean
from regmix_hf.jobs.devices import cuda_devices

#: Holds one file per name; `accelerate launch --config_file` takes them as well.
FOLDER = Path(__file__).parent / "accelerate_configs"
#: GPUs that a config of this package needs at least; two or more of them say that it takes all there are.
_GPUS_NEEDED = {"single_gpu": 1, "multi_gpu": 2, "fsdp2": 2}


def config_names() -> list[str]:
    """Name the configs of this package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def config_file(asked: str) -> Path:
    """Return the file that `train.accelerate_config` asks for, by a name of this package or by its path.

    Raises:
        TrainingError: There is neither.
    """
    if asked in config_names():
        return FOLDER / f"{asked}.yaml"
    if Path(asked).is_file():
        return Path(asked)
    if Path(asked).suffix or len(Path(asked).parts) > 1:
        raise TrainingError(
            f"train.accelerate_config: no file {asked!r}.",
            "make one with `accelerate config --config_file FILE`, or name one of "
            + ", ".join(config_names()),
        )
    raise TrainingError(
        f"train.accelerate_config: {asked!r} is neither a file nor a config of this package; "
        + did_you_mean(asked, config_names())
    )


def check_config(asked: str) -> Path:
    """Find the config and read it as `accelerate launch` will; return its file.

    Raises:
        TrainingError: It is not there, or `accelerate` cannot read it.
    """
    from accelerate.commands.config.config_args import load_config_from_file

    file = config_file(asked)
    try:
        load_config_from_file(str(file))
    except Exception as error:  # each part of it fails in its own way, and says what is wrong
        raise TrainingError(
            f"train.accelerate_config: accelerate cannot use {str(file)!r}: {error}",
            "make one with `accelerate config --config_file FILE`",
        ) from None
    return file


def config_flags(asked: str) -> tuple[str, ...]:
    """Return the flags of `accelerate launch` for a config; the package's own take all GPUs there are.

    Raises:
        TrainingError: There is no such config, or it is for more GPUs than there are.
    """
    flags = ("--config_file", str(config_file(asked)))
    needed = _GPUS_NEEDED.get(asked, 0)
    found = len(cuda_devices()) if needed else 0
    if found < needed:
        raise TrainingError(
            f"train.accelerate_config: {asked} needs {needed} GPUs or more, and {found} can be used here.",
            f"write {'single_gpu' if found else 'cpu'}",
        )
    return (*flags, "--num_processes", str(found)) if needed > 1 else flags
