"""A real Slurm on this machine: an array of workers, one cancelled, one requeued, and the same tables."""

import os
import shutil
import socket
import subprocess

import pytest
from pandas.testing import assert_frame_equal

from regmix_hf import pipeline
from regmix_hf.errors import TrainingError
from regmix_hf.jobs.slurm import Queue
from regmix_hf.progress import Silent
from regmix_hf.stages import proxies
from regmix_hf.study import State

DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch")
needs_slurm = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, DAEMONS)),
    reason="no Slurm to start here: apt-get install slurm-wlm munge, and be root",
)
SMALL = ("proxy.num_seeds=3", "proxy.num_train_tokens=1600", "proxy.num_workers=1")

CONFIG = """
ClusterName=tests
SlurmctldHost={host}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
JobRequeue=1
SwitchType=switch/none
MpiDefault=none
NodeName={host} CPUs=3 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES State=UP MaxTime=INFINITE
"""


def free_ports(count):
    sockets = [socket.create_server(("", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture
def slurm(tmp_path, monkeypatch, within):
    """A Slurm of one node with three places, while the test lasts."""
    folder, host = tmp_path / "slurm", socket.gethostname()
    (folder / "state").mkdir(parents=True)
    (folder / "spool").mkdir()
    (folder / "slurm.conf").write_text(CONFIG.format(folder=folder, host=host, ports=free_ports(2)))
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    files = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    munged = [f"--{option}={folder}/munge.{end}" for option, end in files.items()]
    commands = [
        ["munged", "--foreground", "--force", *munged],
        ["slurmctld", "-D"],
        ["slurmd", "-D", "-N", host],
    ]
    started = []
    try:
        for command in commands:
            with (folder / f"{command[0]}.out").open("w") as out:
                started.append(subprocess.Popen(command, stdout=out, stderr=out))
            if command[0] == "munged":
                within((folder / "munge.socket").exists)
        within(lambda: "idle" in said("sinfo", "--noheader", "--format=%T"), seconds=60)
        yield
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()


def said(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@needs_slurm
@pytest.mark.processes
def test_an_array_of_which_one_is_cancelled_and_one_requeued_ends_with_the_same_tables(
    new_study, tables, slurm, within, recorder
):
    alone = new_study(*SMALL)
    proxies.run(alone, Silent())
    study = new_study(*SMALL, "executor.place=slurm", "executor.num_workers=3")
    pipeline.run_stage(study, "proxies", recorder)
    queue = Queue.read(study.proxies)
    assert f"submitted job {queue.job}, 3 workers" in recorder.notes[-1]
    assert len(queue.rows) == 3
    begun = lambda: len(list(study.proxies.glob("*/.tokens")))  # noqa: E731
    within(lambda: begun() >= 3, seconds=120)
    said("scancel", f"{queue.job}_2")
    said("scontrol", "requeue", f"{queue.job}_3")
    within(lambda: [row["job"] for row in Queue.read(study.proxies).rows] == [f"{queue.job}_3"], seconds=120)
    (again,) = Queue.read(study.proxies).rows
    assert again["state"] in ("PENDING", "COMPLETING")
    assert study.state(proxies.STAGE) is State.DONE
    for mine, its in zip(tables(study.proxies), tables(alone.proxies), strict=True):
        assert_frame_equal(mine, its)


def test_the_script_says_what_the_recipe_says_and_can_be_read(new_study):
    options = "executor.slurm.options={partition: gpu, time: '12:00:00', exclusive: true}"
    setup = "executor.slurm.setup=[module load cuda]"
    study = new_study(
        "executor.place=slurm", "executor.num_workers=16", "proxy.num_workers=null", options, setup
    )
    lines = pipeline.array_job(study, "proxies").script.splitlines()
    assert lines[0] == "#!/bin/bash"
    for line in (
        "job-name=tiny-proxies",
        "array=1-16",
        "partition=gpu",
        "time=12:00:00",
        "exclusive",
        "requeue",
    ):
        assert f"#SBATCH --{line}" in lines
    assert lines[-2] == "module load cuda"
    assert lines[-1].endswith(
        f"-m regmix_hf proxies {study.proxies / '.recipe.yaml'} "
        + "proxy.num_workers=${SLURM_CPUS_PER_TASK:-1}"
    )


@pytest.fixture
def told_slurm(tmp_path, monkeypatch):
    """Commands in the place of Slurm's: what was submitted, and a file that says what is in the queue."""
    submitted, queue = tmp_path / "submitted", tmp_path / "queue"
    answers = (
        f"cat {queue} 2> /dev/null && exit; echo slurm_load_jobs error: $(cat {queue}.error) >&2; exit 1"
    )
    says = {"sbatch": f"echo $2 >> {submitted}; wc -l < {submitted}", "squeue": answers}
    for name, line in says.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return submitted, queue


def test_nothing_is_submitted_again_while_workers_are_in_the_queue(new_study, told_slurm, recorder):
    submitted, queue = told_slurm
    study = new_study("executor.place=slurm", "executor.num_workers=2")
    pipeline.run_stage(study, "proxies", recorder)
    assert "submitted job 1, 2 workers" in recorder.notes[-1]
    queue.write_text("1_1|RUNNING|node|0:09|None\n1_2|PENDING||0:00|Priority\n")
    pipeline.run_stage(study, "proxies", recorder)
    assert recorder.notes[-1] == "proxies: 2 workers of job 1 are at it"
    queue.unlink()
    unknown = queue.with_suffix(".error")
    unknown.write_text("Unable to contact slurm controller (connect failure)")
    with pytest.raises(TrainingError, match=r"does not say how far job 1 is: .*Unable to contact") as caught:
        pipeline.run_stage(study, "proxies", recorder)
    assert "its workers may be at it" in caught.value.hint
    unknown.write_text("Invalid job id specified")
    pipeline.run_stage(study, "proxies", recorder)
    assert "submitted job 2, 2 workers" in recorder.notes[-1]
    assert submitted.read_text().splitlines() == [str(study.proxies / ".slurm.sh")] * 2
