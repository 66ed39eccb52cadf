"""How tasks ended: the result in each one's folder, and the two tables that a stage makes of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

from regmix_hf.files import damaged, read_json, read_parquet, read_record, write_json, write_parquet
from regmix_hf.jobs.claims import Claim, Watch
from regmix_hf.jobs.tasks import Task
from regmix_hf.readable import count_of
from regmix_hf.runs.experts import Experts, joined
from regmix_hf.study import names
from regmix_hf.tables import TRAJECTORIES, Columns
from regmix_hf.training.measured import (
    KEPT_MODEL,
    MEASURED_ON,
    row_of_now,
    trajectories_of_now,
    with_later,
    without_unmeasured,
)
from regmix_hf.training.pretrained import hash_weights

if TYPE_CHECKING:
    from regmix_hf.training.spec import RunSpec

S = TypeVar("S")
#: Keys of a result that are in no table: why a run failed, how many blocks it had to take at once, and the
#: hash of its model.
_REASON, _NOT_IN_TABLES = "reason", {"reason", "micro_batch", KEPT_MODEL}
#: How a run may have ended.
_ENDS = ("ok", "diverged", "failed")


def result_of(task: Task[Any], room: Path | None = None) -> dict[str, Any] | None:
    """Read the result of `task`; `None` when its folder, or the room, holds none, or that of another task."""
    folder = room or task.folder
    file = folder / names.RESULT
    if not file.exists():
        return None
    result = _read(file)
    if result["status"] == "ok" and not all((folder / name).exists() for name in task.leaves):
        return None
    return result if result.get(task.identity) == task.head[task.identity] else None


def _read(file: Path) -> dict[str, Any]:
    result = read_record(file, status=str)
    if result["status"] not in _ENDS:
        raise damaged(file, f"says of how the run ended {result['status']!r}, not {', '.join(_ENDS)}")
    for name, value in result.items():  # weights, losses and metrics have a slash in their names
        if "/" in name and not isinstance(value, int | float | None):
            raise damaged(file, f"holds no number for {name!r} but {value!r}")
    return result


def is_done_in(room: Path, task: Task[Any]) -> bool:
    """Tell whether an attempt at `task` ended well in `room`."""
    return result_of(task, room) is not None


def bring(task: Task[Any], room: Path, held: Claim) -> str | None:
    """Move what an attempt left in its room to the task's folder, the result last.

    Files leave a room by renaming, and whoever takes a claim over takes the room over by renaming, before he
    looks into it. So of several who did the same task, all files are those of one.

    Returns:
        How the task ended; `None` when the attempt gave no result.

    Raises:
        LostClaimError: Somebody else has the task by now, and records it.
    """
    held.check_now()
    if not is_done_in(room, task):
        return None
    for path in sorted(room.iterdir(), key=lambda path: (path.name == names.RESULT, path.name)):
        target = task.folder / path.name
        if path.is_dir():
            shutil.rmtree(target, ignore_errors=True)
        try:
            path.rename(target)
        except FileNotFoundError:
            held.check_now()
            raise
    room.rmdir()
    return status_of(task)


def status_of(task: Task[Any]) -> str | None:
    """Tell how a task ended (`ok`, `diverged`, `failed`), or `None` when it has not."""
    result = result_of(task)
    return str(result["status"]) if result else None


def record_failed(task: Task[Any], reason: str) -> None:
    """Record that the task failed: what is known of it without doing it, and why."""
    write_json(task.folder / names.RESULT, {**task.head, "status": "failed", _REASON: reason})


def done_once(tasks: Sequence[Task[S]]) -> dict[str, Task[S]]:
    """Return the task that does each piece of work, by its identity: several may be one, under two names.

    It is the one whose folder holds the result; where none does, the first.
    """
    found: dict[str, Task[S]] = {}
    for task in tasks:
        first = found.setdefault(task.head[task.identity], task)
        if first is not task and result_of(first) is None and result_of(task) is not None:
            found[task.head[task.identity]] = task
    return found


def reason_of(task: Task[Any]) -> str:
    """Tell why a failed task failed."""
    result = result_of(task)
    return str(result[_REASON]) if result else "it has no result"


def is_failed(task: Task[Any]) -> bool:
    """Tell whether the task ended as `failed`."""
    return status_of(task) == "failed"


def forget_failed(tasks: Sequence[Task[Any]]) -> int:
    """Remove the results of failed tasks, so that they are tried again; return how many there were."""
    count, watch = 0, Watch()
    for task in tasks:
        if is_failed(task):
            with watch.claim(task.folder) as granted:
                if granted and is_failed(task):
                    (task.folder / names.RESULT).unlink()
                    count += 1
    return count


def row_with_later(task: Task[RunSpec], row: Mapping[str, Any]) -> dict[str, Any]:
    """Put what a run's kept model was asked after its end into its row."""
    later = [_read(file) for file in sorted(task.folder.glob(f"{names.LATER}/*/{names.RESULT}"))]
    return with_later(row, [one for one in later if one["status"] == "ok"], task.spec)


def collect(tasks: Sequence[Task[RunSpec]], folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write `results.parquet` and `trajectories.parquet` from the results of these runs, in their order.

    Beside them `experts.safetensors`, where there are experts.

    What other runs left in `folder` stays out. A mixture's name, split and scale are those of now, and so is
    what losses are measured on: they are no part of a run, and an earlier recipe may have said otherwise.
    Trajectories that the tables there hold already are not read from their own files again.

    Args:
        tasks: Runs that all have a result, one at least that did not fail.
        folder: Of the stage.

    Returns:
        The table of results and that of trajectories.
    """
    rows, new, known = [], {}, _Collected(folder)
    for task in tasks:
        row = result_of(task)
        assert row is not None, f"{task.name} has no result"
        rows.append(row_of_now(row_with_later(task, row), task.spec))
        if row["status"] != "failed" and not known.holds(task, rows[-1]):
            new[task.spec.run_id] = read_parquet(task.folder / names.TRAJECTORY, TRAJECTORIES)
    ids = [row["run_id"] for row in rows if row["status"] != "failed"]
    results = _table(rows)
    trajectories = trajectories_of_now(_in_order([known.trajectories, *new.values()], ids), results)
    write_parquet(folder / names.TRAJECTORIES, trajectories)
    _collect_experts(tasks, folder / names.EXPERTS)
    write_parquet(folder / names.RESULTS, results)
    return results, trajectories


def check_whole(folder: Path) -> str:
    """Read every result in a stage's folder, and models that runs kept; return how many there are, in words.

    Raises:
        StudyError: One is damaged.
    """
    files = sorted(folder.glob(f"*/{names.RESULT}"))
    results = [(file.parent / names.MODEL, _read(file)) for file in files]
    kept = [(model, row[KEPT_MODEL]) for model, row in results if KEPT_MODEL in row and model.exists()]
    for model, sha256 in kept:
        if hash_weights(model) != sha256:
            raise damaged(model, "is not the model that its run kept")
    later = [_read(file) for file in sorted(folder.glob(f"*/{names.LATER}/*/{names.RESULT}"))]
    said = f"{folder.name}: {count_of(len(results) + len(later), 'result')} can be read"
    return f"{said}, and {count_of(len(kept), 'kept model')} as runs left them" if kept else said


def _collect_experts(tasks: Sequence[Task[RunSpec]], file: Path) -> None:
    """Write what is known of all experts that ended well; no file where there are none."""
    parts = [
        whole.of_now(task.spec.measured)
        for task in tasks
        if names.EXPERTS in task.leaves and (whole := _expert(task.folder)) is not None
    ]
    if parts:
        joined(parts).write(file)
    else:
        file.unlink(missing_ok=True)


def with_former_names(specs: Iterable[RunSpec], folders: Iterable[Path]) -> list[RunSpec]:
    """Give the runs that version 0.1 finished the names it gave them; all others are named anew.

    Args:
        specs: Runs.
        folders: Where version 0.1 would have left each: as it named the run, or as the mixture is called.
    """
    return [
        replace(spec, name=spec.former_id) if _holds(folder, spec.former_id) else spec
        for spec, folder in zip(specs, folders, strict=True)
    ]


def _holds(folder: Path, run_id: str) -> bool:
    result = folder / names.RESULT
    return result.exists() and read_json(result)["run_id"] == run_id


def _expert(folder: Path) -> Experts | None:
    """What is known of one, what it was asked after its end included; `None`: it did not end well."""
    if not (folder / names.EXPERTS).exists():
        return None
    whole = Experts.read(folder / names.EXPERTS)
    for file in sorted(folder.glob(f"{names.LATER}/*/{names.EXPERTS}")):
        whole = whole.asked_more(Experts.read(file))
    return whole


def ended_well(folder: Path) -> dict[str, str]:
    """Tell from a stage's table of results how runs ended, by their ids; without those that failed."""
    file = folder / names.RESULTS
    if not file.exists():
        return {}
    table = read_parquet(file, Columns(("run_id", "status")))
    ended = table[table["status"] != "failed"]
    return dict(zip(ended["run_id"], ended["status"], strict=True))


class _Collected:
    """The trajectories that the tables in a folder hold since an earlier collection."""

    def __init__(self, folder: Path):
        files = [folder / names.TRAJECTORIES, folder / names.RESULTS]
        self.trajectories = pd.DataFrame()
        self._measured: dict[str, str | None] = {}
        if all(file.exists() for file in files):
            self.trajectories = read_parquet(files[0])
            results = read_parquet(files[1])
            measured = results[MEASURED_ON] if MEASURED_ON in results else [None] * len(results)
            self._measured = dict(zip(results["run_id"], measured, strict=True))
            self._written_at = files[0].stat().st_mtime_ns

    def holds(self, task: Task[RunSpec], row: Mapping[str, Any]) -> bool:
        """Whether the run's trajectory is there, of the result that it has now, on what is measured now."""
        if task.spec.run_id not in self._measured:
            return False
        is_of_now = self._measured[task.spec.run_id] == row[MEASURED_ON]
        if is_of_now and (task.folder / names.RESULT).stat().st_mtime_ns < self._written_at:
            return True
        self.trajectories = self.trajectories[self.trajectories["run_id"] != task.spec.run_id]
        return False


def _in_order(parts: Sequence[pd.DataFrame], ids: Sequence[str]) -> pd.DataFrame:
    """One table with the rows of these runs only, run by run in the order of `ids`."""
    table = pd.concat([part for part in parts if len(part)] or parts[-1:], ignore_index=True)
    place = table["run_id"].map({run_id: k for k, run_id in enumerate(ids)})
    order = place.sort_values(kind="stable").dropna().index
    return table.loc[order].reset_index(drop=True)


def _table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row per run; the columns, and their order, are those of the runs that were trained."""
    trained = next(row for row in rows if row["status"] != "failed")
    table = pd.DataFrame(rows, columns=[column for column in trained if column not in _NOT_IN_TABLES])
    measured = [column for column in table.columns if "/" in column]
    return without_unmeasured(table.astype(dict.fromkeys(measured, "float64")))
