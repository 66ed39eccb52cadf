"""A real Slurm on this machine: an array of workers, one cancelled, one requeued, and the same tables."""

import os
import shutil
import signal
import socket
import subprocess
import time

import pytest
from pandas.testing import assert_frame_equal

from regmix_hf import pipeline, placement
from regmix_hf.errors import RecipeError, TrainingError
from regmix_hf.jobs.slurm import Queue
from regmix_hf.recipe import load_recipe
from regmix_hf.stages import evaluate, proxies, train
from regmix_hf.study import State
from tests.asked import open_door

from .conftest import SMALL

DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch")
needs_slurm = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, DAEMONS)),
    reason="no Slurm to start here: apt-get install slurm-wlm munge, and be root",
)
#: Seconds until a requeued task begins again; so long is what Slurm lets a task do valid.
REQUEUE_S = 5

CONFIG = """
ClusterName=tests
SlurmctldHost={host}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire={expire}
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


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A Slurm of one node with three places, while these tests last."""
    folder, host = tmp_path_factory.mktemp("slurm"), socket.gethostname()
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    (folder / "slurm.conf").write_text(
        CONFIG.format(folder=folder, host=host, ports=free_ports(2), expire=REQUEUE_S)
    )
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    files = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    munged = [f"--{option}={folder}/munge.{end}" for option, end in files.items()]
    commands = [
        ["munged", "--foreground", "--force", *munged],
        ["slurmctld", "-D"],
        ["slurmd", "-D", "-N", host],
    ]
    started = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        try:
            for command in commands:
                with (folder / f"{command[0]}.out").open("w") as out:
                    started.append(subprocess.Popen(command, stdout=out, stderr=out))
                if command[0] == "munged":
                    wait_for((folder / "munge.socket").exists)
            wait_for(lambda: "idle" in said("sinfo", "--noheader", "--format=%T"))
            yield
        finally:
            for process in reversed(started):
                process.terminate()
                process.wait()


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "Slurm does not start"
        time.sleep(0.05)


@pytest.fixture
def tasks_of_slurm(tmp_path, monkeypatch):
    """Have the array's tasks ask this process for theirs; return these by their number and earlier starts."""
    command = placement.worker_command
    with open_door(tmp_path / "door") as door:
        monkeypatch.setattr(placement, "worker_command", lambda *words: [*door.command, *command(*words)[1:]])
        yield lambda: {
            (variables["SLURM_ARRAY_TASK_ID"], variables.get("SLURM_RESTART_COUNT", "0")): process
            for variables, process in door.started
        }


def said(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@needs_slurm
@pytest.mark.processes
def test_an_array_of_which_one_is_cancelled_and_one_requeued_ends_with_the_same_tables(
    new_study, alone, tables, slurm, tasks_of_slurm, within, recorder
):
    study = new_study(*SMALL, "executor.place=slurm", "executor.num_workers=3")
    pipeline.run_stage(study, "proxies", recorder)
    queue = Queue.read(study.proxies)
    assert f"submitted job {queue.job}, 3 workers" in recorder.notes[-1]
    assert len(queue.rows) == 3
    begun = lambda: len(list(study.proxies.glob("*/.tokens")))  # noqa: E731
    ended = lambda: len(list(study.proxies.glob("*/result.json")))  # noqa: E731
    within(lambda: len(tasks_of_slurm()) == 3 and begun() >= 3, seconds=120)
    begun_first = tasks_of_slurm()
    for task in begun_first.values():  # so that something is left for the third when it comes again
        os.killpg(task.pid, signal.SIGSTOP)
    said("scancel", f"{queue.job}_2")
    said("scontrol", "requeue", f"{queue.job}_3")
    within(lambda: ("3", "1") in tasks_of_slurm(), seconds=120)
    before = ended()
    assert before < 18
    within(lambda: ended() > before, seconds=120)
    os.killpg(begun_first["1", "0"].pid, signal.SIGCONT)
    within(lambda: not Queue.read(study.proxies).rows, seconds=120)
    assert set(tasks_of_slurm()) == {("1", "0"), ("2", "0"), ("3", "0"), ("3", "1")}
    assert study.state(proxies.STAGE) is State.DONE
    for mine, its in zip(tables(study.proxies), tables(alone.proxies), strict=True):
        assert_frame_equal(mine, its)


@needs_slurm
@pytest.mark.processes
def test_final_models_are_trained_and_evaluated_by_tasks_that_share_them_out(
    new_study, slurm, tasks_of_slurm, within, recorder
):
    models = ("train.mixtures=[prior, sums_first]", "train.num_train_tokens=1600", "train.num_workers=1")
    study = new_study(*models, "executor.place=slurm", "executor.num_workers=2", "evaluation.tasks=[]")
    for stage in (train.STAGE, evaluate.STAGE):
        pipeline.run_stage(study, stage.verb, recorder)
        folder = study.root / stage.folder
        within(lambda folder=folder: not Queue.read(folder).rows, seconds=120)
        logs = "".join(log.read_text() for log in folder.glob("slurm-*.log"))
        assert study.state(stage) is State.DONE, logs
        assert len(tasks_of_slurm()) == 2


def test_the_script_says_what_the_recipe_says_and_can_be_read(new_study):
    options = (
        "executor.slurm.options={partition: gpu, time: '12:00:00', exclusive: true, exclude: false, "
        "comment: two words}"
    )
    setup = "executor.slurm.setup=[module load cuda]"
    study = new_study(
        "executor.place=slurm", "executor.num_workers=16", "proxy.num_workers=null", options, setup
    )
    lines = placement.array_job(study, pipeline.stage_of("proxies")).script.splitlines()
    assert lines[0] == "#!/bin/bash"
    for line in (
        "job-name=tiny-proxies",
        "array=1-16",
        "partition=gpu",
        "time=12:00:00",
        "exclusive",
        'comment="two words"',
        "requeue",
    ):
        assert f"#SBATCH --{line}" in lines
    assert not any("exclude" in line for line in lines)
    assert lines[-2] == "module load cuda"
    assert lines[-1].endswith(
        f"-m regmix_hf proxies {study.proxies / '.recipe.yaml'} "
        + "proxy.num_workers=${SLURM_CPUS_PER_TASK:-1}"
    )


def test_final_runs_and_evaluations_are_submitted_as_no_more_workers_than_there_are_models(new_study):
    study = new_study("executor.place=slurm", "executor.num_workers=16", "train.num_workers=null")
    for verb, ending in (("train", "train.num_workers=${SLURM_CPUS_PER_TASK:-1}"), ("evaluate", "")):
        lines = placement.array_job(study, pipeline.stage_of(verb)).script.splitlines()
        assert "#SBATCH --array=1-3" in lines
        folder = study.root / pipeline.stage_of(verb).folder
        assert lines[-1].endswith(f"-m regmix_hf {verb} {folder / '.recipe.yaml'} {ending}".rstrip())


@pytest.mark.parametrize(("verb", "place"), [("train", "ray"), ("train", "jobs"), ("evaluate", "jobs")])
def test_a_place_that_does_not_do_it_is_refused_with_the_command_that_does(verb, place):
    with pytest.raises(RecipeError, match=f"`{verb}` is not done on {place}: ") as caught:
        placement.check_place(verb, place)
    assert f"regmix {verb}" in caught.value.hint


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


def test_what_the_place_of_a_recipe_does_not_do_is_done_here_and_said(new_study, recorder, monkeypatch):
    monkeypatch.setattr(train, "run", lambda *_: None)
    pipeline._do_stage(new_study("executor.place=ray"), "train", recorder)
    assert "train: done on this machine; a final model is one launch of `accelerate`" in recorder.notes[1]


def test_a_study_whose_place_is_slurm_has_its_final_models_trained_there(new_study, told_slurm, recorder):
    study = new_study("executor.place=slurm", "executor.num_workers=2", "executor.wait=true")
    pipeline._do_stage(study, "train", recorder)
    assert "submitted job 1, 2 workers" in recorder.notes[-1]
    assert told_slurm[0].read_text() == f"{study.models / '.slurm.sh'}\n"
    assert pipeline.is_left_to_others(study, "train")
    assert load_recipe(study.models / ".recipe.yaml").executor.place == "local"


@pytest.mark.parametrize(
    ("ping", "says", "hint"),
    [
        (0, "Slurm does not take the job: no", "change executor.slurm"),
        (1, "Slurm does not answer: no", "ping"),
    ],
)
def test_options_are_at_fault_only_where_a_controller_answers(
    new_study, told_slurm, recorder, tmp_path, ping, says, hint
):
    for name, line in {"sbatch": "echo no >&2; exit 1", "scontrol": f"exit {ping}"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(TrainingError, match=says) as caught:
        pipeline.run_stage(new_study("executor.place=slurm"), "proxies", recorder)
    assert hint in caught.value.hint


def test_nothing_is_submitted_again_while_workers_are_in_the_queue(new_study, told_slurm, recorder):
    submitted, queue = told_slurm
    study = new_study("executor.place=slurm", "executor.num_workers=2")
    pipeline.run_stage(study, "proxies", recorder)
    assert "submitted job 1, 2 workers" in recorder.notes[-1]
    queue.write_text("1_1|RUNNING|node|0:09|None\n1_2|PENDING||0:00|Priority\n")
    pipeline.run_stage(study, "proxies", recorder)
    assert recorder.notes[-1] == "proxies: job 1 is at it, with 2 workers"
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
