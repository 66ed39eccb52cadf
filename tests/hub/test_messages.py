"""What a person reads when the Hub says no: what is wrong, what to do, and never the token."""

from __future__ import annotations

import json
import subprocess
import sys
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from huggingface_hub import constants

from regmix_hf.errors import HubError
from regmix_hf.hub import Expected, Hub, Patience, Publication, Repository, fetch, publish


def add(hub: Hub, repository: Repository) -> None:
    publish(hub, [Publication(repository, {"a.parquet": b"1"}, "Add")])


def test_not_logged_in(hub, runs, log_in, standin):
    log_in(None)
    with pytest.raises(HubError, match="not logged in") as caught:
        add(hub, runs)
    assert "hf auth login" in str(caught.value.hint)
    assert standin.requests("me/") == []


def test_a_token_that_nobody_knows(hub, runs, log_in):
    log_in("hf_expired")
    with pytest.raises(HubError, match="does not take your token"):
        add(hub, runs)


@pytest.mark.parametrize("ask", [add, Hub.snapshot, Hub.tags, Hub.find_tags])
def test_a_token_that_has_expired_is_not_taken_for_a_repository_that_is_not_there(
    hub, runs, standin, tokens, ask
):
    add(hub, runs)
    standin.store.expired.add(tokens["writer"])
    with pytest.raises(HubError, match=r'not take your token: .*Token "laptop" is expired') as caught:
        ask(hub, runs)
    assert "hf auth login" in str(caught.value.hint)


def test_a_token_that_only_reads(hub, runs, log_in, tokens, standin):
    log_in(tokens["reader"])
    with pytest.raises(HubError, match="no permission") as caught:
        add(hub, runs)
    assert "write access to 'me'" in str(caught.value.hint)
    assert standin.store.repos == {}


def test_somebody_elses_repository(hub, runs, log_in, tokens):
    add(hub, runs)
    log_in(tokens["other"])
    with pytest.raises(HubError, match="no permission"):
        publish(hub, [Publication(runs, {"a.parquet": b"2"}, "Change")])


def test_ones_own_organisation_may_be_written(hub, standin):
    add(hub, Repository("dataset", "team/study-runs"))
    assert standin.repo("team/study-runs").tags.keys() == {"v1"}


def test_a_private_repository_looks_like_none_to_others(hub, runs, log_in, tokens):
    publish(hub, [Publication(runs, {"a": b"1"}, "Add", private=True)])
    log_in(tokens["other"])
    with pytest.raises(HubError, match="does not exist, or it is private"):
        hub.snapshot(runs)
    log_in(None)
    with pytest.raises(HubError, match="does not exist, or it is private") as caught:
        hub.snapshot(runs)
    assert "hf auth login" in str(caught.value.hint)


def test_a_name_taken_by_another_kind_of_repository(hub, runs):
    add(hub, runs)
    same_name = Repository("model", runs.id)
    message = "'me/study-runs' is the name of a dataset repository, not of a model"
    with pytest.raises(HubError, match=message):
        add(hub, same_name)
    with pytest.raises(HubError, match=message):
        hub.snapshot(same_name)


@pytest.mark.usefixtures("hurried")
def test_a_name_taken_by_something_nobody_can_see(hub, runs, strike):
    strike("POST /api/repos/create", status=409, times=50)
    with pytest.raises(HubError, match="cannot be created"):
        add(hub, runs)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("status", [400, 401, 403, 409, 500])
def test_an_error_is_not_taken_for_a_repository_that_does_not_exist(hub, runs, strike, status):
    strike("GET /api/datasets/", status=status, times=50)
    with pytest.raises(HubError):
        hub.find(runs)


def test_offline(hub, runs, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set") as caught:
        add(hub, runs)
    assert caught.value.hint == "unset HF_HUB_OFFLINE"


@pytest.mark.usefixtures("hurried")
def test_no_network(hub, runs):
    hub.api.endpoint = "http://127.0.0.1:9"  # where nobody listens
    with pytest.raises(HubError, match=r"http://127\.0\.0\.1:9 cannot be reached"):
        add(hub, runs)


def test_an_unknown_revision_and_a_missing_file(hub, runs, tmp_path):
    add(hub, runs)
    with pytest.raises(HubError, match=r"no such revision.*v7"):
        hub.snapshot(runs, "v7")
    with pytest.raises(HubError, match=r"has no results\.parquet"):
        fetch(hub, hub.snapshot(runs), [Expected("results.parquet")], tmp_path)


@pytest.mark.parametrize("name", ["study", "a/b/c", "../x", "a b/c", ""])
def test_a_name_no_repository_has(name):
    with pytest.raises(HubError, match="no name of a repository"):
        Repository("dataset", name)


@pytest.mark.usefixtures("hurried")
def test_a_hub_that_stays_out_of_order(hub, runs, standin, strike):
    strike("POST /api/repos/create", status=503, times=100)
    with pytest.raises(HubError, match="out of order") as caught:
        add(hub, runs)
    assert "again" in str(caught.value.hint)
    assert len(standin.requests("POST /api/repos/create")) == Patience().attempts


def test_a_wait_that_is_too_long_is_said_instead_of_waited(hub, runs, strike):
    strike("POST /api/repos/create", status=429, retry_after=4000)
    with pytest.raises(HubError, match="limits how much") as caught:
        add(hub, runs)
    assert "in 4000 s" in str(caught.value.hint)


def test_the_wait_the_hub_asks_for_is_kept(hub, runs, standin, strike):
    notes = []
    hub.progress.note = notes.append
    strike("POST .*/commit/", status=429, retry_after=1)
    add(hub, runs)
    refused, accepted = standin.requests("/commit/main")
    assert (refused.status, accepted.status) == (429, 200)
    assert accepted.at_s - refused.at_s >= 1.0
    assert len(notes) == 1
    assert "429" in notes[0]


def test_the_moment_the_hub_asks_to_wait_for_is_kept(hub, runs, standin, strike):
    moment = datetime.now(UTC) + timedelta(seconds=3)
    strike("POST .*/commit/", status=503, retry_after=format_datetime(moment, usegmt=True))
    add(hub, runs)
    refused, accepted = standin.requests("/commit/main")
    assert (refused.status, accepted.status) == (503, 200)
    assert datetime.now(UTC) >= moment.replace(microsecond=0)  # a date has whole seconds


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("words", ["soon", "-5", "1e9", "Mon, 99 Foo 2026", "99999999999999999999", ""])
def test_a_wait_nobody_understands_is_not_believed(hub, runs, standin, strike, words):
    strike("POST .*/commit/", status=429, retry_after=words)
    add(hub, runs)
    assert [entry.status for entry in standin.requests("/commit/main")] == [429, 200]


@pytest.mark.processes
@pytest.mark.parametrize("verb", ["push", "pull"])
def test_nothing_a_process_prints_holds_the_token(new_study, environment, strike, tokens, verb, tmp_path):
    """With every switch that makes it talk, against a server that repeats what it was sent."""
    study = new_study()
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(study.recipe.model_dump(mode="json")))
    strike("/api/(datasets|models)/", status=403, message=f"Bearer {tokens['writer']}", times=100)
    words = {"push": [str(recipe)], "pull": ["me/small", str(tmp_path / "pulled")]}[verb]
    done = subprocess.run(
        [sys.executable, "-m", "regmix_hf", verb, *words],
        env={**environment, "REGMIX_DEBUG": "1", "HF_DEBUG": "1", "HF_HUB_VERBOSITY": "debug"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert "no permission" in done.stderr
    assert tokens["writer"] not in done.stdout + done.stderr


@pytest.mark.parametrize("status", [400, 401, 403, 409, 429, 500])
@pytest.mark.parametrize("request_", ["repos/create", "/preupload/", "/commit/main", "/refs", "/tag/"])
@pytest.mark.usefixtures("hurried")
def test_a_server_that_repeats_the_token_does_not_make_us_repeat_it(
    hub, runs, strike, tokens, status, request_, capfd, caplog
):
    strike(request_, status=status, message=f"bad token {tokens['writer']}", times=300)
    with pytest.raises(HubError) as caught:
        add(Hub(Patience(attempts=2, races=3)), runs)
    shown = (
        "".join(traceback.format_exception(caught.value))
        + repr(caught.value)
        + str(capfd.readouterr())
        + caplog.text
    )
    assert tokens["writer"] not in shown
