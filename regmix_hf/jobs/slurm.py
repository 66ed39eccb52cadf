"""A Slurm cluster as a place for workers: an array of independent ones that share the study's folder."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from regmix_hf.errors import TrainingError
from regmix_hf.files import read_record, write_json, write_text
from regmix_hf.jobs.pool import ended
from regmix_hf.recipe import Executor

_SCRIPT, _SUBMITTED = ".slurm.sh", ".slurm.json"
#: What `squeue` tells of every task: its id, state, nodes, time used, reason.
_COLUMNS = {"job": "%i", "state": "%T", "nodes": "%N", "time": "%M", "reason": "%r"}
#: What `squeue` says of a job that ended some minutes ago.
_FORGOTTEN = "Invalid job id specified"


@dataclass(frozen=True)
class ArrayJob:
    """An array of workers, all with the same command.

    Attributes:
        name: Of the job.
        folder: Of the stage: for the script and the logs.
        command: Of every worker.
        executor: The recipe's section.
        cores_key: Of the recipe, set to the number of a task's cores; `None` where runs take GPUs.
    """

    name: str
    folder: Path
    command: Sequence[str]
    executor: Executor
    cores_key: str | None

    @property
    def script(self) -> str:
        """The job script, for people to read as well."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        slurm = self.executor.slurm
        options = {
            "job-name": self.name,
            "array": f"1-{self.executor.num_workers}",
            "output": str(self.folder.resolve() / "slurm-%A_%a.log"),
            "chdir": str(Path.cwd()),
            **slurm.options,
        }
        yield "#!/bin/bash"
        for key, value in options.items():
            if value is not False:
                yield f"#SBATCH --{key}" if value is True else f"#SBATCH --{key}={_quoted(str(value))}"
        yield "#SBATCH --requeue"
        yield "#SBATCH --open-mode=append"
        yield "# Every task of the array takes the next free run from the study's folder until none is left."
        yield "# A task that is preempted is queued again; its run is done by whoever finds it first."
        yield from slurm.setup
        cores = [f"{self.cores_key}=${{SLURM_CPUS_PER_TASK:-1}}"] if self.cores_key else []
        yield " ".join(["exec", *map(shlex.quote, self.command), *cores])

    def submit(self) -> str:
        """Submit the array; return the job's id.

        Raises:
            TrainingError: There is no Slurm here, or it does not take the job.
        """
        if shutil.which("sbatch") is None:
            raise TrainingError(
                "there is no `sbatch` here, so nothing can be submitted to Slurm.",
                "run this on a login node, or take the script elsewhere: --print shows it",
            )
        script = self.folder / _SCRIPT
        write_text(script, self.script)
        said = subprocess.run(["sbatch", "--parsable", script], capture_output=True, text=True, check=False)
        if said.returncode:
            message = said.stderr.strip() or ended(said.returncode)
            if not _answers():
                raise TrainingError(
                    f"Slurm does not answer: {message}",
                    "run the same command again when `scontrol ping` answers",
                )
            raise TrainingError(f"Slurm does not take the job: {message}", "change executor.slurm.options")
        job = said.stdout.strip().split(";")[0]
        write_json(self.folder / _SUBMITTED, {"job": job})
        return job


@dataclass(frozen=True)
class Queue:
    """What Slurm knows of a stage's array.

    Attributes:
        job: Its id.
        rows: One per task that has not ended, by `_COLUMNS`.
    """

    job: str
    rows: list[dict[str, str]]

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Ask `squeue`; `None` where nothing was submitted from `folder`, or there is no Slurm here.

        Raises:
            TrainingError: Slurm does not answer, so nobody knows whether workers are at it.
        """
        file = folder / _SUBMITTED
        if not file.exists() or shutil.which("squeue") is None:
            return None
        job = read_record(file, job=str)["job"]
        if not re.fullmatch(r"\d+", job):
            return None
        asked = ["squeue", "--noheader", "--array", "--jobs", job, "--format", "|".join(_COLUMNS.values())]
        said = subprocess.run(asked, capture_output=True, text=True, check=False)
        if said.returncode and _FORGOTTEN not in said.stderr:
            raise TrainingError(
                f"Slurm does not say how far job {job} is: {said.stderr.strip() or ended(said.returncode)}",
                "its workers may be at it; try again when `squeue` answers",
            )
        lines = [] if said.returncode else said.stdout.splitlines()
        return cls(job, [dict(zip(_COLUMNS, line.split("|"), strict=True)) for line in lines])


def _answers() -> bool:
    """Whether a controller of this Slurm answers, as far as one can ask."""
    if shutil.which("scontrol") is None:
        return True
    return subprocess.run(["scontrol", "ping"], capture_output=True, check=False).returncode == 0


def _quoted(value: str) -> str:
    """A value as `sbatch` reads it in a script: in quotes where it would end at a space."""
    return f'"{value}"' if re.search(r"\s", value) else value


def worker_command(verb: str, recipe: Path) -> list[str]:
    """The command of a worker on another machine that shares the study's folder."""
    return [sys.executable, "-m", "regmix_hf", verb, str(recipe.resolve())]
