"""How final runs are launched: how many side by side, with which flags, and what is said when one fails."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from regmix_hf.errors import TrainingError
from regmix_hf.files import write_json
from regmix_hf.jobs import launch as launches
from regmix_hf.jobs.launch import AccelerateLaunch, Launch, layouts, watch
from regmix_hf.jobs.tasks import Task
from regmix_hf.progress import Silent
from regmix_hf.recipe import Train
from tests.architecture import PACKAGE

pytestmark = pytest.mark.cold_processes


def train(**keys):
    return Train.model_validate({"model": {"preset": "tiny"}, "num_train_tokens": 1024, **keys})


@pytest.fixture
def tasks(tmp_path):
    return [Task("chosen", tmp_path / "chosen", 100, None, {"run_id": "abc"})]


@pytest.fixture
def scripted(tmp_path):
    """A launch whose ranks run a line of Python instead of a module."""

    class Scripted(Launch):
        @property
        def command(self):
            return [sys.executable, "-c", *self.arguments]

    def make(code, number=0):
        return Scripted((), "unused", (code,), {}, tmp_path / f"{number}.log")

    return make


def test_on_a_cpu_single_threaded_processes_share_the_runs(monkeypatch):
    monkeypatch.setattr(launches, "cuda_devices", lambda: [])
    monkeypatch.setattr(launches, "num_cores", lambda: 4)
    assert len(layouts(train(), num_runs=6)) == 4
    assert len(layouts(train(), num_runs=3)) == 3
    ((flags, environment), _) = layouts(train(num_workers=2), num_runs=6)
    assert flags[:3] == ("--cpu", "--num_processes", "1")
    assert (environment["OMP_NUM_THREADS"], environment["CUDA_VISIBLE_DEVICES"]) == ("1", "")


def test_on_gpus_one_launch_takes_all_or_several_share_them_out(monkeypatch):
    monkeypatch.setattr(launches, "cuda_devices", lambda: ["0", "1", "2"])

    def shares(num_workers):
        return [
            (flags[flags.index("--num_processes") + 1], environment["CUDA_VISIBLE_DEVICES"])
            for flags, environment in layouts(train(num_workers=num_workers), num_runs=9)
        ]

    assert [flags for flags, _ in layouts(train(), num_runs=9)] == [()]
    assert shares(2) == [("2", "0,2"), ("1", "1")]
    assert shares(8) == [("1", "0"), ("1", "1"), ("1", "2")]


def test_an_accelerate_config_decides_alone_and_must_be_there(tmp_path):
    file = tmp_path / "two.yaml"
    with pytest.raises(TrainingError, match=r"no file '.*two\.yaml'(.|\n)*cpu, fsdp2, multi_gpu, single_gpu"):
        layouts(train(accelerate_config=str(file)), num_runs=2)
    file.touch()
    ((flags, _),) = layouts(train(accelerate_config=str(file)), num_runs=2)
    assert flags == ("--config_file", str(file))


def test_a_failed_launch_is_told_with_its_own_message_and_the_name_of_its_log(tasks, scripted, tmp_path):
    code = (
        "import sys; print('warning: x'); print('regmix: no such model\\n  write tiny\\nnoise'); sys.exit(2)"
    )
    with pytest.raises(TrainingError) as caught:
        watch([scripted(code)], tasks, start=AccelerateLaunch.start, progress=Silent())
    assert caught.value.message == "a final run stopped with exit code 2: no such model\n  write tiny"
    assert caught.value.hint == f"all of it is in {tmp_path / '0.log'}"


def test_a_crash_is_told_with_the_last_lines_of_its_log(tasks, scripted):
    code = "import os; print(*range(40), sep='\\n', flush=True); os.kill(os.getpid(), 9)"
    with pytest.raises(TrainingError, match="SIGKILL, most likely because memory ran out") as caught:
        watch([scripted(code)], tasks, start=AccelerateLaunch.start, progress=Silent())
    assert "    39" in caught.value.message
    assert "    24" not in caught.value.message


def test_a_launch_that_failed_does_not_matter_when_another_did_its_runs(tasks, scripted, tmp_path, recorder):
    write_json(tmp_path / "made.json", {"run_id": "abc", "status": "ok"})
    (tmp_path / "chosen").mkdir()
    code = f"import os, time; time.sleep(0.5); os.rename({str(tmp_path / 'made.json')!r}, "
    code += f"{str(tmp_path / 'chosen' / 'result.json')!r})"
    pair = [scripted("raise SystemExit(1)"), scripted(code, 1)]
    watch(pair, tasks, start=AccelerateLaunch.start, progress=recorder)
    assert recorder.updates[-1] == (100, "done: chosen")


def test_whatever_ends_the_watch_ends_the_launches(tasks, scripted, within, gone, recorder, monkeypatch):
    before, children = set(psutil.Process().children()), set()  # other tests may have left helpers

    def stop(done, *, detail=""):
        children.update(set(psutil.Process().children()) - before)
        raise KeyboardInterrupt

    monkeypatch.setattr(recorder, "update", stop)
    code = "import sys; sys.stdin.read()"  # as ranks do: they end with their standard input
    with pytest.raises(KeyboardInterrupt):
        watch([scripted(code)] * 2, tasks, start=AccelerateLaunch.start, progress=recorder)
    assert len(children) == 2
    within(lambda: gone(children))


LAUNCHER = "import subprocess, sys; subprocess.run([sys.executable, sys.argv[1]])"


def test_no_rank_outlives_a_launcher_that_is_killed(within, gone):
    rank = Path(__file__).parent / "work" / "rank.py"
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(rank)],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with launcher:
        assert launcher.stdout.readline() == "watching\n"
        ranks = psutil.Process(launcher.pid).children()
        launcher.kill()
        within(lambda: gone(ranks))
