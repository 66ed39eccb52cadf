"""Small real work for the pool: each task's `spec` says what becomes of it. Workers import this by name."""

import errno
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from regmix_hf.errors import TrainingError
from regmix_hf.files import write_json
from regmix_hf.jobs.tasks import OutOfMemoryError, Task

NUM_TOKENS = 100
#: Filled once this process is no good any more.
STICKY = []


@dataclass(frozen=True)
class Counting:
    refuses_to_open: bool = False

    def open(self):
        if self.refuses_to_open:
            print("there is no such module", flush=True)
            os._exit(3)
        return do

    def smaller(self, spec):
        verb, _, size = spec.partition(" ")
        return f"{verb} {int(size) // 2}" if int(size) > 1 else None


class Whole(Counting):
    def smaller(self, spec):
        return None


def do(spec, room, on_tokens):
    folder = room.parent  # the task's
    with (folder / "begun").open("a") as file:
        file.write(f"{os.getpid()}\n")
    verb, _, argument = spec.partition(" ")
    begun = len((folder / "begun").read_text().split())
    if verb == "raise":
        print("on the way")
        raise ValueError(argument)
    if verb == "stick" and begun == 1:
        STICKY.append(argument)
    if STICKY:  # as after an illegal memory access: whatever follows in the same process fails, too
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    if verb == "fill" and int(argument) > 2:
        raise OutOfMemoryError(f"tried to allocate {argument} GiB")
    if verb == "refuse":
        raise TrainingError(argument, "write something else")
    if verb == "full":
        raise RuntimeError("writer failed") from OSError(errno.ENOSPC, "No space left on device")
    if verb == "die" and begun <= int(argument):
        os.kill(os.getpid(), signal.SIGKILL)
    if verb == "stay":  # half done, until there is such a file
        while not (folder.parent / argument).exists():
            on_tokens(NUM_TOKENS // 2)
            time.sleep(0.02)
    if verb == "meet":  # go on once so many tasks are under way
        while len(list(folder.parent.glob("*/begun"))) < int(argument):
            time.sleep(0.01)
    seen = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "RANK")}
    write_json(
        room / "result.json",
        {"run_id": folder.name, "status": "ok", "pid": os.getpid(), "seen": seen, "spec": spec},
    )


def tasks_of(root, specs):
    return [
        Task(f"t{k}", Path(root) / f"t{k}", NUM_TOKENS, spec, {"run_id": f"t{k}"})
        for k, spec in enumerate(specs)
    ]
