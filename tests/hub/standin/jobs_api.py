"""Routes about jobs: a command in a container, here a process of this machine. Bodies hold secrets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from .messages import Answer, Request, page, route
from .store import RefusalError


@dataclass
class Job:
    """A job that was started."""

    id: str
    spec: dict[str, object]
    process: subprocess.Popen[bytes]
    log: Path
    is_canceled: bool = False
    began: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def stage(self) -> str:
        if self.is_canceled:
            return "CANCELED"
        code = self.process.poll()
        return "RUNNING" if code is None else "ERROR" if code else "COMPLETED"


@route("GET", "/api/jobs/hardware")
def list_hardware(request: Request) -> Answer:
    known = {"cpu-basic": 167, "l4x1": 13_333}
    return Answer.json(
        [
            {"name": name, "prettyName": name, "cpu": "2 vCPU", "ram": "16 GB", "unitLabel": "minute"}
            | {"unitCostMicroUSD": cost, "unitCostUSD": cost / 1e6}
            for name, cost in known.items()
        ]
    )


@route("POST", "/api/jobs/(?P<namespace>[^/]+)")
def start(request: Request) -> Answer:
    namespace, spec, jobs = request.parts["namespace"], request.json, request.store.jobs
    request.store.check_writer(namespace, request.person)
    if "timeoutSeconds" not in spec:
        raise RefusalError(400, "this stand-in wants a timeout")
    number = f"{len(jobs):024x}"
    log = request.store.job_folder / f"{number}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable if word == "python" else word for word in spec["command"]],
            env={
                **{name: os.environ[name] for name in request.store.job_environment if name in os.environ},
                "HF_ENDPOINT": request.base,
                "HF_HOME": str(request.store.job_folder / "hf-home-of-jobs"),
                "HF_HUB_DISABLE_XET": "1",
                "HF_HUB_DISABLE_TELEMETRY": "1",
                **spec["environment"],
                **spec.get("secrets", {}),
            },
            cwd=request.store.job_folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    jobs[number] = Job(number, {key: value for key, value in spec.items() if key != "secrets"}, process, log)
    return Answer.json(_describe(jobs[number], namespace))


@route("GET", "/api/jobs/(?P<namespace>[^/]+)")
def listing(request: Request) -> Answer:
    request.store.check_writer(request.parts["namespace"], request.person)
    wanted = [label.split("=", 1) for label in request.query.get("label", [])]
    found = [
        _describe(job, request.parts["namespace"])
        for job in request.store.jobs.values()
        if all(job.spec["labels"].get(key) == value for key, value in wanted)
    ]
    return page(request, found)


@route("GET", "/api/jobs/(?P<namespace>[^/]+)/(?P<id>[0-9a-f]{24})")
def inspect(request: Request) -> Answer:
    return Answer.json(_describe(_find(request), request.parts["namespace"]))


@route("GET", "/api/jobs/(?P<namespace>[^/]+)/(?P<id>[0-9a-f]{24})/logs")
def logs(request: Request) -> Answer:
    """What it has printed so far, as server-sent events."""
    return Answer("".join(_events(_find(request))).encode(), headers={"Content-Type": "text/event-stream"})


@route("POST", "/api/jobs/(?P<namespace>[^/]+)/(?P<id>[0-9a-f]{24})/cancel")
def cancel(request: Request) -> Answer:
    job = _find(request)
    job.is_canceled = job.is_canceled or job.process.poll() is None
    job.process.kill()
    return Answer.json(_describe(job, request.parts["namespace"]))


def _events(job: Job) -> Iterator[str]:
    yield 'data: {"data": "===== Job started", "timestamp": "2026-01-01T00:00:00.000Z"}\n\n'
    for line in job.log.read_text(errors="replace").splitlines():
        yield f"data: {json.dumps({'data': line, 'timestamp': '2026-01-01T00:00:00.000Z'})}\n\n"


def _find(request: Request) -> Job:
    request.store.check_writer(request.parts["namespace"], request.person)
    job = request.store.jobs.get(request.parts["id"])
    if job is None:
        raise RefusalError(404, "Job not found")
    return job


def _describe(job: Job, namespace: str) -> dict[str, object]:
    seconds = (datetime.now(UTC) - job.began).total_seconds()
    return {
        "id": job.id,
        "createdAt": job.began.isoformat().replace("+00:00", "Z"),
        "owner": {"id": "0" * 24, "name": namespace, "type": "user"},
        "command": job.spec["command"],
        "environment": job.spec["environment"],
        "flavor": job.spec["flavor"],
        "labels": job.spec["labels"],
        "status": {"stage": job.stage, "message": None},
        "durations": {"schedulingSecs": 0, "runningSecs": int(seconds), "totalSecs": int(seconds)},
    }
