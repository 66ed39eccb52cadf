"""The pool does every task once, whatever becomes of its workers, its neighbours and itself."""

import errno
import os
import signal

import pytest

from regmix_hf.errors import TrainingError
from regmix_hf.jobs.claims import claim
from regmix_hf.jobs.devices import Slot
from regmix_hf.jobs.pool import Pool
from regmix_hf.progress import Silent
from tests.preloaded import Mode, family, starting

pytestmark = pytest.mark.processes


def test_two_workers_do_every_task_once_and_many_each(pool, outcome):
    assert pool(["meet 2"] * 8, workers=2) == {"ok": 8}
    begun = [outcome(k)[1] for k in range(8)]
    assert all(len(pids) == 1 for pids in begun)
    assert len({pids[0] for pids in begun}) == 2


def test_one_worker_keeps_the_order(pool, tmp_path):
    pool(["ok"] * 5)
    written = [(tmp_path / f"t{k}" / "result.json").stat().st_mtime_ns for k in range(5)]
    assert written == sorted(written)


def test_tasks_that_have_a_result_are_not_begun_again(pool, outcome):
    pool(["ok"] * 2)
    assert pool(["ok"] * 3) == {"ok": 3}
    assert [len(outcome(k)[1]) for k in range(3)] == [1, 1, 1]


def test_a_task_whose_worker_dies_is_tried_again(pool, outcome):
    assert pool(["ok", "die 2", "ok"]) == {"ok": 3}
    assert len(outcome(1)[1]) == 3


def test_a_task_that_kills_every_worker_fails_and_the_others_go_on(pool, outcome):
    assert pool(["die 99", "ok", "ok"]) == {"failed": 1, "ok": 2}
    result, begun = outcome(0)
    assert len(begun) == 3
    assert result["reason"].startswith("its worker died")
    assert result["reason"].endswith("(3 times tried)")
    assert "SIGKILL" in result["reason"]


def test_an_exception_is_tried_again_in_fresh_workers_and_recorded_with_what_was_printed(
    pool, outcome, tmp_path
):
    assert pool(["raise no such thing", "ok"]) == {"failed": 1, "ok": 1}
    result, begun = outcome(0)
    assert result["reason"] == "ValueError: no such thing (3 times tried)"
    assert len(set(begun)) == 3, "every attempt has a process of its own"
    log = (tmp_path / "t0" / "log.txt").read_text()
    assert log.count("on the way") == log.count("Traceback") == 3
    assert "attempt 1 of 3: ValueError: no such thing" in log
    assert not (tmp_path / "t1" / "log.txt").exists(), "a task that ended well leaves no log"


def test_an_error_that_spoils_its_process_costs_no_other_task(pool, outcome):
    assert pool(["ok", "stick 1", "ok", "ok"]) == {"ok": 4}
    assert [len(outcome(k)[1]) for k in range(4)] == [1, 2, 1, 1]


def test_a_task_that_does_not_fit_is_tried_in_smaller_bites(pool, outcome, tmp_path):
    assert pool(["fill 16"]) == {"ok": 1}
    result, begun = outcome(0)
    assert result["spec"] == "fill 2"
    assert len(begun) == 4, "16, 8, 4, 2: smaller bites are no failed attempts"


def test_a_task_of_which_not_the_smallest_bite_fits_has_failed(pool, outcome, counting):
    assert pool(["fill 16", "ok"], work=counting.Whole()) == {"failed": 1, "ok": 1}
    assert outcome(0)[0]["reason"].startswith("not even one block at once fits into memory")


def test_what_the_user_must_mend_stops_the_pool_with_the_workers_own_words(pool, outcome):
    with pytest.raises(TrainingError, match="no such model") as caught:
        pool(["ok", "refuse no such model", "ok"])
    assert caught.value.hint == "write something else"
    assert outcome(0)[0]["status"] == "ok"


def test_a_full_disk_is_told_as_such_even_when_a_library_wraps_it(pool, outcome, tmp_path):
    with pytest.raises(OSError, match="No space left") as caught:
        pool(["ok", "full"])
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "t1"))
    assert outcome(0)[0]["status"] == "ok"
    assert not (tmp_path / "t1" / "result.json").exists()


def test_a_worker_that_cannot_start_is_an_error_with_the_end_of_its_log(pool, counting):
    with pytest.raises(TrainingError, match=r"exit code 3(.|\n)*there is no such module"):
        pool(["ok"], work=counting.Counting(refuses_to_open=True))


def test_each_worker_sees_one_device_one_thread_and_no_launcher(pool, outcome, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    pool(["meet 2", "meet 2"], slots=[Slot("GPU-a"), Slot("3")])
    seen = [outcome(k)[0]["seen"] for k in range(2)]
    assert {s["CUDA_VISIBLE_DEVICES"] for s in seen} == {"GPU-a", "3"}
    assert all(s["OMP_NUM_THREADS"] == "1" and s["RANK"] is None for s in seen)


def test_the_bar_never_goes_back_and_ends_full(pool, recorder, tmp_path, monkeypatch):
    show = recorder.update

    def let_go(done, *, detail=""):
        show(done, detail=detail)
        if done % 100:
            (tmp_path / "shown").touch()

    monkeypatch.setattr(recorder, "update", let_go)
    pool(["stay shown", "die 1", "raise oh"], workers=2, progress=recorder)
    done = [done for done, _ in recorder.updates]
    assert recorder.total == 300
    assert done[-1] == 300
    assert done == sorted(done)
    assert any(tokens % 100 for tokens in done), "the bar moves while a task runs"
    assert recorder.updates[-1][1] == "2 done, 0 diverged, 1 failed"


def test_no_worker_outlives_a_pool_that_is_killed(pool_process, tmp_path, within, gone):
    parent = pool_process(["stay never", "stay never"])
    within(lambda: (tmp_path / "t0" / "begun").exists() and (tmp_path / "t1" / "begun").exists())
    workers = family(parent.pid)
    assert len(workers) == 2
    parent.kill()
    within(lambda: gone(workers))


@pytest.mark.cold_processes
def test_ctrl_c_ends_everything_and_keeps_what_is_done(pool_process, pool, tmp_path, within, gone, outcome):
    parent = pool_process(["ok", "stay never"], workers=2)
    within(lambda: (tmp_path / "t0" / "result.json").exists() and (tmp_path / "t1" / "begun").exists())
    workers = family(parent.pid)
    os.killpg(parent.pid, signal.SIGINT)
    _, errors = parent.communicate(timeout=60)
    assert errors.strip().endswith("KeyboardInterrupt")
    within(lambda: gone(workers))
    with starting(Mode.PRELOADED):
        assert pool(["ok", "ok"]) == {"ok": 2}
    assert [len(outcome(k)[1]) for k in range(2)] == [1, 2]


def test_two_pools_share_the_work(pool_process, outcome):
    specs = ["meet 2"] * 8
    pools = [pool_process(specs, workers=1) for _ in range(2)]
    said = [process.communicate(timeout=60)[0].strip() for process in pools]
    assert said == ["{'ok': 8}"] * 2
    assert [len(outcome(k)[1]) for k in range(8)] == [1] * 8
    assert len({outcome(k)[0]["pid"] for k in range(8)}) == 2


def test_a_pool_takes_over_what_a_killed_one_had_claimed(pool_process, pool, tmp_path, within, outcome):
    other = pool_process(["stay never"], workers=1)
    within(lambda: (tmp_path / "t0" / "begun").exists())
    other.kill()
    assert pool(["ok"]) == {"ok": 1}
    assert len(outcome(0)[1]) == 2


def test_a_pool_that_need_not_stay_leaves_the_living_alone_with_their_tasks(counting, tmp_path, monkeypatch):
    monkeypatch.setattr("regmix_hf.jobs.claims.LEASE_S", 2.0)
    (tmp_path / "t1").mkdir()
    with claim(tmp_path / "t1"):
        place = Pool([Slot()], tmp_path / "logs", stays=False)
        assert place.run(counting.tasks_of(tmp_path, ["ok", "ok"]), counting.Counting(), Silent()) == {
            "ok": 1
        }
