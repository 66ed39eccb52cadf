"""Stage 7, `evaluate`: losses of every domain and tasks of lm-eval, for every final model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from regmix_hf.errors import RegmixError, StudyError
from regmix_hf.evaluation.stamp import stamp_own_tasks
from regmix_hf.files import read_parquet, read_record, write_parquet
from regmix_hf.jobs.evaluations import EvaluationWork, FinalModel, evaluation_tasks
from regmix_hf.jobs.place import Place, place_of
from regmix_hf.jobs.results import done_once, forget_failed
from regmix_hf.jobs.tasks import Task
from regmix_hf.progress import Progress
from regmix_hf.stages.train import STAGE as TRAIN
from regmix_hf.study import Stage, Study, names
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.study.origin import require_accepted
from regmix_hf.tables import RESULTS

STAGE = Stage(
    verb="evaluate",
    folder=names.EVALUATION,
    keys=("seed", "evaluation"),
    inputs=(
        f"{names.CORPUS}/{names.CORPUS_FACTS}",
        f"{names.REGRESSION}/{names.FIT_SUMMARY}",
        f"{names.MIXTURE}/{names.CHOSEN_MIXTURE}",
        f"{names.MODELS}/{names.RESULTS}",
    ),
    outputs=(names.RESULTS,),
    outside=stamp_own_tasks,
)


def run(study: Study, progress: Progress, place: Place[EvaluationWork] | None = None) -> None:
    """Evaluate the final models that are not evaluated yet, side by side, and collect `results.parquet`.

    One row per model, task, domain, number of examples and metric: `model` (its folder's name), `run_id`,
    `mixture_id`, `seed`, and the fields of `regmix_hf.evaluation.model.Score`. Then what was promised for the
    mixtures is compared with what was measured (`regmix_hf.evaluation.promises`).

    Args:
        study: With final models.
        progress: Shown how far it is.
        place: Where they are evaluated; by default where the recipe says.

    Raises:
        StudyError: There are no final models yet, or one is gone.
        RecipeError: lm-eval has no task of a name; no model is evaluated then.
        DataError: A task's documents cannot be had; no model is evaluated then.
        RegmixError: A model could not be evaluated; what the others gave is kept.
    """
    from regmix_hf.evaluation.promises import write_promises

    by_name = tasks_of(study, progress)
    study.require(study.corpus / "tokenizer", "prepare")  # a pulled study brings no text
    require_accepted(study)
    done_by = done_once(by_name)
    tasks = list(done_by.values())
    forget_failed(tasks)
    counts = (place or _place_of(study)).run(tasks, _work_of(study), progress)
    if others := len(tasks) - counts.total():
        progress.note(f"{others} of {len(tasks)} evaluations are being done by others")
        return
    results = {name: read_record(task.folder / names.RESULT, status=str) for name, task in done_by.items()}
    for task, result in zip(tasks, results.values(), strict=True):
        if result["status"] == "failed":
            raise RegmixError(
                f"the model {task.name} could not be evaluated: {result['reason']}",
                f"its last words are in {task.folder / names.LOG}; `regmix evaluate` tries again",
            )
    rows = [
        {"model": task.name, **task.spec.row, **score}
        for task in by_name
        for score in results[task.spec.fingerprint]["scores"]
    ]
    write_parquet(study.evaluation / names.RESULTS, pd.DataFrame(rows))
    write_promises(study)
    study.finish(STAGE, {"num_models": len(by_name)})


def tasks_of(study: Study, progress: Progress) -> list[Task[FinalModel]]:
    """One task per model of `6-models/results.parquet`, in its order, without those that diverged.

    Several names of one mixture are one model.

    Raises:
        StudyError: There are no final models yet, or one is gone.
    """
    models = _final_models(study, progress)
    own_tasks = stamp_own_tasks(study.recipe)
    return evaluation_tasks(models, _work_of(study), CorpusFacts.load(study.corpus), own_tasks)


def _place_of(study: Study) -> Place[EvaluationWork]:
    """Where the recipe says that models are evaluated: on this machine, one per GPU or core, or on Ray."""
    return place_of(study.recipe.executor, study.evaluation, study.recipe.train.training_args)


def _work_of(study: Study) -> EvaluationWork:
    return EvaluationWork(study.corpus, study.evaluation, study.recipe.evaluation, study.recipe.seed)


def _final_models(study: Study, progress: Progress) -> list[tuple[Path, dict[str, Any]]]:
    """Folder and row of every final model that is to be evaluated."""
    results = read_parquet(study.require(study.models / names.RESULTS, "train"), RESULTS)
    markers = [
        (marker.parent, read_record(marker, mixture_id=str, run_id=str))
        for marker in sorted(study.models.glob(f"*/{names.RESULT}"))
    ]
    folders = {(row["mixture_id"], row["run_id"]): folder for folder, row in markers}
    models = []
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
        models.append(
            (folder, {key: row[key] for key in ("run_id", "mixture_id")} | {"seed": int(row["seed"])})
        )
    if not models and study.is_pulled:
        raise StudyError(
            f"{study.models} holds no model.", "`regmix pull` brings them when told `--only mixture,model`"
        )
    return models
