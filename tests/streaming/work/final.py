"""Final runs straight from the text, in a process of their own or on one of several ranks.

Run as `final.py CORPUS RUNS`, or by `runpy` with these two as globals. `RUNS` is a list in JSON of
`[spec, folder]`. With `KILLED`, `[step, wait_s]`, the process is killed so long after that step's checkpoint:
from outside a slow test could come too late.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import torch

from regmix_hf.corpus import lines, live_blocks, patient_file
from regmix_hf.corpus.corpus import Corpus
from regmix_hf.training.checkpoints import WholeCheckpoints
from regmix_hf.training.run import train_final
from regmix_hf.training.spec import RunSpec

if __name__ == "__main__":
    CORPUS, RUNS = sys.argv[1:]
KILLED: tuple[int, float] = globals().get("KILLED", (-1, 0.0))


def mark_and_die(self: WholeCheckpoints, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
    mark(self, args, state, control, **kwargs)
    step, wait_s = KILLED
    if state.global_step == step:
        die = threading.Timer(wait_s, os.kill, (os.getpid(), signal.SIGKILL))
        die.start()
        if not wait_s:
            die.join()


mark = WholeCheckpoints.on_save
WholeCheckpoints.on_save = mark_and_die  # type: ignore[method-assign]
live_blocks.WINDOW_BLOCKS = 8
lines.ROWS = 16
patient_file.WAIT_UNIT_S = 0.001
for spec, folder in json.loads(RUNS):
    train_final(RunSpec(**spec), Corpus(Path(CORPUS)), Path(folder))
if torch.distributed.is_initialized():  # its threads would abort a process that exits before them
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
