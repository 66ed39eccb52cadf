"""What a study would take: runs, tokens, FLOPs, time and disk of every stage, touching nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regmix_hf import pipeline
from regmix_hf.jobs.devices import cuda_devices, num_cores
from regmix_hf.mixtures.budgets import token_budgets
from regmix_hf.mixtures.final import num_final_mixtures
from regmix_hf.recipe import Recipe
from regmix_hf.recipe.schema import Training
from regmix_hf.study import State, Study
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.training.arguments import merged_arguments
from regmix_hf.training.planned import known_facts, planned_model
from regmix_hf.training.presets import model_config

if TYPE_CHECKING:
    from regmix_hf.training.models import ModelFacts

#: Published search costs (RegMix, arXiv 2407.01492, section 4), for comparison. They are `6 N D`: six FLOPs
#: per weight and token, embedding, output head and attention scores left out.
PUBLISHED_SEARCH_FLOPS = {"RegMix": 3.5e18, "DoReMi": 3.7e19}

#: A speed measurement trains on no more than this many FLOPs per device kind, so that it takes seconds.
_MEASURED_FLOPS = {"cpu": 1e11, "cuda": 1e14}
_MEASURED_SECONDS = 1.5
#: A checkpoint holds weights and two moments in float32; `Trainer` keeps two beside the final weights.
_BYTES_PER_PARAMETER = 4 * (1 + 3 * 2)


@dataclass(frozen=True)
class StagePlan:
    """What one stage would take. `None`: not known before the stages ahead of it are done.

    Attributes:
        state: How far the stage is; a stage that is done takes nothing more.
        runs: Models to train or score.
        tokens: Tokens to train on, over all runs.
        flops: Of forward and backward passes, over all runs.
        seconds: Expected wall time on this machine.
        disk_bytes: Written, at the most.
    """

    verb: str
    state: State
    runs: int | None = None
    tokens: int | None = None
    flops: float | None = None
    seconds: float | None = None
    disk_bytes: int | None = None


@dataclass(frozen=True)
class Plan:
    """The stages, and what is worth knowing about the numbers."""

    stages: tuple[StagePlan, ...]
    notes: tuple[str, ...]


def make_plan(study: Study, *, first: str = pipeline.VERBS[0], last: str = pipeline.VERBS[-1]) -> Plan:
    """Plan the stages from `first` to `last` without writing anything.

    Raises:
        RegmixError: The recipe asks for a model, preset or training argument that does not exist.
    """
    recipe = study.recipe
    states = {stage.verb: stage.state for stage in pipeline.status(study)}
    facts = known_facts(study)
    speed = _Speed(recipe, facts) if facts else None
    planned = {
        "prepare": _plan_corpus(study, states["prepare"]),
        "proxies": _plan_runs("proxies", states["proxies"], recipe.proxy, _num_proxies(recipe), speed),
        "train": _plan_runs(
            "train", states["train"], recipe.train, num_final_mixtures(recipe) * recipe.train.num_seeds, speed
        ),
    }
    wanted = pipeline.stages_between(study, first, last)
    stages = tuple(planned.get(verb, StagePlan(verb, states[verb])) for verb in wanted)
    return Plan(stages, tuple(_notes(recipe, planned["proxies"], speed)))


def _num_proxies(recipe: Recipe) -> int:
    return (recipe.sampling.num_mixtures + recipe.sampling.num_holdout) * recipe.proxy.num_seeds


def _plan_corpus(study: Study, state: State) -> StagePlan:
    recipe = study.recipe
    budgets, declared = token_budgets(recipe), recipe.declared_tokens
    tokens = None
    if budgets is not None and declared is not None:
        tokens = sum(budgets.get(name, count) for name, count in declared.items())
    return StagePlan("prepare", state, tokens=tokens, disk_bytes=2 * tokens if tokens else None)


def _plan_runs(verb: str, state: State, training: Training, runs: int, speed: _Speed | None) -> StagePlan:
    tokens = runs * training.num_train_tokens
    if speed is None:
        return StagePlan(verb, state, runs, tokens)
    model = speed.model_facts(training)
    flops = tokens * model.train_flops_per_token
    seconds = speed.seconds(flops, runs, training)
    keeps = model.num_parameters * _BYTES_PER_PARAMETER if verb == "train" else 0
    return StagePlan(verb, state, runs, tokens, flops, seconds, runs * keeps)


class _Speed:
    """How fast this machine trains the proxy model, measured when first asked."""

    def __init__(self, recipe: Recipe, facts: CorpusFacts):
        self._recipe, self._facts = recipe, facts
        self._flops_per_second: float | None = None
        self.measured = False

    def model_facts(self, training: Training) -> ModelFacts:
        return planned_model(self._recipe, training, self._facts)

    def seconds(self, flops: float, runs: int, training: Training) -> float | None:
        """Expected wall time of `runs` runs side by side, or `None` where a step alone takes too long."""
        if not self.measured:
            self._flops_per_second, self.measured = self._measure(), True
        if self._flops_per_second is None:
            return None
        use_cpu = bool(training.training_args.get("use_cpu", False))
        devices = 0 if use_cpu else len(cuda_devices())
        workers = getattr(training, "num_workers", None) or devices or num_cores()
        return flops / (self._flops_per_second * min(workers, runs))

    def _measure(self) -> float | None:
        import torch

        from regmix_hf.training.loss_head import score_in_parts
        from regmix_hf.training.models import build_config, build_model

        proxy, context = self._recipe.proxy, self._recipe.context_length
        arguments = merged_arguments(proxy.training_args)
        device = "cpu" if arguments.get("use_cpu") or not torch.cuda.is_available() else "cuda"
        per_block = self.model_facts(proxy).train_flops_per_token * context
        batch = min(arguments["per_device_train_batch_size"], int(_MEASURED_FLOPS[device] / per_block))
        if batch < 1:
            return None
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            config = build_config(model_config(proxy.model, self._facts), context)
            model = build_model(config, seed=0).to(device)
            score_in_parts(model)
            blocks = torch.zeros((batch, context), dtype=torch.long, device=device)
            with torch.autocast(device, torch.bfloat16, enabled=bool(arguments.get("bf16"))):
                seconds = _seconds_per_step(model, blocks)
        finally:
            torch.set_num_threads(threads)
        return batch * per_block / seconds


def _seconds_per_step(model: Any, blocks: Any) -> float:
    """Mean time of forward and backward pass, after one to warm up."""
    start, steps = 0.0, -1
    while steps < 1 or time.perf_counter() - start < _MEASURED_SECONDS:
        model.zero_grad()
        model(input_ids=blocks, labels=blocks).loss.backward()
        float(next(model.parameters()).grad.sum())  # waits for the device
        steps += 1
        if steps == 0:
            start = time.perf_counter()
    return (time.perf_counter() - start) / steps


def _notes(recipe: Recipe, proxies: StagePlan, speed: _Speed | None) -> Iterator[str]:
    if budgets := token_budgets(recipe):
        there = sum(recipe.domains[name].num_tokens or 0 for name in budgets)
        yield (
            f"prepare: reads {sum(budgets.values()):.3g} of the {there:.3g} tokens of "
            f"{len(budgets)} streams, as much as a run can need"
        )
    if speed is None:
        yield f"FLOPs and time follow from the vocabulary of {recipe.tokenizer!r}, known after `prepare`"
    elif proxies.seconds is None:
        yield "time: not measured, because a single block takes this machine too long"
    else:
        yield "time: from a few steps of the proxy model, measured now on one worker; start-up adds to it"
    if speed is not None and proxies.tokens:
        published = ", ".join(f"{name} {flops:.1e}" for name, flops in PUBLISHED_SEARCH_FLOPS.items())
        counted = 6.0 * speed.model_facts(recipe.proxy).num_non_embedding_parameters * proxies.tokens
        yield (
            f"FLOPs of this search: {proxies.flops:.1e} with output head and attention; "
            f"{counted:.1e} counted as published searches are, without them: {published}"
        )
