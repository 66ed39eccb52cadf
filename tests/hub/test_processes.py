"""Many at once, and processes that are killed: every run arrives once, every version is whole."""

from __future__ import annotations

import copy
import json
import os
import queue
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from regmix_hf.jobs.results import collect
from regmix_hf.progress import Silent
from regmix_hf.recipe import load_recipe
from regmix_hf.stages import prepare, proxies, sample
from regmix_hf.study import Study

from .finished import end_run

pytestmark = pytest.mark.processes

#: Eight people with fifty runs each, in two commits each: as many as a shared swarm has at its liveliest.
NUM_PEOPLE, NUM_RUNS, NUM_BATCHES = 8, 50, 2
SHARED = "team/small-runs"

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def people(finished: Path, tmp_path: Path) -> list[Study]:
    """One study each, of one name and corpus, with fifty proxies of its own that have not ended yet."""
    studies = []
    for person in range(NUM_PEOPLE):
        folder, tree = tmp_path / f"person-{person}", json.loads(finished.read_text())
        tree |= {"seed": person, "output_dir": str(folder / "study"), "hub": {"namespace": "team"}}
        tree["sampling"] = {"num_mixtures": NUM_RUNS, "num_holdout": 0}
        folder.mkdir()
        (folder / "recipe.json").write_text(json.dumps(tree))
        studies.append(study := Study(load_recipe(folder / "recipe.json")))
        study.open()
        shutil.copytree(finished.parent / "study" / "1-corpus", study.corpus)
        study.finish(prepare.STAGE)
        sample.run(study, Silent())
        for task in proxies.tasks_of(study):
            end_run(task)
            (task.folder / "result.json").rename(task.folder / "later.json")
    return studies


def test_eight_people_push_fifty_runs_each_into_one_repository_under_random_faults(
    start: Start, standin, tokens, tmp_path, people
):
    standin.faults.at_random(seed=20250701, rate=0.04)
    recipes = [study.root.parent / "recipe.json" for study in people]
    pushing = start("push_runs.py", NUM_BATCHES, *recipes)
    outputs = pushing.communicate(timeout=280)
    standin.faults.clear()

    assert pushing.returncode == 0, outputs
    struck = {entry.fault.name for entry in standin.log if entry.fault}
    assert len(struck) >= 8
    own = [collect(proxies.tasks_of(study), study.root / "collected") for study in people]
    expected = pd.concat([results for results, _ in own]).sort_values("run_id", ignore_index=True)
    assert expected["run_id"].is_unique
    assert len(expected) == NUM_PEOPLE * NUM_RUNS
    losses = ["run_id", *expected.filter(like="loss/").columns]
    results = standin.table(SHARED)
    pd.testing.assert_frame_equal(results[losses], expected[losses])
    steps = pd.concat([points for _, points in own]).sort_values("run_id", kind="stable", ignore_index=True)
    pd.testing.assert_frame_equal(standin.table(SHARED, "trajectories.parquet"), steps)
    weights = standin.table(SHARED, "mixtures.parquet").set_index("mixture_id").filter(like="weight/")
    of_runs = results.set_index("mixture_id")[weights.columns]
    pd.testing.assert_frame_equal(weights.loc[of_runs.index], of_runs)
    _check_history(standin)
    assert not standin.leaks(tmp_path, tokens["writer"])
    assert not any(tokens["writer"] in text for text in outputs)


def _check_history(standin) -> None:
    """One line of commits without side branches, each with more runs than the one before."""
    repo = standin.repo(SHARED)
    history = repo.history()
    assert len(history) == len(repo.commits) == 1 + NUM_PEOPLE * NUM_BATCHES
    counts = [
        len(standin.table(repo.repo_id, "results.parquet", commit.oid)) for commit in reversed(history[:-1])
    ]
    assert counts == sorted(set(counts))
    assert counts[-1] == NUM_PEOPLE * NUM_RUNS


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
        undisturbed = standin.state()
        versions = [undisturbed[f"me/study-{part}"][1] for part in ("regressor", "runs")]
        assert versions == [{"v1": 2, "v2": 3}] * 2, "beside the commit that a repository begins with"

        for position, request in enumerate(requests):
            standin.store.repos = copy.deepcopy(first_version)
            strike(".", moment="after", skip=position, action=publisher.kill)
            assert publisher.publish(2) == -signal.SIGKILL
            _check_versions_are_whole(standin)
            assert publisher.publish(2) == 0
            assert standin.state() == undisturbed, f"killed after {request}"
        process.stdin.close()
        assert process.stderr.read() == ""
    assert not standin.leaks(tmp_path, tokens["writer"])


def _check_versions_are_whole(standin) -> None:
    """Whatever has a version on the runs has it on the regressor, too, and shows all of it."""
    regressor, runs = standin.repo("me/study-regressor"), standin.repo("me/study-runs")
    assert set(runs.tags) <= set(regressor.tags)
    for version, num_runs in (("v1", 2), ("v2", 3)):
        if version in regressor.tags:
            assert regressor.file(version, "w.safetensors") == f"fitted on {num_runs} runs".encode()
        if version in runs.tags:
            assert len(standin.table(runs.repo_id, "results.parquet", version)) == num_runs
            assert f"{num_runs} runs" in runs.file(version, "README.md").decode()


def test_offline_is_said_by_a_process_that_was_started_offline(start: Start, environment):
    environment["HF_HUB_OFFLINE"] = "1"
    _, error = start("publish_study.py").communicate("1\n", timeout=60)
    assert (
        "HubError: model repository 'me/study-regressor' cannot be reached: HF_HUB_OFFLINE is set." in error
    )
