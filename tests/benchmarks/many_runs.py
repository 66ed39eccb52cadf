"""What many runs cost beside training: `python -m tests.benchmarks.many_runs [runs] [workers]`.

Runs that do nothing but write a result, 10,000 on 8 workers by default: time between two of them. Then 200
real, tiny runs on one worker: its memory after each. Then `regmix status` on a study with as many finished
runs, and on an empty one, in processor time.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from regmix_hf.files import write_json
from regmix_hf.jobs.devices import Slot
from regmix_hf.jobs.pool import Pool
from regmix_hf.jobs.proxies import ProxyWork, proxy_tasks
from regmix_hf.jobs.tasks import Do, Task
from regmix_hf.progress import Silent
from regmix_hf.recipe import load_recipe
from regmix_hf.stages import prepare, proxies, sample
from regmix_hf.study import Study
from regmix_hf.training.spec import RunSpec
from tests.benchmarks.random_corpus import build_corpus
from tests.benchmarks.trainer import BATCH, CONTEXT_LENGTH, NUM_DOMAINS, VOCAB_SIZE, build_spec

NUM_REAL_RUNS, WARM_RUNS = 200, 20


@dataclass(frozen=True)
class Instant:
    """Work that is done at once."""

    def open(self) -> Do[str]:
        def do(spec: str, folder: Path, on_tokens: Callable[[int], None]) -> None:
            write_json(folder / "result.json", {"run_id": spec, "status": "ok"})

        return do

    def smaller(self, spec: str) -> None:
        """There is nothing to halve."""


@dataclass(frozen=True)
class Weighed(ProxyWork):
    """Proxies, and beside each the memory of its worker after it, in bytes."""

    def open(self) -> Do[RunSpec]:
        train = super().open()

        def do(spec: RunSpec, folder: Path, on_tokens: Callable[[int], None]) -> None:
            train(spec, folder, on_tokens)
            write_json(folder / "memory.json", psutil.Process(os.getpid()).memory_info().rss)

        return do


def instant_runs(root: Path, count: int, workers: int) -> float:
    """Seconds between two ends of `count` instant runs: workers have started when the first one ends."""
    from tests.benchmarks.many_runs import Instant  # by the name that workers can import

    tasks: list[Task[Any]] = [
        Task(str(k), root / str(k), 1, str(k), {"run_id": str(k)}) for k in range(count)
    ]
    assert Pool([Slot()] * workers, root / "logs").run(tasks, Instant(), Silent()) == {"ok": count}
    ends = [(task.folder / "result.json").stat().st_mtime for task in tasks]
    return (max(ends) - min(ends)) / (count - 1)


def growth(root: Path) -> float:
    """Memory of a worker at its last run, over that after it was warm."""
    from tests.benchmarks.many_runs import Weighed

    corpus = build_corpus(root / "corpus", VOCAB_SIZE, CONTEXT_LENGTH, NUM_DOMAINS, num_blocks=200)
    spec = replace(build_spec(corpus, "tiny"), num_train_tokens=BATCH * CONTEXT_LENGTH)
    tasks = proxy_tasks([replace(spec, seed=k) for k in range(NUM_REAL_RUNS)], root / "runs")
    Pool([Slot()], root / "logs").run(tasks, Weighed(root / "corpus"), Silent())
    sizes = [json.loads((task.folder / "memory.json").read_text()) for task in tasks]
    return sizes[-1] / statistics.median(sizes[WARM_RUNS : 2 * WARM_RUNS])


def status_seconds(recipe: Path, folder: Path) -> float:
    """Processor seconds of `regmix status`, the least of three."""
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "regmix_hf", "status", str(recipe), f"output_dir={folder}"]
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


def status_ratio(root: Path, count: int) -> tuple[float, float]:
    """Status of a study with `count` finished runs to that of an empty one: all done, and one run open."""
    from tests.hub.finished import _write_corpus, end_run, recipe_tree

    tree = recipe_tree(root) | {"sampling": {"num_mixtures": 100, "num_holdout": 0}}
    tree["proxy"]["num_seeds"] = count // 100
    (root / "recipe.json").write_text(json.dumps(tree))
    study = Study(load_recipe(root / "recipe.json"))
    study.open()
    _write_corpus(study)
    study.finish(prepare.STAGE)
    sample.run(study, Silent())
    for task in proxies.tasks_of(study):
        end_run(task)
    proxies.run(study, Silent())
    empty, full = (status_seconds(root / "recipe.json", folder) for folder in (root / "empty", study.root))
    study.marker(proxies.STAGE).unlink()
    return full / empty, status_seconds(root / "recipe.json", study.root) / empty


def main() -> None:
    """Measure and print."""
    count, workers = (int(word) for word in (*sys.argv[1:], *("10000", "8")[len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        seconds = instant_runs(root / "instant", count, workers)
        print(f"{count} instant runs on {workers} workers: one every {1000 * seconds:.1f} ms", flush=True)
        alone = instant_runs(root / "alone", max(count // 20, 100), 1)
        print(f"on one worker: {1000 * alone:.1f} ms each, its start apart (below 50 is the aim)", flush=True)
        ratio = growth(root / "growth")
        print(f"memory of a worker, {NUM_REAL_RUNS} runs to {WARM_RUNS}: {ratio:.3f} (below 1.05 is the aim)")
        (root / "status").mkdir()
        done, one_open = status_ratio(root / "status", count)
        print(f"status with {count} finished runs to an empty study: {done:.2f} (below 1.5 is the aim)")
        print(f"the same before the stage is finished, when every run is looked at: {one_open:.2f}")


if __name__ == "__main__":
    main()
