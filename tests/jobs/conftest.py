"""Small real work for pools, and ways to run and to watch them."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from regmix_hf.jobs.devices import Slot
from regmix_hf.jobs.pool import Pool
from regmix_hf.progress import Silent

WORK = Path(__file__).parent / "work"


@pytest.fixture
def counting(monkeypatch):
    """The module `counting`, which workers can import too."""
    monkeypatch.syspath_prepend(str(WORK))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(WORK), os.environ.get("PYTHONPATH")])))
    return importlib.import_module("counting")


@pytest.fixture
def pool(counting, tmp_path):
    """Run specs of `counting` in a pool; return how many ended how."""

    def run(specs, *, workers=1, work=None, progress=None, slots=None):
        place = Pool(slots or [Slot()] * workers, tmp_path / "logs")
        return place.run(
            counting.tasks_of(tmp_path, specs), work or counting.Counting(), progress or Silent()
        )

    return run


@pytest.fixture
def outcome(tmp_path):
    """Read what became of task `k`: its result, and the workers that began it."""

    def read(k):
        folder = tmp_path / f"t{k}"
        result = json.loads((folder / "result.json").read_text())
        begun = (folder / "begun").read_text().split() if (folder / "begun").exists() else []
        return result, begun

    return read


@pytest.fixture
def pool_process(tmp_path, spawn):
    """Start a pool in a process, and in a process group, of its own; end them all afterwards."""

    def start(specs, *, workers=2):
        path = os.pathsep.join(filter(None, [str(WORK), os.environ.get("PYTHONPATH")]))
        command = [sys.executable, str(WORK / "count.py"), str(tmp_path), str(workers), *specs]
        return spawn(command, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.PIPE)

    return start
