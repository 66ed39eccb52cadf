"""One final run on one of several ranks that share the model out (FSDP2), on a CPU.

Run as `sharded.py CORPUS RUNS`, with one run like those of `final.py`, under a launcher with an FSDP config.
`accelerate` takes FSDP for GPUs only, `torch` shards on a CPU as well: so `accelerate` is told that its
ranks, which are on a CPU, have GPUs.
"""

import json
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from torch.distributed.fsdp import FSDPModule

from regmix_hf.corpus.corpus import Corpus
from regmix_hf.training import loss_head, run
from regmix_hf.training.spec import RunSpec

CORPUS, RUNS = sys.argv[1:]
[(spec, folder, loss_head.LOGITS_AT_ONCE)] = json.loads(RUNS)
begin = PartialState.__init__


def begin_as_gpu(self, *args, **kwargs):
    begin(self, *args, **kwargs)
    if self.distributed_type is DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU


PartialState.__init__ = begin_as_gpu


class Watched(run.MixtureTrainer):
    """Makes sure that the model really is shared out."""

    def training_step(self, model, inputs, num_items_in_batch=None):
        assert isinstance(model, FSDPModule)
        assert isinstance(model.model.layers[0].mlp.up_proj.weight, torch.distributed.tensor.DTensor)
        return super().training_step(model, inputs, num_items_in_batch)


run.MixtureTrainer = Watched
run.train_final(RunSpec(**spec), Corpus(Path(CORPUS)), Path(folder))
torch.distributed.barrier()
torch.distributed.destroy_process_group()
