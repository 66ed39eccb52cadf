"""Proxies: small models, each trained by one process on one device."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from regmix_hf.jobs.tasks import Do, OutOfMemoryError, Task
from regmix_hf.tables import prefixed
from regmix_hf.training.layout import smaller_micro_batch
from regmix_hf.training.spec import RunSpec, with_former_names

_BATCH = "per_device_train_batch_size"
#: How runs are named.
_RUN = re.compile("[0-9a-f]{16}")


@dataclass(frozen=True)
class ProxyWork:
    """Trains proxies on one corpus.

    Attributes:
        corpus: The folder that `prepare` wrote.
    """

    corpus: Path

    def open(self) -> Do[RunSpec]:
        """Import what trains and open the corpus."""
        from accelerate.utils.memory import should_reduce_batch_size

        from regmix_hf.corpus.corpus import Corpus

        corpus, train = Corpus(self.corpus), self._trains()

        def do(spec: RunSpec, folder: Path, on_tokens: Callable[[int], None]) -> None:
            try:
                train(spec, corpus, folder, on_tokens)
            except Exception as error:
                if should_reduce_batch_size(error):
                    raise OutOfMemoryError(str(error)) from error
                raise

        return do

    def _trains(self) -> Callable[..., dict[str, Any]]:
        from regmix_hf.training.run import train_run

        return train_run

    def smaller(self, spec: RunSpec) -> RunSpec | None:
        """Halve the blocks at once, or about that; a step has as many tokens as before."""
        size = smaller_micro_batch(spec.batch_blocks, spec.training_args[_BATCH])
        return None if size is None else replace(spec, training_args={**spec.training_args, _BATCH: size})


def run_head(spec: RunSpec) -> dict[str, object]:
    """What the result of a run says whatever becomes of it."""
    return {
        "run_id": spec.run_id,
        "mixture_id": spec.mixture_id,
        "split": spec.split,
        "scale": spec.scale,
        "seed": spec.seed,
        "num_train_tokens": spec.num_tokens,
        **prefixed("weight", spec.weights),
    }


def proxy_tasks(specs: Sequence[RunSpec], folder: Path) -> list[Task[RunSpec]]:
    """Return one task per run, in order; mixtures that are the same run are one task."""
    if _run_folders(folder) - {spec.run_id for spec in specs}:  # else version 0.1 has left nothing there
        specs = with_former_names(specs, (folder / spec.former_id for spec in specs))
    unique: dict[str, Task[RunSpec]] = {}
    for spec in specs:  # the first of equal runs stays
        head = run_head(spec)
        name = str(head["run_id"])
        unique.setdefault(name, Task(name, folder / name, spec.num_tokens, spec, head))
    return list(unique.values())


def _run_folders(folder: Path) -> set[str]:
    """Names of what may be runs in a stage's folder."""
    paths = folder.iterdir() if folder.exists() else ()
    return {path.name for path in paths if _RUN.fullmatch(path.name)}
