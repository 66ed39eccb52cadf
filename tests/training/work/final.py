"""One final run, in a process of its own or on one of several ranks.

Run as `final.py CORPUS SPEC FOLDER [LOGITS_AT_ONCE]`, or by `runpy` with the first three as globals.
"""

import json
import sys
from pathlib import Path

import torch

from regmix_hf.corpus.corpus import Corpus
from regmix_hf.training import loss_head
from regmix_hf.training.run import train_final
from regmix_hf.training.spec import RunSpec

if __name__ == "__main__":
    CORPUS, SPEC, FOLDER, *LOGITS_AT_ONCE = sys.argv[1:]
    if LOGITS_AT_ONCE:
        loss_head.LOGITS_AT_ONCE = int(LOGITS_AT_ONCE[0])

train_final(RunSpec(**json.loads(SPEC)), Corpus(Path(CORPUS)), Path(FOLDER))
if torch.distributed.is_initialized():  # its threads would abort a process that exits before them
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
