"""Jobs of the Hub as a place for workers: one shard of the runs each, and no folder shared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import get_token

from regmix_hf.files import read_record, write_json
from regmix_hf.hub import Hub, Repository
from regmix_hf.recipe import Executor, Recipe

_SUBMITTED = ".jobs.json"
#: States of a job that has not ended.
UNDER_WAY = ("SCHEDULING", "RUNNING")
#: Where a job finds the recipe, and which shard is its own.
_RECIPE, _SHARD = "REGMIX_RECIPE", "REGMIX_SHARD"
_HOURS = {"second": 1 / 3600, "minute": 1 / 60, "hour": 1.0}
#: Corpus and mixtures are fetched by the first two; without `hub.corpus` they are made anew.
_WORK = f"""cd "$(mktemp -d)"
printf %s "${_RECIPE}" > recipe.yaml
regmix prepare recipe.yaml
regmix sample recipe.yaml
regmix proxies recipe.yaml "executor.shard=${_SHARD}"
"""


@dataclass(frozen=True)
class HubJobs:
    """One job per shard.

    Attributes:
        recipe: Of the study; where it publishes, jobs run.
        runs: The repository in which they meet.
    """

    recipe: Recipe
    runs: Repository

    @property
    def executor(self) -> Executor:
        """The recipe's section."""
        return self.recipe.executor

    @property
    def labels(self) -> dict[str, str]:
        """By which the jobs of a study are found."""
        return {"study": self.recipe.name}

    @property
    def namespace(self) -> str:
        """Who pays."""
        return self.runs.id.split("/")[0]

    def submit(self, hub: Hub, folder: Path) -> list[str]:
        """Start all jobs; return their ids. What one of them says of it is written into `folder` at once.

        Raises:
            HubError: Not logged in, not permitted, no credit, or there is no such flavor.
        """
        hub.require_login(self.runs)
        jobs: list[str] = []
        for number in range(1, self.executor.num_workers + 1):
            jobs.append(self._start(hub, number))  # never asked again: a job may have begun, and costs
            write_json(folder / _SUBMITTED, {"namespace": self.namespace, "jobs": jobs})
        return jobs

    def _start(self, hub: Hub, number: int) -> str:
        count, jobs = self.executor.num_workers, self.executor.jobs
        script = "\n".join(["set -e", *jobs.setup, _WORK])

        def start() -> str:
            return hub.api.run_job(
                image=jobs.image,
                command=["bash", "-c", script],
                env={_RECIPE: self._told(), _SHARD: f"{number}/{count}"},
                secrets={"HF_TOKEN": get_token()},
                flavor=jobs.flavor,
                timeout=jobs.timeout,
                attempts=jobs.attempts,
                labels={**self.labels, "shard": f"{number}-{count}"},
                namespace=self.namespace,
            ).id

        return hub.ask_once(self.runs, start)

    def _told(self) -> str:
        """The recipe as a job reads it: it publishes runs as they end, and works alone."""
        tree = self.recipe.model_dump(mode="json", exclude={"output_dir", "executor"}, exclude_defaults=True)
        return json.dumps({**tree, "hub": {**tree["hub"], "push_to_hub": True}})

    def rows(self, hub: Hub) -> Iterator[dict[str, object]]:
        """Tell of every job of the study how far it is and what it has cost, in USD, at today's prices.

        Raises:
            HubError: The Hub does not say.
        """
        prices = self.prices(hub)
        listed = hub.ask(
            self.runs, lambda: list(hub.api.list_jobs(labels=self.labels, namespace=self.namespace))
        )
        for job in listed:
            seconds = job.durations.running_secs if job.durations else None
            price = prices.get(str(job.flavor))
            hours = (seconds or 0) / 3600
            yield {
                "job": job.id,
                "shard": (job.labels or {}).get("shard", "").replace("-", "/"),
                "state": str(getattr(job.status.stage, "value", job.status.stage)),
                "flavor": str(job.flavor),
                "usd_per_hour": price,
                "hours": hours,
                "usd": None if price is None else hours * price,
            }

    def prices(self, hub: Hub) -> Mapping[str, float]:
        """USD per hour of every flavor.

        Raises:
            HubError: The Hub does not say.
        """
        known = hub.ask(self.runs, hub.api.list_jobs_hardware)
        return {
            one.name: one.unit_cost_usd / _HOURS[one.unit_label] for one in known if one.unit_label in _HOURS
        }


def were_submitted(folder: Path) -> dict[str, Any] | None:
    """Read what `HubJobs.submit` wrote there; `None` where it never did."""
    file = folder / _SUBMITTED
    return read_record(file, namespace=str, jobs=list) if file.exists() else None
