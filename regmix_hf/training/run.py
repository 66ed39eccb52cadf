"""One run from its specification to its row of results."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from transformers.trainer import TRAINING_ARGS_NAME

from regmix_hf.corpus.live_stream import LiveStream
from regmix_hf.corpus.stream import MixtureStream
from regmix_hf.errors import TrainingError
from regmix_hf.files import read_record, write_json, write_parquet
from regmix_hf.quantities import error_column
from regmix_hf.recipe import Domain
from regmix_hf.study.names import EXPERTS, MODEL, RESULT, TRAJECTORY
from regmix_hf.tables import prefixed
from regmix_hf.training.arguments import build_arguments, with_saving
from regmix_hf.training.asked import Asked
from regmix_hf.training.blocks import TrainingBlocks
from regmix_hf.training.checkpoints import WholeCheckpoints, is_sharded, last_checkpoint, stream_state
from regmix_hf.training.experts import expert_of
from regmix_hf.training.first_rank import ReadByFirstRank
from regmix_hf.training.layout import step_layout
from regmix_hf.training.losses import Loss, ValidationSet, finite, loss_columns
from regmix_hf.training.measured import KEPT_MODEL, MEASURED_ON, measured_on
from regmix_hf.training.models import build_config, build_model, load_model, model_facts
from regmix_hf.training.pretrained import hash_weights, weights_of
from regmix_hf.training.process import settle_process
from regmix_hf.training.spec import RunSpec
from regmix_hf.training.trackers import close_trackers, log_beside
from regmix_hf.training.trainer import LOSS, SCORE, STDERR, MixtureTrainer
from regmix_hf.version import VERSION, installed

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, TrainingArguments

    from regmix_hf.corpus.corpus import Corpus

#: In the folder of a run, while it is not finished.
_SAVED = "checkpoints"
#: Whose versions a result names.
_DECISIVE_PACKAGES = ("torch", "transformers", "accelerate", "datasets", "numpy")


def train_run(
    spec: RunSpec, corpus: Corpus, folder: Path, on_tokens: Callable[[int], None] | None = None
) -> dict[str, Any]:
    """Train one proxy and measure it.

    Writes `trajectory.parquet`, of an expert `experts.safetensors`, where it is kept the model, and then, as
    the marker of a finished run, `result.json` into `folder`. A run that `folder` already holds finished is
    not done again. With `save_steps` among the training arguments it keeps checkpoints meanwhile and goes on
    from the last whole one, as `train_final`; else it begins anew.

    Args:
        spec: What to train.
        corpus: What to train and measure on.
        folder: Of this run alone; made when missing.
        on_tokens: Told after every step how many tokens the run has trained on.

    Returns:
        The row of `results` (see `regmix_hf.tables`), and `micro_batch`, the blocks at once on a device.
        `status` is `ok` or `diverged`; a diverged run has no losses (`None`). `num_train_tokens` is what was
        asked, rounded down to whole blocks.

    Raises:
        TrainingError: The model or the training arguments cannot be used.
    """
    if (done := _finished(spec, folder)) is not None:
        return done
    checkpoints = folder / _SAVED if "save_steps" in spec.training_args else None
    with closing(_Run(spec, corpus, folder, on_tokens, checkpoints)) as run:
        run.train()
        return run.record()


def train_base(
    spec: RunSpec, corpus: Corpus, folder: Path, on_tokens: Callable[[int], None] | None = None
) -> dict[str, Any]:
    """Like `train_run`, for a model that others start from: it stays in `folder`."""
    if (done := _finished(spec, folder)) is not None:
        return done
    with closing(_Run(spec, corpus, folder, on_tokens)) as run:
        run.train()
        run.save_model()
        return run.record()


def train_final(
    spec: RunSpec, corpus: Corpus, folder: Path, on_tokens: Callable[[int], None] | None = None
) -> dict[str, Any]:
    """Like `train_run`, for a model to keep: over all ranks of `accelerate launch`, with checkpoints.

    Goes on from the last whole checkpoint of this run in `folder/checkpoints`, and ends with the same numbers
    as a run that was never stopped (on a CPU bit for bit). Leaves model, tokenizer and generation config in
    `folder` before the marker. Rank 0 writes, every rank returns the row.
    """
    if (done := _finished(spec, folder)) is not None:
        return done
    with closing(_Run(spec, corpus, folder, on_tokens, checkpoints=folder / _SAVED)) as run:
        run.train()
        run.save_model()
        return run.record()


def _finished(spec: RunSpec, folder: Path) -> dict[str, Any] | None:
    """The row that `folder` holds of this very run, unless it failed."""
    marker = folder / RESULT
    if not marker.exists():
        return None
    row = read_record(marker, run_id=str, status=str)
    return row if row["run_id"] == spec.run_id and row["status"] != "failed" else None


class _Run:
    """One run in one folder, from its parts to its record."""

    def __init__(
        self,
        spec: RunSpec,
        corpus: Corpus,
        folder: Path,
        on_tokens: Callable[[int], None] | None,
        checkpoints: Path | None = None,
    ):
        self._started = time.monotonic()
        self._spec = spec
        self._corpus = corpus
        self._folder = folder
        self._checkpoints = checkpoints
        config = build_config(spec.model, spec.context_length)
        if config.vocab_size < corpus.facts.vocab_size:
            raise TrainingError(
                f"model.vocab_size {config.vocab_size} is below the tokenizer's {corpus.facts.vocab_size}.",
                "leave it out, or write a larger one",
            )
        self._model_facts = model_facts(config, spec.context_length)
        arguments = arguments_of(spec, checkpoints or folder, saves=checkpoints is not None)
        if arguments.device.type == "cpu":
            settle_process()
        if arguments.torch_compile and arguments.mixed_precision != "no":
            # Autocast ties what is compiled to one model, and torch compiles one function eight times only:
            # the ninth run of a process would not be compiled.
            torch.compiler.reset()
        self._live = _live_stream(spec, corpus, arguments) if spec.sources is not None else None
        self._stream = self._live or MixtureStream(
            corpus, spec.weights, spec.num_blocks, spec.seed, part=spec.part
        )
        shared = self._live is not None and arguments.world_size > 1
        self._validation, self._asked = ValidationSet(corpus), Asked(corpus)
        self._trainer = MixtureTrainer(
            spec,
            _model(spec, config, corpus),
            arguments,
            TrainingBlocks(ReadByFirstRank(self._stream) if shared else self._stream, spec.batch_blocks),
            self._validation,
            self._asked,
            self._model_facts.train_flops_per_token,
            on_tokens,
        )
        log_beside(folder, self._trainer)
        if checkpoints is not None:
            keep = arguments.save_total_limit or 1
            arguments.save_total_limit = None  # `WholeCheckpoints` removes the old ones
            state_of = self._state_of if self._live else None
            self._trainer.add_callback(
                WholeCheckpoints(self._trainer.accelerator, spec.run_id, keep, state_of)
            )

    def train(self) -> None:
        """Train to the end, from the last whole checkpoint if there is one."""
        start = last_checkpoint(self._checkpoints, self._spec.run_id) if self._checkpoints else None
        if start is not None and is_sharded(start) != self._trainer.is_fsdp_enabled:
            how = "without" if self._trainer.is_fsdp_enabled else "with"
            raise TrainingError(
                f"{start} was written {how} FSDP, and a run goes on from it {how} FSDP only.",
                f"launch it {how} FSDP as before, or remove {start.parent} to begin anew",
            )
        if self._live and start and self._trainer.is_world_process_zero():
            self._live.restore(stream_state(start))
        self._trainer.train(resume_from_checkpoint=str(start) if start else None)
        close_trackers(self._trainer)

    def close(self) -> None:
        """Stop reading, where blocks are made while training."""
        if self._live:
            self._live.close()

    def _state_of(self, step: int) -> dict[str, Any]:
        assert self._live is not None
        return self._live.state(min(step * self._spec.batch_blocks, self._spec.num_blocks))

    def save_model(self) -> None:
        """Leave a folder that `AutoModelForCausalLM` and `AutoTokenizer` load."""
        self._whole_model()
        if self._trainer.is_fsdp_enabled:  # checkpoints may be in shards, the model is whole
            self._trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
        self._trainer.save_model(str(self._folder))
        if self._trainer.is_world_process_zero():
            (self._folder / TRAINING_ARGS_NAME).unlink(missing_ok=True)  # a pickle nobody needs
            self._corpus.tokenizer().save_pretrained(str(self._folder))

    def _whole_model(self) -> PreTrainedModel:
        """The model as it is for whoever loads it."""
        model: PreTrainedModel = self._trainer.accelerator.unwrap_model(self._trainer.model)
        model.config.use_cache = True  # off only while training
        if model.generation_config.pad_token_id is None:
            model.generation_config.pad_token_id = self._corpus.facts.eos_token_id
        return model

    def _keep_model(self) -> str:
        """Leave the weights of a proxy in its folder; the tokenizer is the corpus's. Return their hash."""
        self._whole_model().save_pretrained(self._folder / MODEL)
        return hash_weights(self._folder / MODEL)

    def record(self) -> dict[str, Any]:
        """Write trajectory and result, and return the row."""
        row, trajectory = self._row(), self._trajectory()
        if self._trainer.is_world_process_zero():
            write_parquet(self._folder / TRAJECTORY, trajectory)
            if self._spec.is_expert and not self._trainer.diverged:
                parts = self._trainer.examinee, self._validation, self._asked, self._corpus.facts
                expert_of(self._spec, *parts).write(self._folder / EXPERTS)
            if self._spec.keeps_model and not self._trainer.diverged:
                row[KEPT_MODEL] = self._keep_model()
            write_json(self._folder / RESULT, row)
            if self._checkpoints is not None:
                shutil.rmtree(self._checkpoints, ignore_errors=True)
        self._trainer.accelerator.wait_for_everyone()
        return row

    def _measured(self) -> list[dict[str, float]]:
        """What was logged at each evaluation, checkpointed ones included."""
        log = self._trainer.state.log_history
        return [entry for entry in log if any(name.startswith(LOSS) for name in entry)]

    def _trajectory(self) -> pd.DataFrame:
        spec, domains = self._spec, self._corpus.facts.domains
        columns = ["run_id", "step", "num_tokens", *(f"loss/{name}" for name in domains)]
        columns += spec.scored
        rows = [
            (
                spec.run_id,
                entry["step"],
                spec.tokens_at(int(entry["step"])),
                *(entry[LOSS + n] for n in domains),
                *(entry.get(SCORE + name, math.nan) for name in spec.scored),
            )
            for entry in self._measured()
        ]
        return pd.DataFrame(rows, columns=columns)

    def _row(self) -> dict[str, Any]:
        spec, trainer, facts = self._spec, self._trainer, self._corpus.facts
        trained = min(trainer.state.global_step * spec.batch_blocks, spec.num_blocks)
        realized, epochs = self._stream.realized(trained), self._stream.epochs(trained)
        last = {} if trainer.diverged else self._measured()[-1]
        packages = [f"{name} {installed(name)}" for name in _DECISIVE_PACKAGES]
        losses = {n: Loss(last[LOSS + n], last[STDERR + n]) if last else None for n in facts.domains}
        return {
            "run_id": spec.run_id,
            "mixture_id": spec.mixture_id,
            "split": spec.split,
            "scale": spec.scale or self._model_facts.scale,
            "seed": spec.seed,
            "status": "diverged" if trainer.diverged else "ok",
            "num_train_tokens": spec.num_tokens,
            "num_parameters": self._model_facts.num_parameters,
            **prefixed("weight", spec.weights),
            **prefixed("realized", {name: realized.get(name, 0.0) for name in spec.weights}),
            **prefixed("epochs", {name: epochs.get(name, 0.0) for name in spec.weights}),
            **loss_columns(losses, facts),
            **{name: last.get(SCORE + name) for name in spec.scored},
            **{name: finite(last.get(SCORE + name)) for name in map(error_column, spec.scored)},
            "wall_seconds": time.monotonic() - self._started,
            "device": _device_name(trainer.args),
            "micro_batch": trainer.args.per_device_train_batch_size,
            "versions": ", ".join([f"regmix_hf {VERSION}", *packages]),
            MEASURED_ON: measured_on(spec.measured),
        }


def _model(spec: RunSpec, config: PreTrainedConfig, corpus: Corpus) -> PreTrainedModel:
    if spec.start is None:
        return build_model(config, spec.seed)
    return load_model(config, weights_of(corpus.folder, spec.start))


def _live_stream(spec: RunSpec, corpus: Corpus, arguments: TrainingArguments) -> LiveStream:
    """The run's blocks straight from the text.

    Raises:
        TrainingError: Processes would have to share one reading.
    """
    if arguments.dataloader_num_workers:
        raise TrainingError(
            f"training_args.dataloader_num_workers {arguments.dataloader_num_workers} is given beside "
            "train.streaming, where one process reads.",
            "leave it out: reading and tokenizing have threads of their own",
        )
    sources = {name: Domain.model_validate(words) for name, words in (spec.sources or {}).items()}
    return LiveStream(corpus, sources, spec.weights, spec.num_blocks, spec.seed)


def arguments_of(spec: RunSpec, output_dir: Path, *, saves: bool) -> TrainingArguments:
    """The run's `TrainingArguments`, laid out for the devices of this process group."""
    arguments = build_arguments(
        with_saving(spec.training_args, saves=saves),
        {
            "output_dir": str(output_dir),
            "seed": spec.seed,
            "max_steps": spec.num_steps,
            "run_name": f"{spec.mixture_id}-{spec.run_id}",
        },
    )
    if arguments.n_gpu > 1:
        raise TrainingError(
            f"one process sees {arguments.n_gpu} GPUs.",
            "start it with `accelerate launch`, one process per GPU",
        )
    layout = step_layout(spec.batch_blocks, arguments.per_device_train_batch_size, arguments.world_size)
    arguments.per_device_train_batch_size = layout.micro_batch
    arguments.gradient_accumulation_steps = layout.accumulation
    return arguments


def _device_name(arguments: TrainingArguments) -> str:
    kind = arguments.device.type
    name = torch.cuda.get_device_name(arguments.device) if kind == "cuda" else kind
    return name if arguments.world_size == 1 else f"{arguments.world_size} x {name}"
