"""A claim has one holder, and a dead holder holds nothing; a count of tokens is never half-written."""

import errno
import json
import subprocess
import sys

import pytest

from regmix_hf.files import write_json
from regmix_hf.jobs.claims import LEASE_S, LostClaimError, Standing, Watch, claim, locks_work, take
from regmix_hf.jobs.results import bring, is_done_in
from regmix_hf.jobs.tokens import TokenCount, tokens_so_far

HOLD = """
import sys, time
from pathlib import Path
from regmix_hf.jobs.claims import claim
with claim(Path(sys.argv[1])) as granted:
    print(granted is not None, flush=True)
    time.sleep(60)
"""


@pytest.mark.cold_processes
def test_a_claim_is_granted_once_and_again_after_its_holder_was_killed(tmp_path, within):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout.readline() == "True\n"
        with claim(tmp_path) as granted:
            assert not granted
        holder.kill()
    with claim(tmp_path) as granted:
        assert granted
    with claim(tmp_path) as granted:
        assert granted, "a claim that was let go is free"


@pytest.fixture
def clock(monkeypatch):
    """The clock of whoever looks at claims, in a place whose file system has no locks."""

    def refuse(file, operation):
        raise OSError(errno.ENOSYS, "Function not implemented")

    now = [0.0]
    monkeypatch.setattr("regmix_hf.jobs.claims.fcntl.flock", refuse)
    monkeypatch.setattr("regmix_hf.jobs.claims.time.monotonic", lambda: now[0])
    locks_work.cache_clear()
    yield now
    locks_work.cache_clear()


@pytest.mark.usefixtures("clock")
def test_locks_are_used_where_they_keep_others_out_and_only_there(tmp_path, monkeypatch):
    (tmp_path / "with").mkdir()
    assert not locks_work(tmp_path)
    monkeypatch.undo()
    assert locks_work(tmp_path / "with")


def test_a_lease_that_is_seen_unchanged_for_too_long_is_free_whatever_clocks_say(tmp_path, clock):
    holder, watch = take(tmp_path), Watch()
    assert watch.look(tmp_path) == (Standing.UNSURE, None)
    clock[0] = LEASE_S - 1
    assert watch.look(tmp_path)[0] is Standing.UNSURE
    holder._write("00000001")
    clock[0] = LEASE_S + 1
    assert watch.look(tmp_path)[0] is Standing.ALIVE
    clock[0] = 2 * LEASE_S + 2
    standing, dead = watch.look(tmp_path)
    assert standing is Standing.FREE
    assert take(tmp_path) is None, "one who has not watched does not know"
    holder._write("00000002")
    assert take(tmp_path, dead) is None, "it lives after all"
    holder.release()
    assert watch.look(tmp_path) == (Standing.FREE, None)


def test_of_several_who_see_a_dead_holder_one_takes_its_place_and_the_dead_one_finds_out(tmp_path, clock):
    lost, watch = take(tmp_path), Watch()
    watch.look(tmp_path)
    clock[0] = LEASE_S + 1
    _, dead = watch.look(tmp_path)
    mine, its = take(tmp_path, dead), take(tmp_path, dead)
    assert mine is not None
    assert its is None
    with pytest.raises(LostClaimError, match=r"stood still for more than 60 s"):
        lost.check_now()
    lost.release()
    mine.check_now()
    mine.release()


def test_what_a_lost_holder_finishes_is_not_recorded_and_what_it_had_finished_is(tmp_path, clock, counting):
    (task,) = counting.tasks_of(tmp_path, ["ok"])

    def attempt(held):
        room = held.room()
        if not is_done_in(room, task):
            (room / "by").write_text(str(held.number))
            write_json(room / "result.json", {"run_id": "t0", "status": "ok", "by": held.number})
        return room

    def after(holder):
        watch = Watch()
        watch.look(task.folder)
        clock[0] += LEASE_S + 1
        return take(task.folder, watch.look(task.folder)[1])

    first = take(task.folder)
    second = after(first)
    room = attempt(second)  # and stands still before it is recorded
    with pytest.raises(LostClaimError):
        bring(task, attempt(first), first)
    third = after(second)
    assert bring(task, attempt(third), third) == "ok"
    with pytest.raises(LostClaimError):
        bring(task, room, second)
    assert (task.folder / "by").read_text() == "2"
    assert json.loads((task.folder / "result.json").read_text())["by"] == 2


def test_tokens_are_counted_from_nought_and_not_written_too_often(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("regmix_hf.jobs.tokens.time.monotonic", lambda: now[0])
    assert tokens_so_far(tmp_path) == 0
    count = TokenCount(tmp_path)
    count(10)
    assert tokens_so_far(tmp_path) == 0, "the file is fresh enough"
    now[0] = 1.0
    count(2**40)
    assert tokens_so_far(tmp_path) == 2**40
    TokenCount(tmp_path)
    assert tokens_so_far(tmp_path) == 0, "a run that begins again begins at nought"
