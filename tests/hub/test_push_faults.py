"""Whatever happens to a push, pushing again ends like an undisturbed one; the token stays where it was."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from regmix_hf.cli.schema import output_model
from regmix_hf.errors import HubError
from regmix_hf.progress import Silent
from regmix_hf.recipe import load_recipe
from regmix_hf.sharing import push_study
from regmix_hf.stages import report
from regmix_hf.study import Study
from regmix_hf.study.names import RESULTS

from .finished import finish_study
from .standin.faults import ALL

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart"
NUM_KILLS = 2


@pytest.mark.usefixtures("hurried")
def test_under_random_faults_a_study_arrives_as_without_them(hub, standin, new_study, stages):
    study = new_study()
    push_study(study, stages)
    expected = standin.state()
    standin.store.repos.clear()
    standin.store.collections.clear()

    standin.faults.at_random(seed=1, rate=0.1)
    for _ in range(100):
        with contextlib.suppress(HubError):
            push_study(study, stages)
            break
    standin.faults.clear()
    assert len({entry.fault.name for entry in standin.log if entry.fault}) >= 4

    assert push_study(study, stages).version == "v1"  # what an answer of "not there" made it skip
    assert standin.state() == expected


@pytest.mark.processes
def test_a_push_killed_at_random_moments_and_repeated_ends_like_an_undisturbed_one(
    hub, standin, new_study, grow, stages, strike, start, finished
):
    study = new_study()
    push_study(study, stages)
    grow(study)
    first = copy.deepcopy((standin.store.repos, standin.store.collections))
    with start("push_study.py", finished, f"output_dir={study.root}") as process:

        def push() -> tuple[int, int]:
            print("push", file=process.stdin, flush=True)
            running.append(int(process.stdout.readline()))
            return running[-1], int(process.stdout.readline())

        running: list[int] = []
        standin.log.clear()
        assert push()[1] == 0
        expected, num_requests = standin.state(), len(standin.log)
        assert standin.repo("me/small-runs").tags.keys() == {"v1", "v2"}
        for position in random.Random(3).sample(range(num_requests), NUM_KILLS):
            standin.store.repos, standin.store.collections = copy.deepcopy(first)
            strike(".", moment="after", skip=position, action=lambda: os.kill(running[-1], signal.SIGKILL))
            assert push()[1] == -signal.SIGKILL
            versions = {name: set(repo.tags) for name, repo in standin.store.repos.items()}
            assert versions["me/small-runs"] <= versions["me/small-regressor"] & versions["me/small-mixture"]
            assert push()[1] == 0
            assert standin.state() == expected, f"killed after request {position}"
        process.stdin.close()
        assert process.stderr.read() == ""


@pytest.mark.processes
def test_two_who_push_one_study_at_the_same_time_leave_whole_versions(
    hub, standin, new_study, grow, start, finished
):
    """One has all parts, the other has grown the swarm, fitted and chosen again, and no new models."""
    mine, grown = new_study(folder="mine"), new_study(folder="grown")
    grow(grown)
    passing = [fault for fault in ALL if fault.status not in (401, 403, 404, 409, 412)]
    with contextlib.ExitStack() as stack:
        pushers = [
            stack.enter_context(start("push_study.py", finished, f"output_dir={root}"))
            for root in (mine.root, grown.root)
        ]
        for seed in range(2):
            standin.store.repos.clear()
            standin.store.collections.clear()
            standin.faults.at_random(seed=seed, rate=0.03, faults=passing)
            for pusher in pushers:
                print("push", file=pusher.stdin, flush=True)
            ended = [[pusher.stdout.readline() for _ in range(2)] for pusher in pushers]
            standin.faults.clear()
            assert [lines[1] for lines in ended] == ["0\n", "0\n"]
            _check_versions(standin)
            assert len(standin.table("me/small-runs")) == 34


def _check_versions(standin) -> None:
    """Every version of the mixture was chosen with the regressor of that version, on runs it has."""
    runs, regressor, mixture = (standin.repo(f"me/small-{part}") for part in ("runs", "regressor", "mixture"))
    assert runs.tags.keys() == regressor.tags.keys() == mixture.tags.keys()
    assert runs.tags
    for version in runs.tags:
        chosen_with = json.loads(mixture.file(version, "stages.json"))["choose"]["fingerprint"]
        summary = regressor.file(version, "summary.json")
        assert chosen_with["4-regression/summary.json"] == hashlib.sha256(summary).hexdigest()
        fitted_on = {row[0] for row in json.loads(regressor.file(version, "runs.json"))["rows"]}
        there = pd.read_parquet(io.BytesIO(runs.file(version, RESULTS)))["run_id"]
        assert fitted_on <= set(there)


@pytest.fixture
def quickstart(tmp_path: Path) -> list[str]:
    """Arguments that name a finished study of `recipes/quickstart`."""
    overrides = [
        f"output_dir={tmp_path / 'quickstart'}",
        "regression.estimators=[ridge]",
        "regression.estimator=ridge",
        "choice.num_candidates=500",
    ]
    finish_study(Study(load_recipe(QUICKSTART, overrides)))
    return [str(QUICKSTART), *overrides]


@pytest.mark.processes
def test_the_quickstart_is_pushed_and_pulled_by_two_commands_that_keep_the_token(
    quickstart, standin, environment, tokens, tmp_path
):
    def regmix(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "regmix_hf", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout + done.stderr)
        return done

    outputs: list[str] = []
    pushed = regmix("push", *quickstart, "hub.namespace=me", "--format", "json")
    output_model("push").model_validate_json(pushed.stdout)
    published = json.loads(pushed.stdout)["repositories"]
    assert published["version"] == "v1"
    assert [(row["repository"], row["changed"]) for row in published["rows"]] == [
        (f"me/quickstart-{name}", "yes")
        for name in ("chosen", "prior", "uniform", "mixture", "regressor", "runs")
    ]
    pulled = regmix("pull", "me/quickstart", str(tmp_path / "pulled"), "--format", "json")
    output_model("pull").model_validate_json(pulled.stdout)
    assert f"Next: regmix report {tmp_path / 'pulled'}" in pulled.stderr
    report.run(Study(load_recipe(tmp_path / "pulled")), Silent())
    regmix("pull", "me/quickstart", str(tmp_path / "models"), "--only", "mixture,model")
    assert (tmp_path / "models/6-models/chosen/model.safetensors").exists()
    here, there = tmp_path / "quickstart", tmp_path / "pulled"
    assert (there / "report/README.md").read_bytes() == (here / "report/README.md").read_bytes()
    assert not standin.leaks(tmp_path, tokens["writer"])
    assert not any(tokens["writer"] in text for text in outputs)
