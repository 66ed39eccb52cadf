"""Workers that share no folder meet in the repository of runs: each run is trained once, wherever."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from regmix_hf import pipeline
from regmix_hf.jobs.proxies import ProxyWork
from regmix_hf.jobs.results import status_of
from regmix_hf.jobs.tasks import Task, in_shard
from regmix_hf.progress import Progress, Silent
from regmix_hf.sharing import push_study
from regmix_hf.stages import proxies
from regmix_hf.study import Study

from .finished import end_run, sample_short

pytestmark = pytest.mark.processes

RUNS = "me/small-runs"
NUM_RUNS = 24


@pytest.fixture
def sampled(tmp_path: Path, write_corpus) -> Study:
    """A study of 24 short runs on random blocks that publishes two by two."""
    return sample_short(
        tmp_path,
        write_corpus,
        sampling={"num_mixtures": 20, "num_holdout": 4},
        proxy={"num_workers": 1},
        hub={"push_to_hub": True, "push_every": 2},
    )


def published(standin) -> list[str]:
    if RUNS not in standin.store.repos or "results.parquet" not in standin.repo(RUNS).head.files:
        return []
    return list(standin.table(RUNS)["run_id"])


def trained(folder: Path) -> int:
    """Runs that were begun in a folder, not fetched into it."""
    return len(list((folder / "3-proxies").glob("*/.tokens")))


class AtOnce:
    """A place where runs end at once, and are counted."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    def staying(self) -> AtOnce:
        return self

    def run(self, tasks: Sequence[Task], work: ProxyWork, progress: Progress) -> Counter[str]:
        for task in tasks:
            if status_of(task) is None:
                end_run(task)
                self.begun.append(task.name)
        return Counter(ok=len(tasks))


def test_a_shard_that_begins_again_in_an_empty_folder_fetches_what_it_had_published(
    sampled, hub, standin, tmp_path, recorder
):
    executor = sampled.recipe.executor.model_copy(update={"shard": "3/3"})
    folder, stages = tmp_path / "folder", [pipeline.stage_of(verb) for verb in pipeline.VERBS]
    study = Study(sampled.recipe.model_copy(update={"output_dir": folder, "executor": executor}))
    shutil.copytree(sampled.root, folder)
    own = in_shard(proxies.tasks_of(study), 3, 3)
    assert len(own) > 4
    for task in own[:2]:
        end_run(task)
    push_study(study, stages, only=("runs",), tag=False, progress=Silent())
    end_run(own[2])  # not published when it was killed
    shutil.rmtree(folder)
    shutil.copytree(sampled.root, folder)
    place = AtOnce()
    with pipeline.publishing(study, "proxies", recorder):
        proxies.run(study, recorder, place)
    assert "fetched 2 runs published before" in recorder.notes
    assert place.begun == [task.name for task in own[2:]]
    assert sorted(published(standin)) == sorted(task.name for task in own)


def test_three_folders_that_share_nothing_train_every_run_once(
    sampled, environment, standin, tmp_path, within, request
):
    tasks = proxies.tasks_of(sampled)
    shards = [in_shard(tasks, k, 3) for k in (1, 2, 3)]
    assert sorted(task.name for shard in shards for task in shard) == sorted(task.name for task in tasks)
    assert all(shards)

    def start(folder: Path, *options: str) -> subprocess.Popen[str]:
        if not folder.exists():
            shutil.copytree(sampled.root, folder)
        command = [
            "-m",
            "regmix_hf",
            "proxies",
            str(tmp_path / "recipe.json"),
            f"output_dir={folder}",
            *options,
        ]
        process = subprocess.Popen(
            [sys.executable, *command], env=environment, stderr=subprocess.PIPE, text=True
        )
        request.addfinalizer(process.stderr.close)
        request.addfinalizer(process.wait)
        request.addfinalizer(process.kill)
        return process

    def ended(process: subprocess.Popen[str]) -> str:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        return said

    folders = [tmp_path / f"folder-{k}" for k in (1, 2, 3)]
    processes = [start(folder, "--shard", f"{k}/3") for k, folder in enumerate(folders, 1)]
    within(lambda: trained(folders[2]) >= 3, seconds=120)
    processes[2].kill()
    processes[2].communicate()
    folders[2].rename(tmp_path / "lost")
    processes[2] = start(folders[2], "--shard", "3/3")
    said = [ended(process) for process in processes]
    # The third may find what the others had published by then.
    assert all("runs are left to others" in one for one in said[:2]), "each ends with its own share"

    ids = published(standin)
    assert sorted(ids) == sorted(task.name for task in tasks)
    assert [trained(folder) for folder in folders[:2]] == [len(shard) for shard in shards[:2]]
    in_hand = trained(tmp_path / "lost") + trained(folders[2]) - len(shards[2])
    assert in_hand <= trained(tmp_path / "lost"), "what was lost and not yet published, and no more"
    last = tmp_path / "folder-4"
    assert "fetched 24 runs" in ended(start(last))
    assert trained(last) == 0
    results = pd.read_parquet(last / "3-proxies" / "results.parquet")
    assert list(results["run_id"]) == [task.name for task in tasks]
