"""From the results in the runs' folders to the two tables of a stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from regmix_hf.files import read_parquet, read_record, write_json, write_parquet
from regmix_hf.jobs.claims import claim
from regmix_hf.jobs.tasks import Task
from regmix_hf.tables import TRAJECTORIES, prefixed
from regmix_hf.training.spec import RunSpec

#: Key of a failed run's `result.json` that is in no table.
_REASON = "reason"


def result_of(task: Task) -> dict[str, Any] | None:
    """Read the result of the run `task`; `None` when its folder holds none, or one of another run."""
    file = task.folder / "result.json"
    if not file.exists():
        return None
    result = read_record(file, run_id=str, status=str)
    return result if result["run_id"] == task.spec.run_id else None


def write_failed(task: Task, reason: str) -> None:
    """Record that the run failed: what is known of it without training."""
    spec: RunSpec = task.spec
    write_json(
        task.folder / "result.json",
        {
            "run_id": spec.run_id,
            "mixture_id": spec.mixture_id,
            "split": spec.split,
            "scale": spec.scale,
            "seed": spec.seed,
            "status": "failed",
            "num_train_tokens": spec.num_tokens,
            **prefixed("weight", spec.weights),
            _REASON: reason,
        },
    )


def reason_of(task: Task) -> str:
    """Tell why a failed run failed."""
    result = result_of(task)
    return str(result[_REASON]) if result else "it has no result"


def forget_failed(tasks: Sequence[Task]) -> int:
    """Remove the results of failed runs, so that they are tried again; return how many there were."""
    count = 0
    for task in tasks:
        if is_failed(task):
            with claim(task.folder) as granted:
                if granted and is_failed(task):
                    (task.folder / "result.json").unlink()
                    count += 1
    return count


def is_failed(task: Task) -> bool:
    """Tell whether the run ended as `failed`."""
    result = result_of(task)
    return result is not None and result["status"] == "failed"


def collect(tasks: Sequence[Task], folder: Path) -> pd.DataFrame:
    """Write what `gather` reads as `results.parquet` and `trajectories.parquet`.

    Args:
        tasks: Runs that all have a result.
        folder: Of the stage; what other runs left in it stays out.

    Returns:
        The table of results.
    """
    results, trajectories = gather(tasks)
    write_parquet(folder / "trajectories.parquet", trajectories)
    write_parquet(folder / "results.parquet", results)
    return results


def gather(tasks: Sequence[Task]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the tables of results and of trajectories of runs that all have a result, in their order.

    A mixture's name, split and scale are those of now: they are no part of a run, and an earlier recipe may
    have called them otherwise.
    """
    rows, trajectories = [], []
    for task in tasks:
        row = result_of(task)
        assert row is not None, f"{task.name} has no result"
        names = {"mixture_id": task.spec.mixture_id, "split": task.spec.split}
        scale = {"scale": task.spec.scale} if task.spec.scale else {}
        rows.append({**row, **names, **scale})
        if row["status"] != "failed":
            trajectories.append(read_parquet(task.folder / "trajectory.parquet", TRAJECTORIES))
    return _table(rows), pd.concat(trajectories, ignore_index=True)


def _table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row per run; the columns, and their order, are those of the runs that were trained."""
    trained = next(row for row in rows if row["status"] != "failed")
    table = pd.DataFrame(rows, columns=[column for column in trained if column != _REASON])
    measured = [column for column in table.columns if "/" in column]
    return table.astype(dict.fromkeys(measured, "float64"))
