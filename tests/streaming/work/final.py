"""One final run straight from the text, in a process of its own or on one of several ranks.

Run as `final.py CORPUS SPEC FOLDER`, or by `runpy` with these three as globals.
"""

import json
import sys
from pathlib import Path

import torch

from regmix_hf.corpus import json_lines, live_blocks, patient_file
from regmix_hf.corpus.corpus import Corpus
from regmix_hf.training.run import train_final
from regmix_hf.training.spec import RunSpec

if __name__ == "__main__":
    CORPUS, SPEC, FOLDER = sys.argv[1:]

live_blocks.WINDOW_BLOCKS = 8
json_lines._ROWS = 16
patient_file.WAIT_UNIT_S = 0.001
train_final(RunSpec(**json.loads(SPEC)), Corpus(Path(CORPUS)), Path(FOLDER))
if torch.distributed.is_initialized():  # its threads would abort a process that exits before them
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
