"""What a study would take: runs, tokens, FLOPs, time and disk of every stage, touching nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from regmix_hf import pipeline
from regmix_hf.corpus.local_files import local_domains
from regmix_hf.errors import HubError
from regmix_hf.jobs.devices import cuda_devices, num_cores
from regmix_hf.jobs.gpus import Fleet
from regmix_hf.jobs.results import result_of
from regmix_hf.mixtures.budgets import token_budgets
from regmix_hf.mixtures.final import num_final_mixtures
from regmix_hf.mixtures.table import CONFIRM, empty, read_mixtures
from regmix_hf.placement import hub_jobs
from regmix_hf.readable import count_of, short
from regmix_hf.recipe import Recipe
from regmix_hf.recipe.model import Base
from regmix_hf.recipe.schema import CHOSEN
from regmix_hf.recipe.training import Training
from regmix_hf.runs.spending import advice
from regmix_hf.stages import train
from regmix_hf.stages.choose import most_to_try
from regmix_hf.stages.prepare import as_prepared
from regmix_hf.stages.proxies import told_of_later
from regmix_hf.study import State, Study
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.training.arguments import merged_arguments
from regmix_hf.training.device import uses_cpu
from regmix_hf.training.planned import known_facts, planned_model
from regmix_hf.training.presets import model_config
from regmix_hf.training.spec import planned_spec

if TYPE_CHECKING:
    from regmix_hf.training.models import ModelFacts

#: Published search costs (RegMix, arXiv 2407.01492, section 4), for comparison. They are `6 N D`: six FLOPs
#: per weight and token, embedding, output head and attention scores left out.
PUBLISHED_SEARCH_FLOPS = {"RegMix": 3.5e18, "DoReMi": 3.7e19}

#: A speed measurement trains on no more than this many FLOPs per device kind, so that it takes seconds.
_MEASURED_FLOPS = {"cpu": 1e11, "cuda": 1e14}
_MEASURED_SECONDS = 1.5
#: Above this share of a proxy's training its tasks are said to cost much.
_MOST_FOR_TASKS = 0.1
#: Which is reckoned with where nothing names one: the one that recipes were measured on.
_USUAL_GPU = "h200"
#: In float32. A checkpoint also holds two moments; `Trainer` keeps two beside the final weights.
_BYTES_PER_PARAMETER, _COPIES_OF_FINAL = 4, 1 + 3 * 2
#: Of text on the Hub, for a first guess at what is downloaded; before compression.
_BYTES_PER_TOKEN = 4


@dataclass(frozen=True)
class StagePlan:
    """What is left of one stage. `None`: not known before the stages ahead of it are done.

    Attributes:
        state: How far the stage is; one after a stage that is not done is not done either.
        rung: Which proxies it is about, where they are of several sizes or lengths.
        runs: Models to train or score, those that are done included.
        left: Of these, those to train still.
        tokens: Tokens to train on still, or to read, over all runs that are left.
        flops: Of their forward and backward passes.
        seconds: Expected wall time: on this machine, or with the GPUs that the recipe names.
        gpu_hours: Of all GPUs together, where there are any.
        disk_bytes: Written, at the most.
        download_bytes: Read over the network, about.
    """

    verb: str
    state: State
    rung: str | None = None
    runs: int | None = None
    left: int | None = None
    tokens: int | None = None
    flops: float | None = None
    seconds: float | None = None
    gpu_hours: float | None = None
    disk_bytes: int | None = None
    download_bytes: int | None = None


@dataclass(frozen=True)
class Plan:
    """The stages, and what is worth knowing about the numbers."""

    stages: tuple[StagePlan, ...]
    notes: tuple[str, ...]

    def total(self, name: str) -> Any:
        """What all stages take together of one attribute, as far as it is known; `None`: of none it is."""
        known = [value for stage in self.stages if (value := getattr(stage, name)) is not None]
        return sum(known) if known else None


def make_plan(study: Study, *, first: str = pipeline.VERBS[0], last: str = pipeline.VERBS[-1]) -> Plan:
    """Plan the stages from `first` to `last` without writing anything.

    Raises:
        RegmixError: The recipe asks for a model, preset or training argument that does not exist.
    """
    recipe = study.recipe
    states = _states(study)
    speed = _Speed(recipe, facts) if (facts := known_facts(study)) else None
    further = 0 if states["choose"] is State.DONE else most_to_try(study)

    def planned(verb: str) -> Iterator[StagePlan]:
        match verb:
            case "prepare":
                yield _plan_corpus(study, states[verb])
            case "proxies":
                yield from _plan_proxies(study, states, speed, further)
            case "train":
                num_runs = num_final_mixtures(recipe) * recipe.train.num_seeds
                left = _num_left(study, verb, states, num_runs)
                plan = StagePlan(verb, states[verb], None, num_runs, left)
                yield _plan_runs(plan, recipe.train, speed, left * _COPIES_OF_FINAL)
            case _:
                yield StagePlan(verb, states[verb])

    stages = tuple(one for verb in pipeline.stages_between(study, first, last) for one in planned(verb))
    return Plan(stages, tuple(_notes(study, speed, further)))


def _num_proxies(study: Study) -> list[int]:
    """Proxies of each size and length, experts, and those in the table that try a choice."""
    recipe, table = study.recipe, read_mixtures(study.mixtures) if study.mixtures.exists() else empty(())
    swarm = recipe.sampling.num_mixtures + recipe.sampling.num_holdout + _num_experts(recipe)
    tried = table.loc[table["origin"] == CONFIRM, "rung"]
    asked = [swarm, *(rung.num_mixtures or 0 for rung in recipe.proxies[1:])]
    return [
        (count + int((tried == number).sum())) * rung.num_seeds
        for number, (count, rung) in enumerate(zip(asked, recipe.rungs.values(), strict=True))
    ]


def _num_experts(recipe: Recipe) -> int:
    """One for each training domain, where the recipe asks for experts."""
    return len(recipe.training_domains) if recipe.sampling.experts else 0


def _plan_proxies(
    study: Study, states: Mapping[str, State], speed: _Speed | None, further: int
) -> Iterator[StagePlan]:
    """Plan the proxies of each size and length; those that may yet try a choice are of the last."""
    rungs, counts = study.recipe.rungs, _num_proxies(study)
    for number, ((section, rung), count) in enumerate(zip(rungs.items(), counts, strict=True)):
        more = further if number == len(rungs) - 1 else 0
        name = f"{section} ({rung.scale})" if rung.scale else section
        left = _num_left(study, "proxies", states, count, number) + more
        plan = StagePlan("proxies", states["proxies"], name if len(rungs) > 1 else None, count + more, left)
        experts = 0 if number else _num_experts(study.recipe) * rung.num_seeds
        kept = {None: 0, "experts": min(left, experts), "all": left}[rung.keep_models]
        yield _plan_runs(plan, rung, speed, kept)


def _plan_corpus(study: Study, state: State) -> StagePlan:
    recipe = study.recipe
    if state is State.DONE:
        return StagePlan("prepare", state, tokens=0, disk_bytes=0, download_bytes=0)
    budgets, declared = token_budgets(recipe), recipe.declared_tokens
    far = recipe.domains.keys() - local_domains(recipe)
    if budgets is None or declared is None:
        return StagePlan("prepare", state, download_bytes=None if far else 0)
    read = {name: budgets.get(name, count) for name, count in declared.items()}
    tokens = sum(read.values())
    download = sum(count for name, count in read.items() if name in far) * _BYTES_PER_TOKEN
    return StagePlan("prepare", state, tokens=tokens, disk_bytes=2 * tokens, download_bytes=download)


def _plan_runs(counted: StagePlan, training: Training, speed: _Speed | None, copies: int) -> StagePlan:
    """Plan what the runs that are left of a stage take, which write so many copies of a model's weights."""
    left = counted.left or 0
    tokens = left * training.num_train_tokens
    if speed is None:
        return replace(counted, tokens=tokens)
    model = speed.model_facts(training)
    flops = tokens * model.train_flops_per_token
    return replace(
        counted,
        tokens=tokens,
        flops=flops,
        seconds=speed.seconds(flops, left, training) if left else 0.0,
        gpu_hours=speed.gpu_hours(flops) if left else 0.0,
        disk_bytes=copies * model.num_parameters * _BYTES_PER_PARAMETER,
    )


def _num_left(study: Study, verb: str, states: Mapping[str, State], runs: int, rung: int = 0) -> int:
    """Runs of a stage to train still: all where the text, those of `chosen` where it may yet be another."""
    if states[verb] is State.DONE:
        return 0
    known = study if study.is_pulled or states["prepare"] is State.DONE else as_prepared(study)
    if known is None or (verb == "train" and known.recipe.training_domains != study.recipe.training_domains):
        return runs
    if (censuses := pipeline.censuses_of(known, verb)) is None:
        return runs
    census = censuses[rung]
    if verb == "proxies" and states["sample"] is not State.DONE:  # what is there stays
        return max(0, runs - census.num_done)
    left = len(census.running) + len(census.failed) + census.num_left
    if verb == "train" and states["choose"] is not State.DONE and CHOSEN in study.recipe.train.mixtures:
        left += sum(result_of(task) is not None for task in train.tasks_of(known, [CHOSEN]))
    return left


class _Speed:
    """How fast the proxy model is trained: by GPUs that the recipe names, else measured when first asked."""

    def __init__(self, recipe: Recipe, facts: CorpusFacts):
        self._recipe, self._facts = recipe, facts
        self.fleet = Fleet.of(recipe.executor)
        self._flops_per_second: float | None = None
        self.measured = False

    def model_facts(self, training: Training) -> ModelFacts:
        return planned_model(self._recipe, training, self._facts)

    def seconds(self, flops: float, runs: int, training: Training) -> float:
        """Expected wall time of `runs` runs side by side."""
        if self.fleet is None and not self.measured:
            self._flops_per_second, self.measured = self._measure(), True
            if self._flops_per_second is None:  # a model for GPUs, on a machine without any
                self.fleet = Fleet(
                    _USUAL_GPU, getattr(training, "num_workers", None) or 1, self._recipe.executor.utilisation
                )
        if self.fleet is not None:
            return flops / (self.fleet.flops_per_second * min(self.fleet.count, runs))
        assert self._flops_per_second is not None, "it was measured"
        devices = 0 if uses_cpu(training.training_args) else len(cuda_devices())
        workers = getattr(training, "num_workers", None) or devices or num_cores()
        return flops / (self._flops_per_second * min(workers, runs))

    def gpu_hours(self, flops: float) -> float | None:
        """Hours of all GPUs together; `None` where time is that of this machine."""
        return None if self.fleet is None else flops / self.fleet.flops_per_second / 3600

    def _measure(self) -> float | None:
        import torch

        from regmix_hf.training.loss_head import score_in_parts
        from regmix_hf.training.models import build_config, build_model

        proxy, context = self._recipe.proxy, self._recipe.context_length
        arguments = merged_arguments(proxy.training_args)
        device = "cpu" if uses_cpu(arguments) or not torch.cuda.is_available() else "cuda"
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


def _note_on_cost(study: Study, speed: _Speed) -> Iterator[str]:
    """What jobs of the Hub would cost, at the Hub's prices of now."""
    recipe = study.recipe
    if recipe.executor.place != "jobs" or speed.fleet is None:
        return
    from regmix_hf.hub import Hub

    flavor = recipe.executor.jobs.flavor
    hours = sum(one.seconds or 0.0 for one in _plan_proxies(study, _states(study), speed, 0)) / 3600
    workers = recipe.executor.num_workers
    try:
        price = hub_jobs(study, "proxies").prices(Hub()).get(flavor)
    except HubError as error:
        yield f"cost: not known, {error.message}"
        return
    if price is None:
        yield f"cost: not known, the Hub has no price for {flavor!r}"
        return
    yield (
        f"cost of the proxies: {count_of(workers, 'job')} x {hours:.1f} h x {price:.2f} USD/h = "
        f"{workers * hours * price:.2f} USD"
    )


def _states(study: Study) -> dict[str, State]:
    return {stage.verb: stage.state for stage in pipeline.status(study)}


def _note_on_tasks(study: Study) -> str:
    """How much of a proxy's cost it is to score its tasks; a forward pass is a third of training."""
    recipe, facts = study.recipe, CorpusFacts.find(study.corpus)
    told = ", ".join(f"proxy.{key}" for key in ("tasks", "metrics") if getattr(recipe.proxy, key))
    num_tasks = len({*recipe.proxy.tasks, *recipe.proxy.judged})
    said = f"{told}: each proxy is scored on {count_of(num_tasks, 'task')}"
    if facts is None or facts.scored.keys() != set(recipe.proxy.scored):
        return f"{said}; how many tokens that is, is known after `prepare`"
    spec = planned_spec(recipe, facts, recipe.proxy)
    times = len(spec.scoring_steps)
    asked = [*facts.tasks.values(), *facts.exams.values()]
    tokens = times * sum(task.num_tokens for task in asked)
    share = tokens / 3 / recipe.proxy.num_train_tokens
    said = f"{said}, {short(tokens)} tokens in {times} x, {share:.1%} of what its training costs"
    return f"{said}; `proxy.task_limit` makes it less" if share > _MOST_FOR_TASKS else said


def _note_on_repetition(study: Study) -> str | None:
    """How often proxies that repeat as final runs do will read domains; `None`: it is not known yet."""
    recipe, facts = study.recipe, CorpusFacts.find(study.corpus)
    tokens = facts.available_tokens(recipe) if facts else recipe.declared_tokens
    if tokens is None:
        return None
    least, length = min(tokens, key=lambda name: tokens[name]), recipe.train.num_train_tokens
    return (
        f"proxy.match_repetition: a proxy reads {recipe.proxy.num_train_tokens / length:.3g} of each domain, "
        f"as often as a final run all of it: at the prior {length / sum(tokens.values()):.3g} times, with "
        f"all weight on {least!r}, which has the least, {length / tokens[least]:.3g} times"
    )


def _notes(study: Study, speed: _Speed | None, further: int) -> Iterator[str]:
    recipe = study.recipe
    if further:
        yield (
            f"proxies: at most {further} of them come after `choose`, to try what was chosen "
            f"(choice.num_confirm {recipe.choice.num_confirm}, in at most {recipe.choice.num_rounds} rounds)"
        )
    if experts := _num_experts(recipe) * recipe.proxy.num_seeds:
        asked = sum(_num_proxies(study)) + further
        yield (
            f"sampling.experts: {experts} of the {asked} proxies are experts of one domain each, "
            f"{experts / asked:.0%} of the runs"
        )
    if recipe.runs is None and _states(study)["proxies"] is not State.DONE:
        spent = recipe.sampling.num_mixtures + _num_experts(recipe)
        yield from advice(len(recipe.training_domains), spent, recipe.proxy.num_train_tokens)
    yield from told_of_later(study)
    if recipe.proxy.match_repetition and (said := _note_on_repetition(study)):
        yield said
    if len(local_domains(recipe)) < len(recipe.domains):
        yield f"downloads: about {_BYTES_PER_TOKEN} bytes a token of text that is not on this machine"
    if budgets := token_budgets(recipe):
        there = sum(recipe.domains[name].num_tokens or 0 for name in budgets)
        yield (
            f"prepare: reads {short(sum(budgets.values()))} of the {short(there)} tokens of "
            f"{count_of(len(budgets), 'stream')}, as much as a run can need"
        )
    if isinstance(base := recipe.proxy.model.pretrained, Base):
        length = short(base.num_train_tokens)
        yield f"proxy.model.pretrained: one model is trained before the proxies, on {length} tokens"
    if recipe.proxy.scored:
        yield _note_on_tasks(study)
    if speed is None:
        yield f"FLOPs and time follow from the vocabulary of {recipe.tokenizer!r}, known after `prepare`"
    elif speed.fleet is not None:
        too_long = speed.measured and not recipe.executor.gpu
        why = ", as one block takes this machine too long" if too_long else ""
        yield (
            f"time: from FLOPs, with {speed.fleet}{why}; start-up and evaluations add to it. "
            "`executor.gpu` and `executor.utilisation` say otherwise"
        )
        yield from _note_on_cost(study, speed)
    elif not speed.measured:
        yield "time: nothing is left to train"
    else:
        yield "time: from a few steps of the proxy model, measured now on one worker; start-up adds to it"
    if speed is not None:
        counted = whole = 0.0
        counts = _num_proxies(study)
        counts[-1] += further
        for rung, count in zip(recipe.rungs.values(), counts, strict=True):
            model, tokens = speed.model_facts(rung), count * rung.num_train_tokens
            counted += 6.0 * model.num_non_embedding_parameters * tokens
            whole += tokens * model.train_flops_per_token
        published = ", ".join(f"{name} {flops:.1e}" for name, flops in PUBLISHED_SEARCH_FLOPS.items())
        yield (
            f"FLOPs of this search: {whole:.1e} with output head and attention; "
            f"{counted:.1e} counted as published searches are, without them: {published}"
        )
