"""Evaluations: losses and benchmark scores, each of one final model by one process on one device."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from regmix_hf.files import hash_value, write_json
from regmix_hf.jobs.tasks import Do, OutOfMemoryError, Task, telling_out_of_memory
from regmix_hf.recipe import Evaluation
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.study.names import RESULT

if TYPE_CHECKING:
    from regmix_hf.evaluation.model import LanguageModel

#: The key of a result that says of which run on which corpus it is, evaluated how.
_IDENTITY = "fingerprint"


@dataclass(frozen=True)
class FinalModel:
    """A trained model to evaluate.

    Attributes:
        folder: Where `train` left it.
        row: `run_id`, `mixture_id` and `seed`, as in the table of results.
        fingerprint: Hash of the run, the corpus and how it is evaluated.
        halvings: How often the texts at once were halved, because they did not fit into memory.
    """

    folder: Path
    row: dict[str, Any]
    fingerprint: str
    halvings: int = 0

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
                halvings=spec.halvings,
            )
            with _telling_out_of_memory(model):
                scores = score_validation(model, corpus)
                scores += score_tasks(
                    model, tasks, limit=self.evaluation.limit, num_fewshot=num_fewshot, seed=self.seed
                )
            head = {**spec.head, "status": "ok", "batch_size": model.batch_size}
            write_json(folder / RESULT, {**head, "scores": [asdict(score) for score in scores]})

        return do

    def smaller(self, spec: FinalModel) -> FinalModel:
        """Half as many texts at once; whoever does one at a time says himself that it is too much."""
        return replace(spec, halvings=spec.halvings + 1)

    def moved(self, place: Callable[[Path], Path]) -> Self:
        """Read the corpus, and the user's own tasks, where `place` has them."""
        evaluation = self.evaluation
        if evaluation.include_path is not None:
            there = place(Path(evaluation.include_path))
            evaluation = evaluation.model_copy(update={"include_path": str(there)})
        return replace(self, corpus=place(self.corpus), evaluation=evaluation)

    def brought(self, spec: FinalModel, place: Callable[[Path], Path]) -> FinalModel:
        """Read the model where `place` has it."""
        return replace(spec, folder=place(spec.folder))


@contextmanager
def _telling_out_of_memory(model: LanguageModel) -> Iterator[None]:
    """Raise `OutOfMemoryError` where fewer texts at once need less memory."""
    try:
        with telling_out_of_memory():
            yield
    except OutOfMemoryError as error:
        if model.batch_size > 1:
            raise
        raise RuntimeError(f"not even one text at once fits into memory: {error}") from error


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
