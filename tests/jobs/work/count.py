"""`python count.py ROOT WORKERS SPEC...`: tasks of `counting` in a pool in a process of its own."""

import signal
import sys
from pathlib import Path

import counting

from regmix_hf.jobs.devices import Slot
from regmix_hf.jobs.pool import Pool
from regmix_hf.progress import Silent

# A shell starts what it puts into the background with SIGINT ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
root, workers, *specs = sys.argv[1:]
place = Pool([Slot()] * int(workers), Path(root) / "logs")
counts = place.run(counting.tasks_of(root, specs), counting.Counting(), Silent())
print(dict(counts))
