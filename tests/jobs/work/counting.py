"""Small real work for the pool: each task's `spec` says what becomes of it. Workers import this by name."""

import errno
import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from regmix_hf.errors import TrainingError
from regmix_hf.files import write_json
from regmix_hf.jobs.tasks import Task
from regmix_hf.jobs.tokens import TokenCount

NUM_TOKENS = 100


@dataclass(frozen=True)
class Counting:
    refuses_to_open: bool = False

    def open(self):
        if self.refuses_to_open:
            print("there is no such module")
            os._exit(3)
        return do

    def status(self, task):
        file = task.folder / "result.json"
        return json.loads(file.read_text())["status"] if file.exists() else None

    def fail(self, task, reason):
        write_json(task.folder / "result.json", {"status": "failed", "reason": reason})


def do(task):
    with (task.folder / "begun").open("a") as file:
        file.write(f"{os.getpid()}\n")
    verb, _, argument = task.spec.partition(" ")
    if verb == "raise":
        raise ValueError(argument)
    if verb == "refuse":
        raise TrainingError(argument, "write something else")
    if verb == "full":
        raise RuntimeError("writer failed") from OSError(errno.ENOSPC, "No space left on device")
    if verb == "die" and len((task.folder / "begun").read_text().split()) <= int(argument):
        os.kill(os.getpid(), signal.SIGKILL)
    if verb == "sleep":
        count, start = TokenCount(task.folder), time.monotonic()
        while (passed := time.monotonic() - start) < float(argument):
            count(int(NUM_TOKENS * passed / float(argument)))
            time.sleep(0.02)
    if verb == "meet":  # go on once so many tasks are under way
        while len(list(task.folder.parent.glob("*/begun"))) < int(argument):
            time.sleep(0.01)
    seen = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "RANK")}
    write_json(task.folder / "result.json", {"status": "ok", "pid": os.getpid(), "seen": seen})


def tasks_of(root, specs):
    return [Task(f"t{k}", Path(root) / f"t{k}", NUM_TOKENS, spec) for k, spec in enumerate(specs)]
