"""The keys of runs that train: what all have, and those of proxies."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from regmix_hf.quantities import BPB
from regmix_hf.recipe.model import Model
from regmix_hf.recipe.section import Section, Tokens

TASK_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$"
TaskName = Annotated[str, StringConstraints(pattern=TASK_PATTERN, max_length=96)]


class Training(Section):
    """What one training run needs besides its mixture, seed and corpus."""

    model: Model
    """The shape of the model."""
    num_train_tokens: Tokens
    """Tokens one run trains on. Met exactly, in blocks of `context_length`."""
    num_batch_tokens: Tokens | None = None
    """Tokens of one optimiser step, over all devices. `null`: per-device batch x accumulation x context."""
    training_args: dict[str, Any] = Field(default_factory=dict)
    """Keys of `transformers.TrainingArguments`, checked against the installed version."""
    num_evaluations: Annotated[int, Field(ge=1)] = 4
    """Times the losses of all domains are measured during a run; the last is at its end."""


class Proxy(Training):
    """The proxy runs."""

    scale: str | None = None
    """What the column `scale` of the results says, e.g. `1M`. `null`: the model's own parameter count."""
    num_seeds: Annotated[int, Field(ge=1)] = 1
    """Runs of every mixture, each with its own seed."""
    num_workers: Annotated[int, Field(ge=1)] | None = None
    """Worker processes; `null` takes one per GPU, or one per core where there is none."""
    keep_models: Literal["experts", "all"] | None = None
    """Keep the models of `sampling.experts`, or of all runs, in `3-proxies/<run>/kept-model`: domains, tasks
    and metrics that a study gets later are then measured by forward passes alone, without training anything
    again. Of experts alone they rank mixtures by such a target; of all runs any family is fitted on it. A
    model takes four bytes a parameter, `--dry-run` says how much that is. `null`: none is kept."""
    match_repetition: bool = False
    """Of each domain read only as large a part of what there is as a proxy is shorter than a final run
    (`num_train_tokens` of both). A proxy then reads a domain as often as a final run on its mixture would, so
    its losses hold what repetition does; without it proxies repeat less, and a law cannot know."""
    tasks: list[TaskName] = Field(default_factory=list)
    """Tasks and groups of lm-eval whose right answers all models are scored on, final ones too, in bits per
    byte: `bpb/<task>`."""
    metrics: list[str] = Field(default_factory=list)
    """Metrics of lm-eval, `<task>/<metric>` (`arc_easy/acc_norm`), that all models are judged by in the same
    way: those that follow from how likely choices and texts are, for which all choices are asked."""
    task_limit: Annotated[int, Field(ge=1)] | None = None
    """Documents of each task, the first ones, that are scored. `null`: all."""
    tasks_at: Literal["end", "evaluations"] = "end"
    """When proxies are scored on tasks and metrics: once, or whenever losses are measured; final models are
    once."""

    @property
    def judged(self) -> dict[str, list[str]]:
        """The metrics of `metrics` by task."""
        found: dict[str, list[str]] = {}
        for name in self.metrics:
            task, _, metric = name.partition("/")
            found.setdefault(task, []).append(metric)
        return found

    @property
    def scored(self) -> list[str]:
        """Columns of what models are scored on: `bpb/<task>` and `<task>/<metric>`."""
        return [*(f"{BPB}{name}" for name in self.tasks), *self.metrics]


class Rung(Proxy):
    """Proxies of one size and length among those of several."""

    num_mixtures: Annotated[int, Field(ge=1)] | None = None
    """How many of the swarm's mixtures are trained so, too, spread among them; of the first entry, which is
    the swarm, `sampling.num_mixtures` says it."""
