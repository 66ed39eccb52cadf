"""Many at once, and processes that are killed: every run arrives once, every version is whole."""

from __future__ import annotations

import copy
import io
import os
import queue
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

pytestmark = pytest.mark.processes

PROGRAMS = Path(__file__).parent / "programs"
#: Eight people with fifty runs each, in four commits each: as many as a shared swarm has at its liveliest.
NUM_PEOPLE, NUM_RUNS, NUM_BATCHES = 8, 50, 4

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(environment: dict[str, str]) -> Start:
    """Start a program whose client talks to the stand-in."""

    def popen(program: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, str(PROGRAMS / program), *map(str, arguments)]
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return popen


def table(standin, repo_id: str, path: str, revision: str = "main") -> pd.DataFrame:
    return pd.read_parquet(io.BytesIO(standin.repo(repo_id).file(revision, path)))


def test_eight_people_push_fifty_runs_each_into_one_repository_under_random_faults(
    start: Start, standin, tokens, tmp_path
):
    standin.faults.at_random(seed=20250701, rate=0.04)
    people = [
        start("add_runs.py", "team/shared-runs", person, NUM_RUNS, NUM_BATCHES)
        for person in range(NUM_PEOPLE)
    ]
    outputs = [person.communicate(timeout=280) for person in people]
    standin.faults.clear()

    assert [person.returncode for person in people] == [0] * NUM_PEOPLE, outputs
    struck = {entry.fault.name for entry in standin.log if entry.fault}
    assert len(struck) >= 8
    expected = sorted(
        f"person{person}-run{run:03d}" for person in range(NUM_PEOPLE) for run in range(NUM_RUNS)
    )
    results = table(standin, "team/shared-runs", "results.parquet")
    assert results["run_id"].tolist() == expected
    assert results["loss/web"].tolist() == [int(run[6]) + int(run[-3:]) / 1000 for run in expected]
    trajectories = table(standin, "team/shared-runs", "trajectories.parquet")
    assert trajectories["run_id"].tolist() == [run for run in expected for _ in range(3)]
    assert trajectories["step"].tolist() == [0, 10, 20] * len(expected)
    _check_history(standin)
    assert not _leaks(standin, tmp_path, tokens["writer"])
    assert not any(tokens["writer"] in text for output in outputs for text in output)


def _check_history(standin) -> None:
    """One line of commits without side branches, each with more runs than the one before."""
    repo = standin.repo("team/shared-runs")
    history = repo.history()
    assert len(history) == len(repo.commits) == 1 + NUM_PEOPLE * NUM_BATCHES
    counts = [
        len(table(standin, repo.repo_id, "results.parquet", commit.oid)) for commit in reversed(history[:-1])
    ]
    assert counts == sorted(set(counts))
    assert counts[-1] == NUM_PEOPLE * NUM_RUNS


def _leaks(standin, folder: Path, token: str) -> list[object]:
    """Every file on disk and every request body and stored file of the stand-in that holds the token."""
    secret = token.encode()
    on_disk = [path for path in folder.rglob("*") if path.is_file() and secret in path.read_bytes()]
    sent = [entry.request for entry in standin.log if secret in entry.body or token in entry.request]
    stored = [
        (repo.repo_id, path)
        for repo in standin.store.repos.values()
        for commit in repo.commits.values()
        for path, blob in commit.files.items()
        if secret in blob.content or token in commit.title + commit.description
    ]
    return [*on_disk, *sent, *stored]


def _state(standin) -> list[object]:
    state: list[object] = []
    for repo_id in ("me/study-regressor", "me/study-runs"):
        repo = standin.repo(repo_id)
        numbers = {commit.oid: number for number, commit in enumerate(reversed(repo.history()))}
        state.append([(commit.title, dict(commit.files)) for commit in repo.history()])
        state.append({tag: numbers[oid] for tag, oid in repo.tags.items()})
    return state


class Publisher:
    """Publishes versions of a study, each in a process that can be killed."""

    def __init__(self, process: subprocess.Popen[str]):
        assert process.stdin is not None
        assert process.stdout is not None
        self._orders, self._answers = process.stdin, process.stdout
        self._running: queue.Queue[int] = queue.Queue()

    def publish(self, version: int) -> int:
        """Publish and return the exit code, negative for the signal that ended it."""
        print(version, file=self._orders, flush=True)
        self._running.put(int(self._answers.readline()))
        code = int(self._answers.readline())
        while not self._running.empty():
            self._running.get()
        return code

    def kill(self) -> None:
        """Kill the process that is publishing, from another thread."""
        os.kill(self._running.get(timeout=30), signal.SIGKILL)


def test_a_push_killed_after_any_request_and_repeated_ends_like_an_undisturbed_one(
    start: Start, standin, strike, tokens, tmp_path
):
    with start("publish_study.py") as process:
        publisher = Publisher(process)
        assert publisher.publish(1) == 0
        first_version = copy.deepcopy(standin.store.repos)
        standin.log.clear()
        assert publisher.publish(2) == 0
        requests = [entry.request for entry in standin.log]
        undisturbed = _state(standin)
        assert undisturbed[1] == undisturbed[3] == {"v1": 1, "v2": 2}

        for position, request in enumerate(requests):
            standin.store.repos = copy.deepcopy(first_version)
            strike(".", moment="after", skip=position, action=publisher.kill)
            assert publisher.publish(2) == -signal.SIGKILL
            _check_versions_are_whole(standin)
            assert publisher.publish(2) == 0
            assert _state(standin) == undisturbed, f"killed after {request}"
        process.stdin.close()
        assert process.stderr.read() == ""
    assert not _leaks(standin, tmp_path, tokens["writer"])


def _check_versions_are_whole(standin) -> None:
    """Whatever has a version on the runs has it on the regressor, too, and shows all of it."""
    regressor, runs = standin.repo("me/study-regressor"), standin.repo("me/study-runs")
    assert set(runs.tags) <= set(regressor.tags)
    for version, num_runs in (("v1", 2), ("v2", 3)):
        if version in regressor.tags:
            assert regressor.file(version, "w.safetensors") == f"fitted on {num_runs} runs".encode()
        if version in runs.tags:
            assert len(table(standin, runs.repo_id, "results.parquet", version)) == num_runs
            assert f"{num_runs} runs" in runs.file(version, "README.md").decode()


def test_offline_is_said_by_a_process_that_was_started_offline(start: Start, environment):
    environment["HF_HUB_OFFLINE"] = "1"
    _, error = start("publish_study.py").communicate("1\n", timeout=60)
    assert (
        "HubError: model repository 'me/study-regressor' cannot be reached: HF_HUB_OFFLINE is set." in error
    )
