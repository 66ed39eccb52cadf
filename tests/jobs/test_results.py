"""Tables are made of the results in runs' folders; what they hold already is not read again."""

import os

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from regmix_hf.errors import StudyError
from regmix_hf.files import read_json, read_parquet, write_json, write_parquet
from regmix_hf.jobs import census, results
from regmix_hf.jobs.results import collect, record_failed
from regmix_hf.jobs.tasks import Task


class Spec:
    def __init__(self, run_id):
        self.run_id, self.mixture_id, self.split, self.scale = run_id, "m-" + run_id, "fit", None
        self.weights, self.scored = {"a": 1.0}, {}
        self.validation = self.measured = {"a": "0" * 64}


@pytest.fixture
def tasks(tmp_path):
    heads = {name: {"run_id": name, "weight/a": 1.0} for name in ("x", "y", "z")}
    return [Task(name, tmp_path / name, 1, Spec(name), head) for name, head in heads.items()]


def end(task, loss):
    steps = pd.DataFrame(
        {"run_id": [task.name] * 2, "step": [1, 2], "num_tokens": [8, 16], "loss/a": [loss + 1, loss]}
    )
    write_parquet(task.folder / "trajectory.parquet", steps)
    write_json(task.folder / "result.json", {**task.head, "status": "ok", "loss/a": loss, "micro_batch": 4})


@pytest.fixture
def read(monkeypatch):
    """Names of the folders whose tables are read."""
    names = []

    def noting(path, *rest):
        names.append(path.parent.name)
        return read_parquet(path, *rest)

    monkeypatch.setattr(results, "read_parquet", noting)
    return names


def test_only_what_is_new_is_read(tasks, tmp_path, read):
    for task in tasks[1:]:
        end(task, 2.0)
    collect(tasks[1:], tmp_path / "t")
    end(tasks[0], 3.0)
    read.clear()
    _, trajectories = collect(tasks, tmp_path / "t")
    assert read == ["t", "t", "x"]
    _, anew = collect(tasks, tmp_path / "anew")
    assert_frame_equal(trajectories, anew)


def test_a_run_that_was_trained_again_is_read_again_and_one_not_asked_for_is_left_out(tasks, tmp_path, read):
    for task in tasks:
        end(task, 2.0)
    collect(tasks, tmp_path / "t")
    end(tasks[1], 5.0)
    later = (tmp_path / "t" / "trajectories.parquet").stat().st_mtime_ns + 1
    os.utime(tasks[1].folder / "result.json", ns=(later, later))
    read.clear()
    table, trajectories = collect(tasks[1:], tmp_path / "t")
    assert read == ["t", "t", "y"]
    assert list(table["loss/a"]) == [5.0, 2.0]
    assert list(trajectories["loss/a"]) == [6.0, 5.0, 3.0, 2.0]


def test_failed_runs_have_a_row_and_reasons_are_in_no_table(tasks, tmp_path):
    end(tasks[0], 2.0)
    for task in tasks[1:]:
        record_failed(task, "because")
    table, trajectories = collect(tasks, tmp_path / "t")
    assert list(table["status"]) == ["ok", "failed", "failed"]
    assert {"run_id", "weight/a", "status", "loss/a", "mixture_id", "split"} <= set(table.columns)
    assert not {"reason", "micro_batch"} & set(table.columns)
    assert set(trajectories["run_id"]) == {"x"}


def test_of_results_in_the_table_only_the_failed_and_those_that_are_gone_are_looked_up(
    tasks, tmp_path, monkeypatch
):
    end(tasks[0], 2.0)
    end(tasks[1], 2.0)
    record_failed(tasks[2], "because")
    collect(tasks, tmp_path)
    (tasks[1].folder / "result.json").unlink()
    looked, look = [], census.status_of
    monkeypatch.setattr(census, "status_of", lambda task: looked.append(task.name) or look(task))
    counted = census.take_census(tasks, tmp_path)
    assert counted.ended == {"ok": 1, "failed": 1}
    assert (counted.num_left, [why for _, why in counted.failed]) == (1, ["because"])
    assert looked == ["y", "z"]


@pytest.mark.parametrize(
    ("change", "said"), [({"status": "fine"}, "'fine', not ok"), ({"loss/a": "x"}, "no number for 'loss/a'")]
)
def test_a_result_that_somebody_edited_is_named_and_the_others_are_counted(tasks, tmp_path, change, said):
    for loss, task in enumerate(tasks):
        end(task, float(loss))
    file = tasks[1].folder / "result.json"
    write_json(file, {**read_json(file), **change})
    with pytest.raises(StudyError, match=said):
        collect(tasks, tmp_path)
    found = census.take_census(tasks, tmp_path)
    assert found.ended == {"ok": 2, "failed": 1}
    ((task, reason),) = found.failed
    assert (task, said in reason, "result.json" in reason) == (tasks[1], True, True)
