"""How fast runs of real size train on a GPU: `python -m tests.benchmarks.gpu [--small] [--json FILE]`.

Trains the presets on steps of 512 x 2,048 tokens over 50,432 words, in bf16 with fused AdamW, with the very
trainer that proxies and final runs have: with all logits at once, with the loss in parts, both also compiled,
and with Liger's kernels. Every cell of the table is a process of its own with one CPU thread, as workers are,
so one that fails costs the others nothing.

With `--proxy STEPS` it trains one proxy as workers do (`train_run`), with four evaluations of 17 x 4,194,304
tokens, and says how long starting, training and evaluating took; then a second one, for what starting takes
in a process that has compiled before.

Tokens per second are over whole steps, after steps to warm up. FLOPs are the model's own (`model_facts`:
attention not halved for causality, nothing counted that is computed twice). Waiting is the time the training
loop spent on getting its next batches, in which the device may still have had work: an upper bound.

Needs a checkout, no network, and the packages that training needs: torch, transformers, accelerate, datasets,
pydantic, ruamel.yaml, pandas and pyarrow. Liger's kernels are measured where liger-kernel is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from regmix_hf.jobs.devices import ONE_THREAD

#: Peak FLOP/s in bf16 with dense matrices, by a part of the device's name; the first that fits counts.
#: NVIDIA's data sheets, where "with sparsity" is twice as much: H100 (SXM, NVL, PCIe), H200 (SXM, NVL), A100.
PEAK_FLOPS = {
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H200 NVL": 835e12,
    "H200": 989e12,
    "A100": 312e12,
}
#: Blocks at once on the device, chosen to fit 80 GB: with all logits in memory, and without.
MICRO_BATCH = {"regmix-1m": (8, 64), "regmix-60m": (8, 32), "regmix-1b": (4, 8), "tiny": (2, 4)}
#: Training arguments of the ways to train.
WAYS: dict[str, dict[str, Any]] = {
    "all logits": {},
    "parts": {},
    "all logits, compiled": {"torch_compile": True},
    "parts, compiled": {"torch_compile": True},
    "liger": {"use_liger_kernel": True},
}
#: Packages that training needs.
NEEDED = ("torch", "transformers", "accelerate", "datasets", "pydantic", "ruamel.yaml", "pandas", "pyarrow")
WARM_UP_STEPS, LEAST_STEPS, MOST_STEPS = 2, 2, 400


@dataclass(frozen=True)
class Size:
    """What is the same in every cell.

    Attributes:
        presets: To train, one after the other.
        seconds: Measured at least, and `LEAST_STEPS`.
        num_validation: Validation blocks of every domain, of proxies.
    """

    presets: tuple[str, ...]
    vocab_size: int
    context_length: int
    batch_blocks: int
    seconds: float
    num_validation: int


REAL = Size(("regmix-1m", "regmix-60m", "regmix-1b"), 50_432, 2048, 512, seconds=10.0, num_validation=2048)
SMALL = Size(("tiny",), 300, 32, 8, seconds=0.0, num_validation=2)


def peak_flops(device: str) -> float | None:
    """Peak FLOP/s of a device in bf16, `None` where it is not known."""
    return next((peak for name, peak in PEAK_FLOPS.items() if name in device), None)


def measure(preset: str, way: str, size: Size, micro_batch: int) -> dict[str, Any]:
    """Train one preset in one way and return its row."""
    import torch
    from transformers import TrainerCallback

    from regmix_hf.training import loss_head, run
    from regmix_hf.training.process import settle_process
    from tests.benchmarks.random_corpus import build_corpus

    settle_process()
    has_gpu = torch.cuda.is_available()
    if way.startswith("all logits"):
        loss_head.LOGITS_AT_ONCE = sys.maxsize
    elif size.presets == SMALL.presets:
        loss_head.LOGITS_AT_ONCE = 1 << 12
    marks: dict[str, float] = {"waited": 0.0}

    def now() -> float:
        if has_gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == WARM_UP_STEPS:
                marks.update(start=now(), waited=0.0)
            steps = state.global_step - WARM_UP_STEPS
            # Without waiting for the device: what it has been given is at most a step or two.
            if steps >= LEAST_STEPS and time.perf_counter() - marks["start"] >= size.seconds:
                marks.update(end=now(), steps=steps)
                control.should_training_stop = True

    class Timed(run.MixtureTrainer):
        def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            batch = super().get_batch_samples(*args, **kwargs)
            marks["waited"] += time.perf_counter() - begun
            return batch

        def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
            return {}

    with tempfile.TemporaryDirectory() as name:
        corpus = build_corpus(Path(name) / "corpus", size.vocab_size, size.context_length, 17, num_blocks=64)
        spec = spec_of(preset, way, size, micro_batch, corpus.facts)
        run.MixtureTrainer = Timed  # type: ignore[misc]
        trained = run._Run(spec, corpus, Path(name) / "run", None)
        trained._trainer.add_callback(Clock())
        trained.train()
    labels = {"preset": preset, "way": way, "micro_batch": micro_batch}
    return labels | figures(trained, spec.num_batch_tokens, marks)


def train_proxy(preset: str, way: str, size: Size, micro_batch: int, num_steps: int) -> dict[str, Any]:
    """Train one proxy as workers do, and the start of another; return how long they and their parts took."""
    from tests.benchmarks.random_corpus import build_corpus

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "corpus"
        corpus = build_corpus(folder, size.vocab_size, size.context_length, 17, 64, size.num_validation)
        spec = spec_of(preset, way, size, micro_batch, corpus.facts)

        def part(steps: int, num_evaluations: int, seed: int) -> dict[str, Any]:
            tokens = steps * spec.num_batch_tokens
            one = replace(spec, seed=seed, num_train_tokens=tokens, num_evaluations=num_evaluations)
            return timed_run(one, corpus, Path(name) / str(seed))

        rows = {"proxy": part(num_steps, 4, seed=1), "next": part(max(num_steps // 40, 2), 1, seed=2)}
    return {"preset": preset, "way": way, "micro_batch": micro_batch, **rows}


def timed_run(spec: Any, corpus: Any, folder: Path) -> dict[str, Any]:
    """Seconds that a run took to start (all else), to train and for each of its evaluations."""
    import torch

    from regmix_hf.training import run
    from regmix_hf.training.trainer import MixtureTrainer

    ends: list[float] = []
    evaluations: list[float] = []

    def now() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    def on_tokens(tokens: int) -> None:
        if not ends or tokens == spec.num_tokens:  # else the device would be waited for in every step
            ends.append(now())

    class Timed(MixtureTrainer):
        def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
            begun = now()
            losses = super().evaluate(*args, **kwargs)
            evaluations.append(now() - begun)
            return losses

    run.MixtureTrainer = Timed  # type: ignore[misc]
    begun = now()
    row = run.train_run(spec, corpus, folder, on_tokens)
    seconds = now() - begun
    training = (ends[1] - ends[0] - sum(evaluations[:-1])) * spec.num_steps / (spec.num_steps - 1)
    return {
        "status": row["status"],
        "steps": spec.num_steps,
        "seconds": seconds,
        "start": seconds - training - sum(evaluations),
        "training": training,
        "evaluations": evaluations,
        "tokens_per_second": spec.num_tokens / seconds,
    }


def figures(trained: Any, num_batch_tokens: int, marks: dict[str, float]) -> dict[str, Any]:
    """Speed and memory of a run, from when its clock began and stopped."""
    import torch

    seconds = marks["end"] - marks["start"]
    tokens = marks["steps"] * num_batch_tokens / seconds
    flops = trained._model_facts.train_flops_per_token * tokens
    if torch.cuda.is_available():
        device, memory = torch.cuda.get_device_name(), torch.cuda.max_memory_allocated()
    else:
        device, memory = "cpu", 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = peak_flops(device)
    return {
        "tokens_per_second": tokens,
        "flops_per_second": flops,
        "utilisation": flops / peak if peak else None,
        "waiting": marks["waited"] / seconds,
        "memory_bytes": memory,
        "steps": int(marks["steps"]),
        "diverged": trained._trainer.diverged,
        "device": device,
    }


def spec_of(preset: str, way: str, size: Size, micro_batch: int, facts: Any) -> Any:
    """The run that is measured."""
    from regmix_hf.training.arguments import merged_arguments
    from regmix_hf.training.presets import PRESETS
    from regmix_hf.training.spec import RunSpec, identity_of

    arguments = {"learning_rate": 1e-4, "per_device_train_batch_size": micro_batch, "bf16": True, **WAYS[way]}
    if size.presets == SMALL.presets and "torch_compile" in arguments:
        arguments["torch_compile_backend"] = "aot_eager"
    shape = {"vocab_size": size.vocab_size, "max_position_embeddings": size.context_length}
    return RunSpec(
        mixture_id="benchmark",
        split="fit",
        scale=None,
        seed=1,
        weights={f"d{k}": 1 / 17 for k in range(17)},
        model={**shape, **PRESETS[preset]},
        context_length=size.context_length,
        num_train_tokens=MOST_STEPS * size.batch_blocks * size.context_length,
        num_batch_tokens=size.batch_blocks * size.context_length,
        training_args=merged_arguments(arguments),
        num_evaluations=1,
        **identity_of(facts),
    )


def missing_liger() -> str | None:
    """Say why Liger's kernels cannot be measured here, if they cannot."""
    import torch
    from transformers.utils import is_liger_kernel_available

    if not torch.cuda.is_available():
        return "its kernels are for GPUs"
    return None if is_liger_kernel_available() else "the package liger-kernel is not installed"


def in_a_process(preset: str, way: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure one cell in a process of its own; a failure is a row that says what went wrong."""
    if "liger" in way and (why := missing_liger()):
        return {"preset": preset, "way": way, "failed": why}
    command = [sys.executable, "-m", "tests.benchmarks.gpu", "--cell", preset, way]
    command += ["--small"] if arguments.small else []
    command += ["--micro-batch", str(arguments.micro_batch)] if arguments.micro_batch else []
    command += ["--seconds", str(arguments.seconds)] if arguments.seconds is not None else []
    command += ["--proxy", str(arguments.proxy)] if arguments.proxy else []
    environment = {**os.environ, **ONE_THREAD}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode == 0:
        row: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return row
    lines = [line for line in done.stderr.strip().splitlines() if line.strip()] or [""]
    return {"preset": preset, "way": way, "failed": f"exit code {done.returncode}: {lines[-1][:300]}"}


def as_line(row: dict[str, Any]) -> str:
    """One row of the table."""
    start = f"{row['preset']:11} {row['way']:21}"
    if "failed" in row:
        return f"{start} {row['failed']}"
    if "proxy" in row:
        return f"{start} {row['micro_batch']:6} {row['proxy']['tokens_per_second']:14,.0f} of a whole proxy"
    used = "      -" if row["utilisation"] is None else f"{row['utilisation']:7.1%}"
    return (
        f"{start} {row['micro_batch']:6} {row['tokens_per_second']:14,.0f} "
        f"{row['flops_per_second'] / 1e12:9.3f} {used} {row['waiting']:8.2%} {row['memory_bytes'] / 1e9:8.2f}"
    )


COLUMNS = {"micro": 6, "tokens/s": 14, "TFLOP/s": 9, "used": 7, "waiting": 8, "GB": 8}
HEAD = f"{'preset':11} {'way':21} " + " ".join(f"{name:>{width}}" for name, width in COLUMNS.items())


def installed(*packages: str) -> dict[str, str]:
    """Versions of those packages that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def environment() -> dict[str, str]:
    """What the figures were measured with."""
    import torch

    found = installed("torch", "transformers", "accelerate", "triton", "liger-kernel")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine() + " cpu"
    date = time.strftime("%Y-%m-%d")
    return {"device": device, "date": date, "python": platform.python_version(), **found}


def main() -> None:
    """Measure all cells, print a line for each as it comes, and all of it as JSON at the end."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a small form, for a CPU: shows that it runs")
    parser.add_argument("--preset", action="append", help="only these presets")
    parser.add_argument("--way", action="append", choices=list(WAYS), help="only these ways")
    parser.add_argument("--micro-batch", type=int, help="blocks at once, in place of what was chosen")
    parser.add_argument("--seconds", type=float, help="measured at least in every cell, in place of 10")
    parser.add_argument("--proxy", type=int, metavar="STEPS", help="train a whole proxy of so many steps")
    parser.add_argument("--json", type=Path, help="write the JSON into this file as well")
    parser.add_argument("--cell", nargs=2, metavar=("PRESET", "WAY"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    size = SMALL if arguments.small else REAL
    if arguments.seconds is not None:
        size = replace(size, seconds=arguments.seconds)
    if missing := set(NEEDED) - installed(*NEEDED).keys():
        raise SystemExit(f"training needs packages that are not installed\n  pip install {' '.join(missing)}")
    if arguments.cell:
        preset, way = arguments.cell
        micro = arguments.micro_batch or MICRO_BATCH[preset][not way.startswith("all logits")]
        cell = (preset, way, size, micro)
        print(json.dumps(train_proxy(*cell, arguments.proxy) if arguments.proxy else measure(*cell)))
        return
    print(HEAD, flush=True)
    rows = []
    for preset in arguments.preset or size.presets:
        for way in arguments.way or WAYS:
            rows.append(in_a_process(preset, way, arguments))
            print(as_line(rows[-1]), flush=True)
    result = json.dumps({"environment": environment(), "size": asdict(size), "rows": rows}, indent=1)
    print(result)
    if arguments.json:
        arguments.json.write_text(result)
    if all("failed" in row for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
