"""What one run is: all that decides its outcome, and the name that follows from it. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pandas as pd

from regmix_hf.corpus.local_files import located
from regmix_hf.errors import TrainingError
from regmix_hf.files import hash_value
from regmix_hf.mixtures.final import given_mixture
from regmix_hf.mixtures.repetition import matched_blocks
from regmix_hf.mixtures.table import EXPERT, completed, further_runs
from regmix_hf.recipe import Model, Recipe
from regmix_hf.recipe.model import Base
from regmix_hf.recipe.outcome import decisive_arguments, decisive_model, decisive_source
from regmix_hf.recipe.schema import Train
from regmix_hf.recipe.training import Proxy, Training
from regmix_hf.seeds import RUNS, seed_of
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.tables import by_domain
from regmix_hf.training.arguments import merged_arguments
from regmix_hf.training.layout import step_layout
from regmix_hf.training.presets import checkpoint_facts, model_config

_MICRO_BATCH = "per_device_train_batch_size"


@dataclass(frozen=True)
class RunSpec:
    """One training of one model on one mixture with one seed.

    Attributes:
        mixture_id: Of the sampled mixture, or the name of a final mixture.
        split: `fit`, `holdout` or `expert`; `final` for a final run.
        scale: What the results say about the model's size; `None` leaves it to the parameter count.
        seed: Decides initialisation and data order.
        weights: Share of training tokens per training domain; they sum to 1.
        model: Keys of the `transformers` config, `model_type` included.
        context_length: Tokens of a block.
        num_train_tokens: As asked; `num_blocks` whole blocks are trained on.
        num_batch_tokens: Tokens of one optimiser step over all devices; a multiple of `context_length`.
        training_args: Keys of `transformers.TrainingArguments`, defaults of this package included.
        num_evaluations: Times all validation losses are measured; the last is at the end.
        text: Domain -> hash of its training blocks, at least for the domains with weight. For a run straight
            from the text they say which documents were held out.
        tokenizer: Hash of the tokenizer.
        validation: Domain -> hash of the blocks that its loss is measured on. No part of what is trained.
        scored: Column -> hash of what is asked for it: `bpb/<task>` and `<task>/<metric>`. No part of what is
            trained either.
        num_scorings: Times that is asked: at the last evaluations.
        start: Name of the weights it starts from, which tells them from all others: their hash, or the id
            of the run that made them; `None`: they are drawn by `seed`.
        corpus: `CorpusFacts.fingerprint` of the corpus, by which version 0.1 named runs.
        sources: Domain -> the recipe's words on its text, for a run straight from the text; `None`: it reads
            the corpus's blocks.
        part: Domain -> how many of its blocks the run reads, again and again; `None`: all there are.
        name: The id that version 0.1 gave the run, where it finished it.
        rung: Number of its size and length among those of the study's proxies; it follows from the others.
        is_expert: Whether what it gives each token is kept; a mixture of the swarm may be one, too.
        keeps_model: Whether its model stays in its folder.
    """

    mixture_id: str
    split: str
    scale: str | None
    seed: int
    weights: dict[str, float]
    model: dict[str, Any]
    context_length: int
    num_train_tokens: int
    num_batch_tokens: int
    training_args: dict[str, Any]
    num_evaluations: int
    text: dict[str, str]
    tokenizer: str
    validation: dict[str, str]
    corpus: str
    sources: dict[str, dict[str, Any]] | None = None
    part: dict[str, int] | None = None
    name: str | None = None
    scored: dict[str, str] = field(default_factory=dict)
    num_scorings: int = 1
    start: str | None = None
    rung: int = 0
    is_expert: bool = False
    keeps_model: bool = False

    @cached_property
    def run_id(self) -> str:
        """16 hex digits of a hash of all that decides what is trained: no names, paths, workers or devices.

        Domains without weight, validation text and how often losses are measured are no part of it, so a
        study may get more of them and trains nothing again.
        """
        text = {domain: self.text[domain] for domain in self._read}
        return self.name or hash_value({**self._training, "text": text, "tokenizer": self.tokenizer})[:16]

    @property
    def former_id(self) -> str:
        """The id of version 0.1, which also hashed what is measured and all text there was."""
        measured = {"num_evaluations": self.num_evaluations, "corpus": self.corpus}
        return hash_value({**self._training, **measured})[:16]

    @property
    def _training(self) -> dict[str, Any]:
        training: dict[str, Any] = {
            "seed": self.seed,
            "weights": self._read,
            "model": decisive_model(self.model),
            "context_length": self.context_length,
            "num_blocks": self.num_blocks,
            "num_batch_tokens": self.num_batch_tokens,
            "training_args": decisive_arguments(self.training_args),
        }
        if self.sources is not None:
            training["sources"] = {domain: decisive_source(self.sources[domain]) for domain in self._read}
        if self.start is not None:
            training["start"] = self.start
        if self.part is not None:
            training["part"] = {domain: self.part[domain] for domain in self._read}
        return training

    @property
    def _read(self) -> dict[str, float]:
        """The weights of the domains that are trained on."""
        return {domain: weight for domain, weight in self.weights.items() if weight > 0}

    @property
    def measured(self) -> dict[str, str]:
        """Hash of all that the run is measured on: of domains by their names, of tasks by their columns."""
        return {**self.validation, **self.scored}

    @property
    def num_blocks(self) -> int:
        """Blocks the run trains on: `num_train_tokens` rounded down to whole blocks."""
        return self.num_train_tokens // self.context_length

    @property
    def num_tokens(self) -> int:
        """Tokens the run really trains on."""
        return self.num_blocks * self.context_length

    @property
    def batch_blocks(self) -> int:
        """Blocks of one optimiser step over all devices."""
        return self.num_batch_tokens // self.context_length

    @property
    def micro_batch(self) -> int:
        """Blocks at once on a device, at the most."""
        return int(self.training_args[_MICRO_BATCH])

    def with_micro_batch(self, size: int) -> RunSpec:
        """The same run in other bites: a step has as many tokens as before."""
        return replace(self, training_args={**self.training_args, _MICRO_BATCH: size})

    @property
    def num_steps(self) -> int:
        """Optimiser steps; the last one may hold fewer blocks than the others."""
        return -(-self.num_blocks // self.batch_blocks)

    @property
    def evaluation_steps(self) -> tuple[int, ...]:
        """Steps after which all losses are measured, evenly spread; the last is the end of the run.

        What starts from weights that know something is measured before its first step, too.
        """
        count = min(self.num_evaluations, self.num_steps)
        first = 1 if self.start is None else 0
        return tuple(round(self.num_steps * k / count) for k in range(first, count + 1))

    @property
    def scoring_steps(self) -> tuple[int, ...]:
        """Of those, the steps after which the tasks are scored, too: a final run's start among them."""
        if not self.scored:
            return ()
        steps = self.evaluation_steps
        first = steps[:1] if self.split == "final" and self.start is not None else ()
        return first + steps[-self.num_scorings :]

    def tokens_at(self, step: int) -> int:
        """Tokens trained on after `step` optimiser steps."""
        return min(step * self.batch_blocks, self.num_blocks) * self.context_length


def proxy_specs(recipe: Recipe, facts: CorpusFacts, mixtures: pd.DataFrame) -> list[RunSpec]:
    """Return the proxy runs: `num_seeds` of every row of the table `mixtures`, in its order.

    All rows share their seeds, but for those that repeat a mixture or try a choice: these have their own.
    Rows of a size that the recipe has no more are left out.

    Raises:
        TrainingError: The preset does not exist, or the batch does not come out in whole blocks and
            micro-batches.
        MixtureError: To repeat as final runs do, a proxy would read less than a block of a domain.
    """
    table, rungs = completed(mixtures), list(recipe.rungs.items())
    kinds = [_like_all(recipe, facts, section, number) for number, section in enumerate(recipe.rungs)]
    columns = (table[name] for name in ("mixture_id", "split", "rung"))
    rows = zip(*columns, by_domain(table, "weight").to_dict("records"), further_runs(table), strict=True)
    return [
        replace(
            kinds[rung],
            mixture_id=str(name),
            split=str(split),
            weights=_plain(weights),
            seed=seed,
            keeps_model=_keeps(rungs[rung][1], split),
        )
        for name, split, rung, weights, number in rows
        if 0 <= rung < len(rungs)
        for seed in _proxy_seeds(recipe, rungs[rung][1], number)
    ]


def _like_all(recipe: Recipe, facts: CorpusFacts, section: str, number: int) -> RunSpec:
    """What all proxies of one size and length have in common."""
    rung = recipe.rungs[section]
    some = dict.fromkeys(facts.training, 0.0)
    alike = _spec(recipe, facts, rung, some, 0, ("", "", rung.scale))
    # A proxy has one device, so what cannot be cut for it can be said now.
    step_layout(alike.batch_blocks, alike.micro_batch, num_devices=1)
    part = matched_blocks(recipe, section, facts.available_tokens(recipe)) if rung.match_repetition else None
    return replace(alike, part=part, rung=number)


def _keeps(rung: Proxy, split: object) -> bool:
    return rung.keep_models == "all" or (rung.keep_models == "experts" and split == EXPERT)


def _plain(weights: Mapping[Any, float]) -> dict[str, float]:
    """Weights as they are hashed."""
    return {str(domain): float(weight) for domain, weight in weights.items()}


def final_specs(
    recipe: Recipe, facts: CorpusFacts, mixtures: Mapping[str, Mapping[str, float]]
) -> list[tuple[str, RunSpec]]:
    """Return the final runs with the names of their folders: `<mixture>`, then `<mixture>-seed-<k>`.

    Raises:
        TrainingError: The preset does not exist or the batch does not come out in whole blocks.
    """
    return [
        (
            name if index == 0 else f"{name}-seed-{index}",
            _spec(recipe, facts, recipe.train, weights, run_seed(recipe.seed, index), (name, "final", None)),
        )
        for name, weights in mixtures.items()
        for index in range(recipe.train.num_seeds)
    ]


def identity_of(facts: CorpusFacts) -> dict[str, Any]:
    """Return what a `RunSpec` says of the corpus that it is trained and measured on."""
    return {
        "text": {name: split.sha256 for name, split in facts.training.items()},
        "tokenizer": facts.tokenizer_sha256,
        "validation": facts.validation,
        "scored": facts.scored,
        "corpus": facts.fingerprint,
    }


def planned_spec(recipe: Recipe, facts: CorpusFacts, training: Training) -> RunSpec:
    """Return what is known of every run of a recipe's `proxy` or `train` before there is a mixture.

    That is all but weights, names, and the weights of the model that it starts from. Of the corpus there need
    be no more facts than are known.

    Raises:
        TrainingError: The preset does not exist or the batch does not come out in whole blocks.
    """
    return _spec(recipe, facts, training, {}, run_seed(recipe.seed, 0), ("", "", None))


def run_seed(recipe_seed: int, index: int) -> int:
    """Derive the seed of the `index`-th run on every mixture.

    All mixtures share it, so that their runs start from the same weights and differ by the mixture alone.
    """
    return seed_of(recipe_seed, RUNS, index)


def _proxy_seeds(recipe: Recipe, rung: Proxy, number: int | None) -> list[int]:
    """The seeds of a row's runs: those of the swarm, or of the further run with this number."""
    indices = range(rung.num_seeds)
    if number is None:
        return [run_seed(recipe.seed, index) for index in indices]
    return [seed_of(recipe.seed, "further run", number, index) for index in indices]


def _spec(
    recipe: Recipe,
    facts: CorpusFacts,
    training: Training,
    weights: Mapping[Any, float],
    seed: int,
    naming: tuple[str, str, str | None],
) -> RunSpec:
    mixture_id, split, scale = naming
    sources = None
    if isinstance(training, Train) and training.streaming:
        sources = {name: located(domain).model_dump(mode="json") for name, domain in recipe.domains.items()}
    arguments = merged_arguments(training.training_args)
    return RunSpec(
        mixture_id=mixture_id,
        split=split,
        scale=scale,
        seed=seed,
        weights=_plain(weights),
        model=model_config(training.model, facts),
        context_length=facts.context_length,
        num_train_tokens=training.num_train_tokens,
        num_batch_tokens=_batch_tokens(training, arguments, facts.context_length),
        training_args=arguments,
        num_evaluations=training.num_evaluations,
        num_scorings=_num_scorings(training),
        **identity_of(facts),
        sources=sources,
        start=_start(recipe, facts, training.model) if weights else None,
    )


def base_spec(recipe: Recipe, facts: CorpusFacts) -> RunSpec | None:
    """The run that makes what proxies start from; `None` where the recipe asks for none.

    Raises:
        MixtureError: Its mixture is none over the domains of the study.
        TrainingError: The preset does not exist or the batch does not come out in whole blocks.
    """
    base = recipe.proxy.model.pretrained
    if not isinstance(base, Base):
        return None
    shape = recipe.proxy.model.model_copy(update={"pretrained": None})
    training = recipe.proxy.model_copy(update={"model": shape, "num_train_tokens": base.num_train_tokens})
    weights = given_mixture(recipe, base.mixture, facts.available_tokens(recipe))
    naming = (base.mixture, "base", recipe.proxy.scale)
    return _spec(recipe, facts, training, weights, run_seed(recipe.seed, 0), naming)


def _start(recipe: Recipe, facts: CorpusFacts, model: Model) -> str | None:
    """What weights are called that a model starts from: final models have the base of the proxies."""
    if model.checkpoint is not None:
        return checkpoint_facts(model, facts).folder
    base = base_spec(recipe, facts) if model.pretrained is not None else None
    return base.run_id if base is not None else None


def _num_scorings(training: Training) -> int:
    every = isinstance(training, Proxy) and training.tasks_at == "evaluations"
    return training.num_evaluations if every else 1


def _batch_tokens(training: Training, arguments: Mapping[str, Any], context_length: int) -> int:
    """Tokens of one optimiser step: as asked, else what one device takes in one step."""
    per_step = arguments["per_device_train_batch_size"] * arguments["gradient_accumulation_steps"]
    if training.num_batch_tokens is None:
        return int(per_step * context_length)
    if training.num_batch_tokens % context_length:
        below = training.num_batch_tokens // context_length * context_length or context_length
        raise TrainingError(
            f"num_batch_tokens {training.num_batch_tokens} is no multiple of "
            f"context_length {context_length}.",
            f"write num_batch_tokens: {below}",
        )
    if "gradient_accumulation_steps" in training.training_args:
        raise TrainingError(
            f"training_args.gradient_accumulation_steps {arguments['gradient_accumulation_steps']} is given "
            f"beside num_batch_tokens {training.num_batch_tokens}, from which it follows.",
            "leave one of them out",
        )
    return training.num_batch_tokens
