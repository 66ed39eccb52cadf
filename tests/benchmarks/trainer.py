"""What `Trainer` costs beside a bare PyTorch loop: `python -m tests.benchmarks.trainer [preset]`.

Both train the same model from the same weights on the same batches with the same optimiser, clipping and
schedule, by turns in one process on one thread; evaluation is left out of both. Times are of the processor:
other processes on the machine do not count.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from regmix_hf.corpus.corpus import Corpus
from regmix_hf.corpus.stream import MixtureStream
from regmix_hf.training.arguments import build_arguments, merged_arguments
from regmix_hf.training.blocks import TrainingBlocks
from regmix_hf.training.losses import ValidationSet
from regmix_hf.training.models import build_config, build_model
from regmix_hf.training.presets import PRESETS
from regmix_hf.training.process import settle_process
from regmix_hf.training.spec import RunSpec, identity_of
from regmix_hf.training.trainer import MixtureTrainer
from tests.benchmarks.random_corpus import build_corpus

VOCAB_SIZE, CONTEXT_LENGTH, BATCH, NUM_STEPS, TURNS = 2048, 128, 16, 100, 3
NUM_DOMAINS, LEARNING_RATE = 8, 1e-3


def build_spec(corpus: Corpus, preset: str) -> RunSpec:
    """One run without an evaluation until its end."""
    arguments = {"learning_rate": LEARNING_RATE, "per_device_train_batch_size": BATCH}
    shape = {"vocab_size": VOCAB_SIZE, "max_position_embeddings": CONTEXT_LENGTH, **PRESETS[preset]}
    return RunSpec(
        mixture_id="benchmark",
        split="fit",
        scale=None,
        seed=1,
        weights={f"d{k}": 1 / NUM_DOMAINS for k in range(NUM_DOMAINS)},
        model=shape,
        context_length=CONTEXT_LENGTH,
        num_train_tokens=NUM_STEPS * BATCH * CONTEXT_LENGTH,
        num_batch_tokens=BATCH * CONTEXT_LENGTH,
        training_args=merged_arguments(arguments),
        num_evaluations=1,
        **identity_of(corpus.facts),
    )


class WithoutEvaluation(MixtureTrainer):
    """The trainer, its evaluation left out."""

    def evaluate(self, *_: object, **__: object) -> dict[str, float]:
        return {}


def with_trainer(spec: RunSpec, stream: MixtureStream, validation: ValidationSet, folder: str) -> float:
    """Seconds of one run under `Trainer`, construction included."""
    own = {"output_dir": folder, "seed": 1, "max_steps": NUM_STEPS, "use_cpu": True, "save_strategy": "no"}
    arguments = build_arguments({**spec.training_args, "dataloader_pin_memory": False}, own)
    model = build_model(build_config(spec.model, CONTEXT_LENGTH), spec.seed)
    blocks = TrainingBlocks(stream, spec.batch_blocks)
    start = time.process_time()
    WithoutEvaluation(spec, model, arguments, blocks, validation, 0.0).train()
    return time.process_time() - start


def bare(spec: RunSpec, stream: MixtureStream) -> float:
    """Seconds of the same run in a loop that does nothing else."""
    model = build_model(build_config({**spec.model, "use_cache": False}, CONTEXT_LENGTH), spec.seed)
    blocks = TrainingBlocks(stream, spec.batch_blocks)
    start = time.process_time()
    optimizer = torch.optim.AdamW(
        model.parameters(), LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    model.train()
    for step in range(NUM_STEPS):
        batch = blocks.__getitems__(range(step * BATCH, (step + 1) * BATCH))
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    return time.process_time() - start


def main() -> None:
    """Measure by turns and print the ratio."""
    preset = sys.argv[1] if len(sys.argv) > 1 else "tiny"
    torch.set_num_threads(1)
    settle_process()
    with tempfile.TemporaryDirectory() as name:
        corpus = build_corpus(Path(name), VOCAB_SIZE, CONTEXT_LENGTH, NUM_DOMAINS, num_blocks=200)
        spec = build_spec(corpus, preset)
        stream = MixtureStream(corpus, spec.weights, spec.num_blocks, spec.seed)
        validation = ValidationSet(corpus)
        turns = [(bare(spec, stream), with_trainer(spec, stream, validation, name)) for _ in range(TURNS)]
    loop, trainer = (statistics.median(column) / NUM_STEPS for column in zip(*turns, strict=True))
    tokens = BATCH * CONTEXT_LENGTH
    print(f"{preset}: bare loop {loop * 1e3:.1f} ms a step, {tokens / loop:,.0f} tokens/s")
    print(f"{preset}: Trainer   {trainer * 1e3:.1f} ms a step, {tokens / trainer:,.0f} tokens/s")
    print(f"{preset}: Trainer to bare loop {loop / trainer:.3f} (1 is no overhead)")


if __name__ == "__main__":
    main()
