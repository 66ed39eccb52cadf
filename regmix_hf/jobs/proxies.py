"""Proxies: small models, each trained by one process on one device."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from regmix_hf.jobs.results import with_former_names
from regmix_hf.jobs.tasks import Do, Task, telling_out_of_memory
from regmix_hf.mixtures.table import EXPERT
from regmix_hf.study.names import EXPERTS
from regmix_hf.tables import prefixed
from regmix_hf.training.layout import smaller_micro_batch
from regmix_hf.training.spec import RunSpec

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
        from regmix_hf.training.run import train_run

        return training_on(self.corpus, train_run)

    def smaller(self, spec: RunSpec) -> RunSpec | None:
        """Halve the blocks at once, or about that; a step has as many tokens as before."""
        size = smaller_micro_batch(spec.batch_blocks, spec.micro_batch)
        return None if size is None else spec.with_micro_batch(size)

    def moved(self, place: Callable[[Path], Path]) -> Self:
        """Read the corpus where `place` has it."""
        return replace(self, corpus=place(self.corpus))

    def brought(self, spec: RunSpec, place: Callable[[Path], Path]) -> RunSpec:
        """A proxy alone reads nothing."""
        return spec


def training_on(folder: Path, train: Callable[..., dict[str, Any]]) -> Do[RunSpec]:
    """Open a corpus; return what trains a run on it, by one of the functions of `regmix_hf.training.run`."""
    from regmix_hf.corpus.corpus import Corpus

    corpus = Corpus(folder)

    def do(spec: RunSpec, folder: Path, on_tokens: Callable[[int], None]) -> None:
        with telling_out_of_memory():
            train(spec, corpus, folder, on_tokens)

    return do


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
    """Return one task per run, in order; mixtures that are the same run are one task.

    Of equal runs the first stays that is fitted or judged on; if another is an expert it is one, too.
    """
    there = {path.name for path in folder.glob("*") if _RUN.fullmatch(path.name)}
    if there - {spec.run_id for spec in specs}:  # else version 0.1 has left nothing there
        specs = with_former_names(specs, (folder / spec.former_id for spec in specs))
    unique: dict[str, Task[RunSpec]] = {}
    for spec in specs:
        name = spec.run_id
        one = replace(spec, is_expert=spec.split == EXPERT)
        if (same := unique.get(name)) is not None:
            kept = one if same.spec.split == EXPERT else same.spec
            either = one, same.spec
            one = replace(
                kept,
                is_expert=any(spec.is_expert for spec in either),
                keeps_model=any(spec.keeps_model for spec in either),
            )
        leaves = (EXPERTS,) if one.is_expert else ()
        unique[name] = Task(name, folder / name, one.num_tokens, one, run_head(one), leaves=leaves)
    return list(unique.values())
