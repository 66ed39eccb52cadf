"""A study's folder is for one at a time, or for several who share out runs."""

import os
import sys
import threading

import pytest

from regmix_hf.files import write_json
from regmix_hf.jobs import claims
from regmix_hf.jobs.turns import alone_in, beside_others_in
from regmix_hf.progress import Silent

pytestmark = pytest.mark.processes

HOLD = """
import sys, time
from pathlib import Path
from regmix_hf.jobs import turns
from regmix_hf.progress import Silent
with getattr(turns, sys.argv[2])(Path(sys.argv[1]), sys.argv[3], Silent()):
    print("in", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path, spawn):
    """Somebody in another process who is in the folder until killed."""

    def start(how, verb):
        process = spawn([sys.executable, "-c", HOLD, str(tmp_path), how, verb])
        assert process.stdout.readline() == "in\n"
        return process

    return start


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("alone_in", alone_in), ("alone_in", beside_others_in), ("beside_others_in", alone_in)],
)
def test_who_comes_second_is_told_for_whom_he_waits_until_that_one_is_gone(
    tmp_path, holder, recorder, within, theirs, ours
):
    first = holder(theirs, "prepare")
    entered = threading.Event()

    def enter():
        with ours(tmp_path, "sample", recorder):
            entered.set()

    second = threading.Thread(target=enter)
    second.start()
    within(lambda: recorder.notes)
    assert recorder.notes[0].startswith(f"sample: waiting for process {first.pid} on {os.uname().nodename}, ")
    assert "which is at `prepare` in the study's folder since 20" in recorder.notes[0]
    assert not entered.is_set()
    first.kill()  # the operating system frees what it held
    second.join(timeout=20)
    assert entered.is_set()
    assert len(recorder.notes) == 1


def test_a_holder_on_another_machine_may_be_dead_which_takes_a_lease_to_know(tmp_path, recorder, monkeypatch):
    # As in the copy of a study that somebody was at elsewhere.
    monkeypatch.setattr(claims, "LEASE_S", 0.3)
    door = tmp_path / ".turns" / "door"
    write_json(door / "holder.json", {"verb": "fit", "host": "far", "pid": 7, "since": "2026-01-01 00:00:00"})
    (door / ".lease-000001").write_text("another-machine 0123 00000001")
    with alone_in(tmp_path, "choose", recorder):
        pass
    (note,) = recorder.notes
    assert note.startswith("choose: waiting up to 60 s to see whether it lives: process 7 on far, ")


def test_those_who_share_out_runs_do_not_wait_for_each_other(tmp_path, holder, recorder):
    holder("beside_others_in", "proxies")
    with beside_others_in(tmp_path, "proxies", recorder):
        pass
    assert not recorder.notes


def test_what_the_dead_left_is_swept_away(tmp_path, holder):
    process = holder("beside_others_in", "proxies")
    process.kill()
    process.wait()
    with alone_in(tmp_path, "fit", Silent()):
        assert sorted(path.name for path in (tmp_path / ".turns").iterdir()) == ["door"]
