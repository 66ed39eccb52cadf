"""Evaluations: losses and benchmark scores, each of one final model by one process on one device."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from regmix_hf.files import hash_value, write_json
from regmix_hf.jobs.tasks import Do, Task
from regmix_hf.recipe import Evaluation
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.study.names import RESULT

#: The key of a result that says of which run on which corpus it is, evaluated how.
_IDENTITY = "fingerprint"


@dataclass(frozen=True)
class FinalModel:
    """A trained model to evaluate.

    Attributes:
        folder: Where `train` left it.
        row: `run_id`, `mixture_id` and `seed`, as in the table of results.
        fingerprint: Hash of the run, the corpus and how it is evaluated.
    """

    folder: Path
    row: dict[str, Any]
    fingerprint: str

    @property
    def head(self) -> dict[str, Any]:
        """What its result says whatever becomes of it."""
        return {_IDENTITY: self.fingerprint, **self.row}


@dataclass(frozen=True)
class EvaluationWork:
    """Evaluates final models.

    Attributes:
        corpus: The folder that `prepare` wrote.
        folder: The stage's.
        evaluation: The recipe's section.
        seed: Picks the examples of few-shot tasks.
    """

    corpus: Path
    folder: Path
    evaluation: Evaluation
    seed: int

    def open(self) -> Do[FinalModel]:
        """Load all tasks, before any model is."""
        import torch

        from regmix_hf.corpus.corpus import Corpus
        from regmix_hf.evaluation.held_out_text import HELD_OUT_TEXT, write_tasks
        from regmix_hf.evaluation.model import LanguageModel
        from regmix_hf.evaluation.scores import score_tasks
        from regmix_hf.evaluation.tasks import load_tasks
        from regmix_hf.evaluation.validation import score_validation
        from regmix_hf.training.process import settle_process

        device = "cuda" if torch.cuda.is_available() else "cpu"
        corpus = Corpus(self.corpus)
        with tempfile.TemporaryDirectory() as place:  # of this worker alone: it is emptied, and read at once
            if HELD_OUT_TEXT in self.evaluation.tasks:
                write_tasks(self.corpus, corpus.facts.domains, Path(place))
            tasks = load_tasks(self.evaluation.tasks, Path(place), self.evaluation.include_path)
        shots = self.evaluation.num_fewshot
        num_fewshot = shots if isinstance(shots, list) else [shots]
        if device == "cpu":
            settle_process()

        def do(spec: FinalModel, folder: Path, on_tokens: Callable[[int], None]) -> None:
            model = LanguageModel(
                folder=spec.folder,
                tokenizer=self.corpus / "tokenizer",
                context_length=corpus.facts.context_length,
                eos_token_id=corpus.facts.eos_token_id,
                device=device,
            )
            scores = score_validation(model, corpus)
            scores += score_tasks(
                model, tasks, limit=self.evaluation.limit, num_fewshot=num_fewshot, seed=self.seed
            )
            head = {**spec.head, "status": "ok"}
            write_json(folder / RESULT, {**head, "scores": [asdict(score) for score in scores]})

        return do

    def smaller(self, spec: FinalModel) -> None:
        """The model itself must fit; batches are as small as lm-eval takes them."""


def evaluation_tasks(
    models: Sequence[tuple[Path, dict[str, Any]]],
    work: EvaluationWork,
    facts: CorpusFacts,
    own_tasks: Mapping[str, str],
) -> list[Task[FinalModel]]:
    """Return one task per final model, in order.

    Args:
        models: Folder and row (`run_id`, `mixture_id`, `seed`) of each.
        work: How they are evaluated.
        facts: Of the corpus.
        own_tasks: What tells the files of the user's own tasks from any others.
    """
    decisive = {
        "corpus": facts.fingerprint,
        "evaluation": work.evaluation.model_dump(mode="json", exclude={"include_path"}),
        **own_tasks,
        "seed": work.seed,
    }
    num_tokens = sum(domain.validation.num_tokens for domain in facts.domains.values())
    tasks = []
    for folder, row in models:
        spec = FinalModel(folder, row, hash_value({**decisive, "run_id": row["run_id"]}))
        tasks.append(Task(folder.name, work.folder / folder.name, num_tokens, spec, spec.head, _IDENTITY))
    return tasks
