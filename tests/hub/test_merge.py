"""Rows of many people in one table: each key once, in one order, whoever came first."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regmix_hf.errors import HubError
from regmix_hf.hub import (
    Hub,
    Publication,
    Published,
    Repository,
    Snapshot,
    merge_rows,
    parquet_bytes,
    publish,
    remote_table,
)


def runs_table(*ids: str, loss: float = 1.0) -> pd.DataFrame:
    return pd.DataFrame({"run_id": list(ids), "loss/web": [loss] * len(ids)})


def test_rows_that_are_there_stay_and_new_ones_join_in_order_of_the_key():
    merged = merge_rows(runs_table("c", "a", loss=1.0), runs_table("b", "a", loss=2.0))
    assert merged.to_dict("list") == {"run_id": ["a", "b", "c"], "loss/web": [1.0, 2.0, 1.0]}


def test_nothing_new_gives_the_very_table_that_is_there():
    there = runs_table("b", "a")
    assert merge_rows(there, runs_table("a", loss=9.0)) is there


def test_rows_of_a_named_key_give_way_to_ours_and_those_we_lack_stay():
    there = runs_table("failed", "failed-elsewhere", "ok")
    merged = merge_rows(there, runs_table("failed", "ok", loss=2.0), replace=["failed", "failed-elsewhere"])
    assert merged.to_dict("list") == {
        "run_id": ["failed", "failed-elsewhere", "ok"],
        "loss/web": [2.0, 1.0, 1.0],
    }


def test_all_rows_of_a_key_stay_together_in_their_order():
    there = pd.DataFrame({"run_id": ["b", "b", "a"], "step": [10, 0, 5]})
    ours = pd.DataFrame({"run_id": ["aa", "b", "aa"], "step": [7, 99, 3]})
    assert merge_rows(there, ours).to_dict("list") == {
        "run_id": ["a", "aa", "aa", "b", "b"],
        "step": [5, 7, 3, 10, 0],
    }


def test_a_column_only_one_side_has_is_empty_on_the_other():
    ours = runs_table("b").assign(**{"loss/code": [2.0]})
    merged = merge_rows(runs_table("a"), ours)
    assert merged["loss/code"].isna().tolist() == [True, False]


@pytest.mark.parametrize("table", [pd.DataFrame({"loss": [1.0]}), pd.DataFrame({"run_id": [None, "a"]})])
def test_a_table_without_keys_is_refused(table):
    for there, ours in ((table, runs_table("a")), (runs_table("a"), table)):
        with pytest.raises(HubError, match="every row needs a 'run_id'"):
            merge_rows(there, ours)


ids = st.lists(st.text("abc", min_size=1, max_size=2), unique=True)


@given(st.lists(ids, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_pushes_in_any_order_end_in_the_same_table(pushes, random):
    def end(order: list[list[str]]) -> pd.DataFrame:
        table = None
        for push in order:
            table = merge_rows(table, runs_table(*push))
        return table

    shuffled = random.sample(pushes, len(pushes))
    assert end(pushes)["run_id"].tolist() == sorted({run for push in pushes for run in push})
    pd.testing.assert_frame_equal(end(pushes), end(shuffled))


def push(hub: Hub, runs: Repository, tables: dict[str, pd.DataFrame]) -> Published:
    """Publish tables beside those that are there."""

    def files(snapshot: Snapshot) -> dict[str, bytes]:
        merged = {path: merge_rows(remote_table(hub, snapshot, path), ours) for path, ours in tables.items()}
        return {path: parquet_bytes(table) for path, table in merged.items()}

    return publish(hub, [Publication(runs, files, "Add runs")], tag=False)


def test_tables_are_merged_in_one_commit_and_pushed_again_change_nothing(hub, standin, runs):
    steps = pd.DataFrame({"run_id": ["a", "a"], "step": [0, 1]})
    tables = {"results.parquet": runs_table("a"), "trajectories.parquet": steps}
    push(hub, runs, tables)
    more = {"results.parquet": runs_table("a", "b"), "trajectories.parquet": steps.assign(run_id="b")}
    assert push(hub, runs, more).changed == {runs}

    assert push(hub, runs, tables).changed == frozenset()
    assert len(standin.repo(runs.id).history()) == 3
    snapshot = hub.snapshot(runs)
    assert remote_table(hub, snapshot, "results.parquet")["run_id"].tolist() == ["a", "b"]
    assert remote_table(hub, snapshot, "trajectories.parquet")["step"].tolist() == [0, 1, 0, 1]
    assert remote_table(hub, snapshot, "missing.parquet") is None


def test_a_merge_whose_reply_was_lost_while_others_went_on_is_found_again(hub, standin, runs, strike):
    """Our commit is not the newest any more when we look, but it is ours, and nothing is committed again."""

    def somebody_else() -> None:
        repo = standin.repo(runs.id)
        table = pd.concat([runs_table("a"), runs_table("z")])
        blob = type(repo.head.files["results.parquet"])(parquet_bytes(table), large=True)
        repo.add_commit("main", {**repo.head.files, "results.parquet": blob}, title="Z", author="other")

    strike("POST .*/commit/", moment="lost_reply")
    strike("GET /api/datasets/me/study-runs/commits/", moment="before", action=somebody_else)
    published = push(hub, runs, {"results.parquet": runs_table("a")})

    titles = [commit.title for commit in standin.repo(runs.id).history()]
    assert titles == ["Z", "Add runs", "initial commit"]
    assert standin.repo(runs.id).resolve(published.commits[runs]).title == "Add runs"


def test_a_table_somebody_broke_is_not_overwritten(hub, standin, runs):
    push(hub, runs, {"results.parquet": runs_table("a")})
    repo = standin.repo(runs.id)
    blob = type(repo.head.files["results.parquet"])(b"no parquet", large=True)
    repo.large[blob.sha256] = blob.content
    repo.add_commit("main", {**repo.head.files, "results.parquet": blob}, title="Break", author="other")

    with pytest.raises(HubError, match="cannot be read as Parquet"):
        push(hub, runs, {"results.parquet": runs_table("b")})
    assert repo.head.title == "Break"
