"""Runs that were trained and published elsewhere, put where `proxies` finds them done."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from regmix_hf.errors import HubError
from regmix_hf.files import write_json, write_parquet
from regmix_hf.hub import Hub, Snapshot, fetch, remote_table
from regmix_hf.jobs.claims import claim
from regmix_hf.jobs.proxies import proxy_tasks
from regmix_hf.jobs.results import result_of
from regmix_hf.mixtures.table import read_mixtures
from regmix_hf.runs.experts import Experts
from regmix_hf.runs.published import EXPERTS_FILE, check_experts, check_results
from regmix_hf.study import Study, names
from regmix_hf.study.address import Address
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.tables import TRAJECTORIES
from regmix_hf.training.spec import proxy_specs


def bring_runs(hub: Hub, study: Study) -> int:
    """Fetch those of the study's proxies that its repository of runs has and its folder has not.

    The name of a run says all that decides it, so what has it is that run, whoever trained it. Failed runs
    are left there, and so are those that somebody is at here.

    Returns:
        How many came.

    Raises:
        HubError: The repository cannot be read, or holds no table of runs.
    """
    facts, mixtures = CorpusFacts.load(study.corpus), read_mixtures(study.mixtures)
    tasks = proxy_tasks(proxy_specs(study.recipe, facts, mixtures), study.proxies)
    missing = {task.name: task for task in tasks if result_of(task) is None}
    snapshot = hub.find(Address.of(study.recipe).runs) if missing else None
    if snapshot is None:
        return 0
    results, trajectories = (
        remote_table(hub, snapshot, name) for name in (names.RESULTS, names.TRAJECTORIES)
    )
    if results is None or trajectories is None:
        return 0
    check_results(results, f"{snapshot.repository}: {names.RESULTS}")
    if fault := TRAJECTORIES.fault(trajectories):
        raise HubError(f"{snapshot.repository}: {names.TRAJECTORIES} {fault}.")
    experts = published_experts(hub, snapshot, results)
    points = dict(tuple(trajectories.groupby("run_id", sort=False)))
    count = 0
    for row in results.to_dict("records"):
        task = missing.get(str(row["run_id"]))
        if task is None or row["status"] == "failed" or task.name not in points:
            continue
        with claim(task.folder) as granted:
            if granted and result_of(task) is None:
                write_run(task.folder, row, points[task.name], experts)
                count += 1
    return count


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
