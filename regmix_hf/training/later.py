"""What a run is measured on after it has ended, by the model that it kept: no training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from regmix_hf.files import write_json
from regmix_hf.quantities import BPB, error_column
from regmix_hf.study.names import EXPERTS, RESULT
from regmix_hf.training.measured import MEASURED_ON, measured_on
from regmix_hf.training.spec import RunSpec

if TYPE_CHECKING:
    from regmix_hf.corpus.corpus import Corpus
    from regmix_hf.study.corpus_facts import CorpusFacts
    from regmix_hf.training.examinee import Examinee


class KeptModelError(Exception):
    """A kept model is not what its run left: that run alone cannot be measured, so this stops no others."""


@dataclass(frozen=True)
class KeptRun:
    """A run that has ended and whose model is kept, and what that is asked now.

    Attributes:
        run: As its study would train it now.
        model: The folder of its model.
        sha256: Of the weights; `None`: the run did not say it.
        asked: What it was not measured on before, as in `RunSpec.measured`.
        halvings: How often the blocks at once are halved, because they did not fit into memory.
    """

    run: RunSpec
    model: Path
    sha256: str | None
    asked: dict[str, str]
    halvings: int = 0

    def part_of(self, facts: CorpusFacts) -> CorpusFacts:
        """What of a corpus it is asked about."""
        return facts.model_copy(
            update={
                "domains": {name: of for name, of in facts.domains.items() if name in self.asked},
                "tasks": {name: of for name, of in facts.tasks.items() if f"{BPB}{name}" in self.asked},
                "exams": {
                    name: of
                    for name, of in facts.exams.items()
                    if any(f"{name}/{metric}" in self.asked for metric in of.metrics)
                },
            }
        )

    def num_tokens(self, facts: CorpusFacts) -> int:
        """Tokens that its model reads for that."""
        part = self.part_of(facts)
        asked = [*part.tasks.values(), *part.exams.values()]
        return sum(of.validation.num_tokens for of in part.domains.values()) + sum(
            t.num_tokens for t in asked
        )


def measure_kept(spec: KeptRun, corpus: Corpus, folder: Path) -> None:
    """Measure a kept model as its run would have been measured at its end.

    Writes of an expert `experts.safetensors`, and then `result.json` into `folder`: both of what is asked.

    Raises:
        KeptModelError: The model is not what the run left.
        TrainingError: The training arguments cannot be used here.
    """
    from regmix_hf.training.asked import Asked
    from regmix_hf.training.experts import expert_of
    from regmix_hf.training.losses import ValidationSet, finite, loss_columns

    part = corpus.only(spec.part_of(corpus.facts))
    validation = ValidationSet(part) if part.facts.domains else None
    questions, of = Asked(part), _opened(spec, folder)
    losses = validation.losses(of) if validation else {}
    scores = {name: score for name, score in questions.scores(of).items() if name in spec.asked}
    row = {
        "run_id": spec.run.run_id,
        "status": "ok",
        **loss_columns(losses, part.facts),
        **{name: finite(score.mean) for name, score in scores.items()},
        **{error_column(name): finite(score.stderr) for name, score in scores.items()},
        MEASURED_ON: measured_on(spec.asked),
    }
    if spec.run.is_expert:
        expert_of(spec.run, of, validation, questions, part.facts).write(folder / EXPERTS)
    write_json(folder / RESULT, row)


def _opened(spec: KeptRun, folder: Path) -> Examinee:
    """Load the model as the run had it at its end."""
    from transformers import Trainer

    from regmix_hf.training.examinee import Examinee
    from regmix_hf.training.loss_head import score_in_parts
    from regmix_hf.training.models import build_config, load_model
    from regmix_hf.training.pretrained import hash_weights
    from regmix_hf.training.process import settle_process
    from regmix_hf.training.run import arguments_of

    if spec.sha256 is not None and hash_weights(spec.model) != spec.sha256:
        raise KeptModelError(
            f"{spec.model} is not the model that the run {spec.run.run_id} kept: remove it to do without its "
            f"values, or {spec.model.parent} to train the run again"
        )
    arguments = arguments_of(spec.run, folder, saves=False)
    if arguments.device.type == "cpu":
        settle_process()
    config = build_config(spec.run.model, spec.run.context_length)
    trainer = Trainer(model=load_model(config, spec.model), args=arguments)
    score_in_parts(trainer.model, train=False)
    model = trainer.accelerator.prepare_model(trainer.model, evaluation_mode=True)
    at_once = max(1, arguments.per_device_eval_batch_size >> spec.halvings)
    return Examinee(model, trainer.accelerator, at_once)


def asked_in_words(asked: Iterable[str]) -> str:
    """Name domains, tasks and metrics as a recipe does."""
    return ", ".join(name.removeprefix(BPB) for name in asked)
