"""Stage 7, `evaluate`: losses of every domain and tasks of lm-eval, for every final model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from regmix_hf.errors import RegmixError, StudyError
from regmix_hf.files import hash_value, read_parquet, read_record, write_json, write_parquet
from regmix_hf.jobs.devices import worker_slots
from regmix_hf.jobs.pool import run_tasks
from regmix_hf.jobs.tasks import Task
from regmix_hf.progress import Progress
from regmix_hf.recipe import Evaluation
from regmix_hf.stages.train import STAGE as TRAIN
from regmix_hf.study import Stage, Study
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.tables import RESULTS

STAGE = Stage(
    verb="evaluate",
    folder="7-evaluation",
    keys=("seed", "evaluation"),
    inputs=("1-corpus/corpus.json", "6-models/results.parquet"),
    outputs=("results.parquet",),
)


def run(study: Study, progress: Progress) -> None:
    """Evaluate the final models that are not evaluated yet, side by side, and collect `results.parquet`.

    One row per model, task, domain, number of examples and metric: `model` (its folder's name), `run_id`,
    `mixture_id`, `seed`, and the fields of `regmix_hf.evaluation.model.Score`.

    Raises:
        StudyError: There are no final models yet, or one is gone.
        RecipeError: lm-eval has no task of a name; no model is evaluated then.
        DataError: A task's documents cannot be had; no model is evaluated then.
        RegmixError: A model could not be evaluated; what the others gave is kept.
    """
    tasks = final_tasks(study, progress)
    study.require(study.corpus / "tokenizer", "prepare")  # a pulled study brings no text
    work = EvaluationWork(study.corpus, study.evaluation, study.recipe.evaluation, study.recipe.seed)
    for task in tasks:  # one that failed is tried again
        if work.status(task) == "failed":
            (task.folder / "result.json").unlink()
    slots = worker_slots(None, use_cpu=bool(study.recipe.train.training_args.get("use_cpu", False)))
    run_tasks(tasks, work, slots, logs=study.evaluation / "logs", progress=progress)
    results = [read_record(task.folder / "result.json", status=str) for task in tasks]
    for task, result in zip(tasks, results, strict=True):
        if result["status"] == "failed":
            raise RegmixError(
                f"the model {task.name} could not be evaluated: {result['reason']}",
                f"its last words are in {study.evaluation / 'logs'}; `regmix evaluate` tries again",
            )
    rows = [
        {"model": task.name, **task.spec.row, **score}
        for task, result in zip(tasks, results, strict=True)
        for score in result["scores"]
    ]
    write_parquet(study.evaluation / "results.parquet", pd.DataFrame(rows))
    study.finish(STAGE, {"num_models": len(tasks)})


@dataclass(frozen=True)
class FinalModel:
    """A trained model and what its scores depend on.

    Attributes:
        folder: Where `train` left it.
        row: `run_id`, `mixture_id` and `seed`, as in the table of results.
        fingerprint: Hash of the run, the corpus and how it is evaluated.
    """

    folder: Path
    row: dict[str, Any]
    fingerprint: str


@dataclass(frozen=True)
class EvaluationWork:
    """Evaluates final models, as the pool's work.

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

    def open(self) -> Callable[[Task], None]:
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
        if HELD_OUT_TEXT in self.evaluation.tasks:
            write_tasks(self.corpus, corpus.facts.domains, self.folder / "tasks")
        tasks = load_tasks(self.evaluation.tasks, self.folder / "tasks")
        shots = self.evaluation.num_fewshot
        num_fewshot = shots if isinstance(shots, list) else [shots]
        if device == "cpu":
            settle_process()

        def do(task: Task) -> None:
            model = LanguageModel(
                folder=task.spec.folder,
                tokenizer=self.corpus / "tokenizer",
                context_length=corpus.facts.context_length,
                eos_token_id=corpus.facts.eos_token_id,
                device=device,
            )
            scores = score_validation(model, corpus)
            scores += score_tasks(
                model, tasks, limit=self.evaluation.limit, num_fewshot=num_fewshot, seed=self.seed
            )
            self._record(task, "ok", scores=[asdict(score) for score in scores])

        return do

    def status(self, task: Task) -> str | None:
        """Read the status, unless the result is of another run or another way to evaluate."""
        file = task.folder / "result.json"
        if not file.exists():
            return None
        result = read_record(file, status=str, fingerprint=str)
        return str(result["status"]) if result["fingerprint"] == task.spec.fingerprint else None

    def fail(self, task: Task, reason: str) -> None:
        """Record that the model could not be evaluated."""
        self._record(task, "failed", reason=reason)

    def _record(self, task: Task, status: str, **content: Any) -> None:
        head = {"fingerprint": task.spec.fingerprint, "status": status, **task.spec.row}
        write_json(task.folder / "result.json", {**head, **content})


def final_tasks(study: Study, progress: Progress) -> Sequence[Task]:
    """One task per model of `6-models/results.parquet`, in its order, without those that diverged."""
    results = read_parquet(study.require(study.models / "results.parquet", "train"), RESULTS)
    facts = CorpusFacts.load(study.corpus)
    decisive = {
        "corpus": facts.fingerprint,
        "evaluation": study.recipe.evaluation.model_dump(mode="json"),
        "seed": study.recipe.seed,
    }
    markers = [
        (marker.parent, read_record(marker, mixture_id=str, run_id=str))
        for marker in sorted(study.models.glob("*/result.json"))
    ]
    folders = {(row["mixture_id"], row["run_id"]): folder for folder, row in markers}
    num_tokens = sum(domain.validation.num_tokens for domain in facts.domains.values())
    tasks = []
    for row in results.to_dict("records"):
        if row["status"] != "ok":
            progress.note(f"leaving out {row['mixture_id']} with seed {row['seed']}, which {row['status']}")
            continue
        folder = folders.get((row["mixture_id"], row["run_id"]))
        if folder is None and study.is_pulled:
            progress.note(f"leaving out {row['mixture_id']} with seed {row['seed']}: its model is not here")
            continue
        if folder is None:
            raise StudyError(
                f"{study.models} holds no model of {row['mixture_id']} with seed {row['seed']}.",
                f"remove {study.marker(TRAIN)} and run `regmix train` again",
            )
        spec = FinalModel(
            folder=folder,
            row={"run_id": row["run_id"], "mixture_id": row["mixture_id"], "seed": int(row["seed"])},
            fingerprint=hash_value({**decisive, "run_id": row["run_id"]}),
        )
        tasks.append(Task(folder.name, study.evaluation / folder.name, num_tokens, spec))
    if not tasks and study.is_pulled:
        raise StudyError(
            f"{study.models} holds no model.", "`regmix pull` brings them when told `--only mixture,model`"
        )
    return tasks
