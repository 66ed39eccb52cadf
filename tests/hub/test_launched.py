"""Under `accelerate launch`, one rank at a time publishes the proxies that all of them have trained."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pandas as pd
import psutil
import pytest

from regmix_hf.jobs.claims import claim
from regmix_hf.stages import proxies
from regmix_hf.study import Study
from tests.preloaded import NAME

from .finished import sample_short
from .standin.faults import ALL

pytestmark = pytest.mark.processes

RUNS = "me/small-runs"
NUM_RUNS = 12


@pytest.fixture
def sampled(tmp_path: Path, write_corpus) -> Study:
    """A study of twelve short runs on random blocks that publishes two by two."""
    sampling, hub = {"num_mixtures": 10, "num_holdout": 2}, {"push_to_hub": True, "push_every": 2}
    return sample_short(tmp_path, write_corpus, sampling=sampling, hub=hub)


@pytest.fixture
def launch(sampled, environment, tmp_path) -> Callable[..., subprocess.Popen[str]]:
    """Start the proxies on two ranks."""

    def start(*overrides: str) -> subprocess.Popen[str]:
        flags = ["--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
        module = ["-m", "regmix_hf.proxies", str(tmp_path / "recipe.json"), *overrides]
        return subprocess.Popen(
            [sys.executable, "-m", "accelerate.commands.launch", *flags, *module],
            env={**environment, "GLOO_SOCKET_IFNAME": "lo"},
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def published(standin) -> list[str]:
    """Ids of the runs that are published now."""
    if RUNS not in standin.store.repos or "results.parquet" not in standin.repo(RUNS).head.files:
        return []
    content = standin.repo(RUNS).file("main", "results.parquet")
    return list(pd.read_parquet(io.BytesIO(content))["run_id"])


@pytest.mark.usefixtures("hub")
def test_a_killed_rank_loses_nothing_and_every_run_arrives_once(standin, sampled, launch, within):
    tasks = proxies.tasks_of(sampled)
    with ExitStack() as held:  # runs that nobody can finish before the kill: somebody else has them
        for task in tasks[4:]:
            assert held.enter_context(claim(task.folder))
        with launch("executor.wait=true") as first:
            within(lambda: len(published(standin)) >= 2 or first.poll() is not None, seconds=150)
            ranks = [child for child in psutil.Process(first.pid).children() if child.name() != NAME]
            assert len(ranks) == 2, first.stderr.read()
            os.kill(ranks[0].pid, signal.SIGKILL)
            said = first.communicate(timeout=60)[1]
            assert first.returncode != 0, said
    early = published(standin)
    assert 2 <= len(early) <= 4
    assert len(set(early)) == len(early)

    passing = [fault for fault in ALL if fault.status not in (401, 403, 404, 409, 412)]
    standin.faults.at_random(seed=5, rate=0.05, faults=passing)
    with launch() as second:
        said = second.communicate(timeout=150)[1]
        assert second.returncode == 0, said
    standin.faults.clear()

    local = pd.read_parquet(sampled.proxies / "results.parquet")
    assert sorted(published(standin)) == sorted(local["run_id"])
    assert len(set(local["run_id"])) == NUM_RUNS
    history = standin.repo(RUNS).history()
    assert len(history) <= 2 + NUM_RUNS // 2 + 2  # no rank repeats what another has done
    assert json.loads(standin.repo(RUNS).file("main", "stages.json")).keys() == {"sample", "proxies"}
    assert standin.repo(RUNS).tags == {}
    assert "published: dataset repository 'me/small-runs'" in said
