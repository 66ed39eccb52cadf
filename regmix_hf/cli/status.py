"""`regmix status`: how far every stage is, and its runs."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from regmix_hf.cli import tables as kinds
from regmix_hf.cli.arguments import OutputFormat, Overrides, RecipePath, command, open_study
from regmix_hf.cli.console import Console, Format
from regmix_hf.cli.tables import Table
from regmix_hf.study import State
from regmix_hf.study.table_fit import TableFit

if TYPE_CHECKING:
    from regmix_hf.jobs.census import Census
    from regmix_hf.pipeline import StageStatus
    from regmix_hf.study import Study

#: Seconds between two looks with `--watch`.
_WATCH_INTERVAL_S = 5.0


def status(
    recipe: RecipePath,
    overrides: Overrides = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Say it again and again, until all is done.")
    ] = False,
    format: OutputFormat = Format.HUMAN,
) -> None:
    """Say how far every stage and its runs are, and what changed since."""
    console = Console(format)
    if (fit := TableFit.find(recipe)) is not None:
        _show_fit(fit, console)
        return
    study = open_study(recipe, overrides)
    study.check_owner()
    while (verb := _show(study, console)) and watch:
        time.sleep(_WATCH_INTERVAL_S)
    if verb:
        console.next(command(verb, recipe, overrides))
    else:
        console.note(f"All done: read {study.page}")


def _show(study: Study, console: Console) -> str | None:
    """Print the tables; return the verb that goes on (`status`: others elsewhere are at it), if any does."""
    from regmix_hf import pipeline
    from regmix_hf.jobs.census import Census
    from regmix_hf.jobs.hub_jobs import UNDER_WAY
    from regmix_hf.stages.proxies import told_of_later

    stages = pipeline.status(study)
    # What is left of a stage that waits for another one is not known yet; `run --dry-run` says the most.
    parts = {
        stage.verb: None if stage.standing.after else pipeline.censuses_of(study, stage.verb)
        for stage in stages
    }
    censuses = {verb: None if part is None else Census.total(part) for verb, part in parts.items()}
    known = [census for census in censuses.values() if census]
    queued, jobs = list(_queued(study, stages, console)), _jobs(study, console)
    tables = [
        Table(kinds.STAGES, [_stage_row(study, stage, censuses[stage.verb]) for stage in stages], "stages"),
        Table(kinds.RUNGS, _rung_rows(study, parts["proxies"] or []), "proxies by size and length"),
        Table(kinds.RUNNING, [row for census in known for row in _running(census)], "running"),
        Table(kinds.QUEUE, queued, "workers in Slurm's queue"),
        Table(kinds.JOBS, jobs, "jobs on the Hub"),
        Table(kinds.FAILED, [row for census in known for row in _failed(census)], "failed"),
    ]
    console.tables([table for table in tables if table.rows])
    for said in told_of_later(study):
        console.note(said)
    wanted = pipeline.stages_of(study)
    if all(stage.state is State.DONE for stage in stages if stage.verb in wanted):
        return None
    return "status" if queued or any(job["state"] in UNDER_WAY for job in jobs) else "run"


def _show_fit(fit: TableFit, console: Console) -> None:
    """Print the table of a fit on tables, and what comes next."""
    folders = {"fit": fit.regression, "choose": fit.root, "report": fit.report}
    standings = fit.standings()
    rows = [
        {"stage": verb, "state": str(one.state), "reason": one.reason, "folder": str(folders[verb])}
        for verb, one in standings.items()
    ]
    console.tables([Table(kinds.STAGES, rows, "stages")])
    left = next((verb for verb, one in standings.items() if one.state is not State.DONE), None)
    asked, choice = fit.asked, fit.choice
    again = {"fit": asked.command, "choose": choice.command if choice else ()}
    if left is None:
        console.note(f"All done: read {fit.page}")
    else:
        console.next(shlex.join(["regmix", *(again.get(left) or (left, str(fit.root)))]))


def _stage_row(study: Study, stage: StageStatus, census: Census | None) -> dict[str, object]:
    row: dict[str, object] = {
        "stage": stage.verb,
        "state": "running" if census and census.running else str(stage.state),
        "reason": stage.standing.reason,
    }
    folder = {"folder": str(study.root / stage.folder)}
    if census is None or (study.is_pulled and stage.state is State.DONE and census.num_left):
        return {**row, **folder}  # the final models of a pulled study were trained and lie elsewhere
    return {**row, **_counts(census), **folder}


def _counts(census: Census) -> dict[str, object]:
    return {
        "left": census.num_left,
        "runs_done": sum(count for status, count in census.ended.items() if status != "failed"),
        "failed": len(census.failed),
        "running": len(census.running),
        "seconds_left": census.seconds_left,
    }


def _rung_rows(study: Study, censuses: list[Census]) -> list[dict[str, object]]:
    """How far the proxies of each size and length are, where there are several."""
    if len(censuses) < 2:
        return []
    about = {"scale", "num_train_tokens"}
    return [
        {"rung": section, **rung.model_dump(include=about), **_counts(census)}
        for (section, rung), census in zip(study.recipe.rungs.items(), censuses, strict=True)
    ]


def _queued(study: Study, stages: list[StageStatus], console: Console) -> Iterator[Mapping[str, object]]:
    """What Slurm says of the arrays that stages were submitted as."""
    from regmix_hf.errors import TrainingError
    from regmix_hf.jobs.slurm import Queue
    from regmix_hf.placement import PLACED

    for stage in stages:
        if stage.verb in PLACED:
            try:
                queue = Queue.read(study.root / stage.folder)
            except TrainingError as error:
                console.note(f"warning: {error.message}")
            else:
                yield from queue.rows if queue else ()


def _jobs(study: Study, console: Console) -> list[dict[str, object]]:
    """What the Hub says of the study's jobs, where any were started."""
    from regmix_hf.errors import HubError
    from regmix_hf.jobs.hub_jobs import were_submitted
    from regmix_hf.placement import hub_jobs

    if not were_submitted(study.proxies):
        return []
    from regmix_hf.hub import Hub

    try:
        return list(hub_jobs(study, "proxies").rows(Hub(progress=console)))
    except HubError as error:
        console.note(f"warning: what the Hub knows of the jobs is not known: {error.message}")
        return []


def _running(census: Census) -> list[dict[str, object]]:
    return [
        {
            "run": task.name,
            "host": doer.host,
            "pid": doer.pid,
            "since": time.strftime("%Y-%m-%d %H:%M:%S%z", time.localtime(doer.since)),
            "tokens_per_second": doer.tokens_per_second,
        }
        for task, doer in census.running
    ]


def _failed(census: Census) -> list[dict[str, object]]:
    alike: dict[str, list[str]] = {}
    for task, reason in census.failed:
        alike.setdefault(reason, []).append(task.name)
    return [{"runs": len(names), "first": names[0], "why": reason} for reason, names in alike.items()]
