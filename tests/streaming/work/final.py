"""Final runs straight from the text, in a process of their own or on one of several ranks.

Run as `final.py CORPUS RUNS`, or by `runpy` with these two as globals. `RUNS` is a list in JSON of
`[spec, folder]`.
"""

import json
import sys
from pathlib import Path

import torch

from regmix_hf.corpus import lines, live_blocks, patient_file
from regmix_hf.corpus.corpus import Corpus
from regmix_hf.training.run import train_final
from regmix_hf.training.spec import RunSpec

if __name__ == "__main__":
    CORPUS, RUNS = sys.argv[1:]

live_blocks.WINDOW_BLOCKS = 8
lines.ROWS = 16
patient_file.WAIT_UNIT_S = 0.001
for spec, folder in json.loads(RUNS):
    train_final(RunSpec(**spec), Corpus(Path(CORPUS)), Path(folder))
if torch.distributed.is_initialized():  # its threads would abort a process that exits before them
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
