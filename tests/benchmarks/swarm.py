"""How the swarm scales: `python -m tests.benchmarks.swarm [workers]`, by default one worker per core.

One worker and several train runs of the same size, by turns; the first run of each worker, which warms up, is
left out. Two ratios of the rate of several workers to as many times the rate of one:

- by the clock, over the time in which all workers are at work; other load on the machine spoils it;
- by the processor: tokens per second of processor time, which falls when workers disturb each other, times
  the share of its time that a worker spends in runs, which falls when they wait for the pool.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from regmix_hf.jobs.devices import Slot, num_cores
from regmix_hf.jobs.pool import Pool
from regmix_hf.jobs.proxies import ProxyWork, proxy_tasks
from regmix_hf.jobs.tasks import Do
from regmix_hf.progress import Silent
from regmix_hf.training.spec import RunSpec
from tests.benchmarks.random_corpus import build_corpus
from tests.benchmarks.trainer import BATCH, CONTEXT_LENGTH, NUM_DOMAINS, VOCAB_SIZE, build_spec

NUM_STEPS, RUNS_PER_WORKER, TURNS = 20, 10, 3


@dataclass(frozen=True)
class TimedWork(ProxyWork):
    """Proxies, and beside each of them when it was trained, where, and for how long on the processor."""

    def open(self) -> Do[RunSpec]:
        train = super().open()

        def do(spec: RunSpec, folder: Path, on_tokens: Callable[[int], None]) -> None:
            begin, processor = time.time(), time.process_time()
            train(spec, folder, on_tokens)
            times = [os.getpid(), begin, time.time(), time.process_time() - processor]
            (folder / "times.json").write_text(json.dumps(times))

        return do


@dataclass(frozen=True)
class Rate:
    """Tokens per second of all workers together."""

    by_clock: float
    by_processor: float


def rate(spec: RunSpec, corpus: Path, folder: Path, num_workers: int) -> Rate:
    """Train `RUNS_PER_WORKER` runs per worker."""
    from tests.benchmarks.swarm import TimedWork  # by the name that workers can import

    tasks = proxy_tasks([replace(spec, seed=k) for k in range(num_workers * RUNS_PER_WORKER)], folder)
    pool = Pool([Slot()] * num_workers, folder / "logs")
    counts = pool.run(tasks, TimedWork(corpus), Silent())
    assert counts == {"ok": len(tasks)}, counts
    workers: dict[int, list[tuple[float, float, float]]] = defaultdict(list)
    for task in tasks:
        pid, *times = json.loads((task.folder / "times.json").read_text())
        workers[pid].append(tuple(times))
    warm = [sorted(runs)[1:] for runs in workers.values()]
    start, end = max(runs[0][0] for runs in warm), min(runs[-1][1] for runs in warm)
    overlaps = [max(0.0, min(e, end) - max(b, start)) / (e - b) for runs in warm for b, e, _ in runs]
    processor = sum(seconds for runs in warm for _, _, seconds in runs)
    busy = sum(e - b for runs in warm for b, e, _ in runs) / sum(runs[-1][1] - runs[0][0] for runs in warm)
    num_runs = sum(len(runs) for runs in warm)
    return Rate(
        by_clock=sum(overlaps) * spec.num_tokens / (end - start),
        by_processor=num_workers * num_runs * spec.num_tokens / processor * busy,
    )


def main() -> None:
    """Measure by turns and print the ratios."""
    several = int(sys.argv[1]) if len(sys.argv) > 1 else num_cores()
    rates: dict[int, list[Rate]] = {1: [], several: []}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        corpus = build_corpus(root / "corpus", VOCAB_SIZE, CONTEXT_LENGTH, NUM_DOMAINS, num_blocks=200)
        spec = replace(build_spec(corpus, "tiny"), num_train_tokens=NUM_STEPS * BATCH * CONTEXT_LENGTH)
        for turn in range(TURNS):
            for count, measured in rates.items():
                folder = root / f"turn-{turn}-workers-{count}"
                measured.append(rate(spec, root / "corpus", folder, count))
                tokens = measured[-1]
                print(f"{count} workers: {tokens.by_clock:,.0f} tokens/s by the clock, ", end="")
                print(f"{tokens.by_processor:,.0f} by the processor", flush=True)
    for kind in ("by_clock", "by_processor"):
        one, all_ = (statistics.median(getattr(r, kind) for r in rates[count]) for count in (1, several))
        ratio = all_ / (several * one)
        print(
            f"{several} workers to {several} x one, {kind.replace('_', ' the ')}: {ratio:.3f} (1 is no loss)"
        )


if __name__ == "__main__":
    main()
