"""Runs that were trained and published elsewhere, put where `proxies` finds them done."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from regmix_hf.errors import HubError
from regmix_hf.files import hash_value, write_json, write_parquet
from regmix_hf.hub import Hub, Snapshot, fetch, remote_table
from regmix_hf.jobs.claims import claim
from regmix_hf.jobs.proxies import proxy_tasks
from regmix_hf.jobs.results import result_of, row_with_later
from regmix_hf.jobs.tasks import Task
from regmix_hf.mixtures.table import read_mixtures
from regmix_hf.readable import count_of
from regmix_hf.runs.experts import Experts
from regmix_hf.runs.published import EXPERTS_FILE, check_experts, check_results
from regmix_hf.study import Study, names
from regmix_hf.study.address import Address
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.tables import TRAJECTORIES
from regmix_hf.training.measured import KEPT_MODEL, MEASURED_ON, measured_on, not_measured
from regmix_hf.training.spec import RunSpec, proxy_specs


@dataclass(frozen=True)
class Brought:
    """What came.

    Attributes:
        runs: How many runs.
        answers: How many runs that were here came with what they had been asked since, elsewhere.
    """

    runs: int = 0
    answers: int = 0

    def __str__(self) -> str:
        """As a note says it; nothing where nothing came."""
        runs = f"{count_of(self.runs, 'run')} published before" if self.runs else ""
        answers = f"what {count_of(self.answers, 'run')} had been asked elsewhere" if self.answers else ""
        came = " and ".join(filter(None, (runs, answers)))
        return f"fetched {came}" if came else ""


def bring_runs(hub: Hub, study: Study) -> Brought:
    """Fetch those of the study's proxies that its repository of runs has and its folder has not.

    The name of a run says all that decides it, so what has it is that run, whoever trained it. Failed runs
    are left there, and so are those that somebody is at here. Of runs that are here and kept no model to be
    asked by, it fetches what they are asked by now and were not at their end, if others could ask them.

    Raises:
        HubError: The repository cannot be read, or holds no table of runs.
    """
    facts, mixtures = CorpusFacts.load(study.corpus), read_mixtures(study.mixtures)
    tasks = proxy_tasks(proxy_specs(study.recipe, facts, mixtures), study.proxies)
    wanted = {task.name: task for task in tasks if (ended := result_of(task)) is None or _lacks(task, ended)}
    snapshot = hub.find(Address.of(study.recipe).runs) if wanted else None
    if snapshot is None:
        return Brought()
    results, trajectories = (
        remote_table(hub, snapshot, name) for name in (names.RESULTS, names.TRAJECTORIES)
    )
    if results is None or trajectories is None:
        return Brought()
    check_results(results, f"{snapshot.repository}: {names.RESULTS}")
    if fault := TRAJECTORIES.fault(trajectories):
        raise HubError(f"{snapshot.repository}: {names.TRAJECTORIES} {fault}.")
    experts = published_experts(hub, snapshot, results)
    points = dict(tuple(trajectories.groupby("run_id", sort=False)))
    came: Counter[str] = Counter()
    for row in results.to_dict("records"):
        task = wanted.get(str(row["run_id"]))
        if task is None or row["status"] == "failed" or task.name not in points:
            continue
        with claim(task.folder) as granted:
            here = result_of(task)
            if granted and here is None:
                write_run(task.folder, row, points[task.name], experts)
                came["runs"] += 1
            elif granted and here is not None:
                came["answers"] += _write_answers(task, here, row, experts)
    return Brought(**came)


def _lacks(task: Task[RunSpec], row: Mapping[str, Any]) -> bool:
    """Whether a run that ended well was not measured on all of now, and has no model that can be asked."""
    return row["status"] == "ok" and KEPT_MODEL not in row and bool(_unasked(task, row))


def _unasked(task: Task[RunSpec], row: Mapping[str, Any]) -> dict[str, str]:
    return not_measured(row_with_later(task, row), task.spec)


def _write_answers(
    task: Task[RunSpec], here: Mapping[str, Any], there: Mapping[Hashable, Any], experts: Experts | None
) -> bool:
    """Write what a run was asked elsewhere where its own model's answers would lie; tell whether it was."""
    row = {str(key): _plain(value) for key, value in there.items()}
    left = not_measured(row, task.spec) if isinstance(row.get(MEASURED_ON), str) else task.spec.measured
    asked = {name: sha256 for name, sha256 in _unasked(task, here).items() if name not in left}
    if not asked or row["status"] != "ok":
        return False
    words = measured_on(asked)
    folder = task.folder / names.LATER / hash_value(words)[:16]
    if experts is not None and task.name in experts.weights.index:
        experts.of_run(task.name).of_targets(asked).write(folder / names.EXPERTS)
    write_json(folder / names.RESULT, {**row, MEASURED_ON: words})
    return True


def published_experts(hub: Hub, snapshot: Snapshot, results: pd.DataFrame) -> Experts | None:
    """Read what a repository of runs holds of its experts; `None`: nothing.

    Raises:
        HubError: It is damaged, too large, or of other runs.
    """
    if names.EXPERTS not in snapshot.files:
        return None
    with tempfile.TemporaryDirectory() as folder:
        fetch(hub, snapshot, (EXPERTS_FILE,), Path(folder))
        return check_experts(Path(folder), results, str(snapshot.repository))


def write_run(
    folder: Path, row: Mapping[Hashable, Any], points: pd.DataFrame, experts: Experts | None = None
) -> None:
    """Write what a run leaves in its folder, its result last.

    Args:
        folder: Of the run.
        row: Of the table of results.
        points: Its trajectory.
        experts: Those that came with the table, the run among them or not.
    """
    write_parquet(folder / names.TRAJECTORY, points)
    if experts is not None and row["run_id"] in experts.weights.index:
        experts.of_run(str(row["run_id"])).write(folder / names.EXPERTS)
    write_json(folder / names.RESULT, {str(key): _plain(value) for key, value in row.items()})


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
