"""The proxies of a launch in which some ranks, those in `LOST_RANKS`, have no worker that starts.

The others begin once these have ended, and left a file there: `LOST_RANKS_END`.
"""

import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

from regmix_hf.cli.app import run
from regmix_hf.jobs import pool
from regmix_hf.proxies import launched

END, train = Path(os.environ["LOST_RANKS_END"]), pool.Pool.run


def wait(self, *arguments):
    while not END.exists():
        time.sleep(0.01)
    return train(self, *arguments)


if is_lost := os.environ["RANK"] in os.environ["LOST_RANKS"].split():
    pool.sys = SimpleNamespace(executable=shutil.which("false"))
else:
    pool.Pool.run = wait
code = run(launched)
if is_lost:
    END.touch()
raise SystemExit(code)
