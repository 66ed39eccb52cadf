"""Configs of `accelerate launch` by name: each is what its name says, and fits the machine or is refused."""

import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType

from regmix_hf.errors import TrainingError
from regmix_hf.jobs import accelerate_config
from regmix_hf.jobs.accelerate_config import FOLDER, check_config, config_file, config_flags, config_names


@pytest.fixture
def gpus(monkeypatch):
    """Let there be this many GPUs."""

    def have(count):
        monkeypatch.setattr(accelerate_config, "cuda_devices", lambda: [str(k) for k in range(count)])

    return have


def test_there_is_one_for_every_kind_of_machine():
    assert config_names() == ["cpu", "fsdp2", "multi_gpu", "single_gpu"]


@pytest.mark.parametrize(
    ("name", "kind", "use_cpu"),
    [
        ("cpu", DistributedType.NO, True),
        ("single_gpu", DistributedType.NO, False),
        ("multi_gpu", DistributedType.MULTI_GPU, False),
        ("fsdp2", DistributedType.FSDP, False),
    ],
)
def test_accelerate_reads_each_as_what_it_is(name, kind, use_cpu):
    config = load_config_from_file(str(check_config(name)))
    assert DistributedType(config.distributed_type) is kind
    assert bool(config.use_cpu) == use_cpu
    assert config.mixed_precision == "no"  # the recipe's `training_args` decide, and name the run
    if name == "fsdp2":
        assert config.fsdp_config["fsdp_version"] == 2
        assert config.fsdp_config["fsdp_auto_wrap_policy"] == "TRANSFORMER_BASED_WRAP"


def test_over_several_gpus_there_is_a_process_for_each(gpus):
    gpus(4)
    for name in ("multi_gpu", "fsdp2"):
        assert config_flags(name) == ("--config_file", str(FOLDER / f"{name}.yaml"), "--num_processes", "4")
    assert config_flags("single_gpu") == ("--config_file", str(FOLDER / "single_gpu.yaml"))


@pytest.mark.parametrize(
    ("name", "count", "instead"),
    [("multi_gpu", 1, "single_gpu"), ("fsdp2", 0, "cpu"), ("single_gpu", 0, "cpu")],
)
def test_a_config_for_more_gpus_than_there_are_names_one_that_fits(gpus, name, count, instead):
    gpus(count)
    with pytest.raises(TrainingError, match=rf"{name} needs (.|\n)*write {instead}"):
        config_flags(name)


def test_an_unknown_name():
    with pytest.raises(TrainingError, match=r"'fsdp' is neither a file .* did you mean 'fsdp2'"):
        config_file("fsdp")


def test_a_file_that_accelerate_cannot_read_is_refused(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("distributed_type: 'NO'\nuse_cpu: true\nnum_proceses: 2\n")
    with pytest.raises(TrainingError, match=r"cannot use '.*own\.yaml'(.|\n)*num_proceses"):
        check_config(str(own))
    own.write_text("distributed_type: 'NO'\nuse_cpu: true\n")
    assert check_config(str(own)) == own


@pytest.mark.processes
def test_accelerate_launch_takes_the_cpu_config_as_it_is(tmp_path):
    script = tmp_path / "who.py"
    script.write_text("import os; print(os.environ['ACCELERATE_USE_CPU'], os.environ.get('WORLD_SIZE'))")
    command = [sys.executable, "-m", "accelerate.commands.launch", *config_flags("cpu"), str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "None"]


def test_the_files_are_a_part_of_the_package():
    package = Path(sys.modules["regmix_hf"].__file__).parent
    assert package in FOLDER.parents
