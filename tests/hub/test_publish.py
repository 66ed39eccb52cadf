"""One commit per repository, one tag on all of them, and none of it twice."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import pytest

from regmix_hf.errors import HubError
from regmix_hf.hub import Hub, Publication, Repository, Snapshot, changes, connection, publish

CARD = b"---\nlicense: apache-2.0\n---\n# Card\n"
TABLE = b"PAR1 stands for a table"


def publications(runs: Repository, model: Repository, table: bytes = TABLE) -> list[Publication]:
    return [
        Publication(model, {"README.md": CARD, "model.safetensors": b"\0" * 1000}, "Add the regressor"),
        Publication(runs, {"README.md": CARD, "data/results.parquet": table}, "Add the runs"),
    ]


def test_first_publication_creates_repositories_commits_once_each_and_tags_both(hub, standin, runs, model):
    published = publish(hub, publications(runs, model))

    assert published.version == "v1"
    assert published.changed == {runs, model}
    for repository in (runs, model):
        stored = standin.repo(repository.id)
        assert [commit.title for commit in stored.history()][1:] == ["initial commit"]
        assert stored.tags == {"v1": published.commits[repository]}
        assert stored.head.oid == published.commits[repository]
    assert standin.repo(runs.id).file("v1", "data/results.parquet") == TABLE
    assert standin.repo(model.id).file("v1", "README.md") == CARD


def test_nothing_new_makes_no_commit_no_tag_and_no_upload(hub, standin, runs, model):
    first = publish(hub, publications(runs, model))
    standin.log.clear()

    second = publish(hub, publications(runs, model))

    assert (second.version, second.commits, second.changed) == ("v1", first.commits, frozenset())
    assert {entry.request.split()[0] for entry in standin.log} == {"GET"}


def test_a_change_in_one_repository_is_a_new_version_of_all(hub, standin, runs, model):
    first = publish(hub, publications(runs, model))

    second = publish(hub, publications(runs, model, b"PAR1 and more"))

    assert second.version == "v2"
    assert second.changed == {runs}
    assert standin.repo(model.id).tags == {"v1": first.commits[model], "v2": first.commits[model]}
    assert standin.repo(runs.id).file("v1", "data/results.parquet") == TABLE
    assert standin.repo(runs.id).file("v2", "data/results.parquet") == b"PAR1 and more"


def test_files_on_disk_are_compared_and_sent_like_bytes(hub, standin, runs, tmp_path: Path):
    small, large = tmp_path / "small.txt", tmp_path / "large.parquet"
    small.write_bytes(b"small")
    large.write_bytes(bytes(range(256)) * 50)
    files = {"small.txt": small, "large.parquet": large}
    publish(hub, [Publication(runs, files, "Add files")])

    snapshot = hub.snapshot(runs)
    assert changes(snapshot, files) == {}
    large.write_bytes(bytes(range(1, 256)) * 50)
    assert changes(snapshot, files) == {"large.parquet": large}
    assert standin.repo(runs.id).file("main", "small.txt") == b"small"


def test_owned_files_that_are_no_longer_published_are_removed(hub, standin, model):
    before = {"ridge/weights.json": b"{}", "lightgbm/model.txt": b"tree", "notes/own.txt": b"of the owner"}
    publish(hub, [Publication(model, before, "Add two regressors")])
    after = Publication(model, {"ridge/weights.json": b"{}"}, "Leave one", owned=("ridge/*", "lightgbm/*"))

    publish(hub, [after])

    assert set(standin.repo(model.id).head.files) == {".gitattributes", "ridge/weights.json", "notes/own.txt"}


def test_files_made_from_the_snapshot_are_made_anew_when_somebody_else_was_first(hub, standin, runs, strike):
    def count(snapshot: Snapshot) -> dict[str, bytes]:
        old = hub.read(snapshot, "count", max_bytes=10) if "count" in snapshot.files else b"0"
        return {"count": str(int(old) + 1).encode()}

    def somebody_else() -> None:
        repo = standin.repo(runs.id)
        files = {**repo.head.files, "count": type(repo.head.files[".gitattributes"])(b"41", large=False)}
        repo.add_commit("main", files, title="Meanwhile", author="other")

    strike("POST .*/commit/", moment="before", action=somebody_else)

    publish(hub, [Publication(runs, count, "Count")], tag=False)

    assert standin.repo(runs.id).file("main", "count") == b"42"
    assert [commit.title for commit in standin.repo(runs.id).history()] == [
        "Count",
        "Meanwhile",
        "initial commit",
    ]


def test_interrupted_tags_are_completed_instead_of_counted_on(hub, standin, runs, model, strike):
    strike(f"POST /api/datasets/{runs.id}/tag", status=403)
    with pytest.raises(HubError):
        publish(hub, publications(runs, model))
    assert "v1" in standin.repo(model.id).tags
    assert standin.repo(runs.id).tags == {}

    assert publish(hub, publications(runs, model)).version == "v1"
    assert standin.repo(runs.id).tags == {"v1": standin.repo(runs.id).head.oid}


def test_a_version_that_somebody_else_took_is_left_to_them(hub, standin, runs, model, strike):
    def somebody_else() -> None:
        repo = standin.repo(runs.id)
        repo.tags["v1"] = repo.history()[-1].oid

    strike(f"POST /api/datasets/{runs.id}/tag", moment="before", action=somebody_else)

    published = publish(hub, publications(runs, model))

    assert published.version == "v2"
    assert standin.repo(runs.id).tags["v2"] == published.commits[runs]
    assert standin.repo(model.id).tags["v2"] == published.commits[model]


def test_a_version_lost_to_somebody_else_is_taken_back_where_it_was_given(hub, standin, runs, model, strike):
    """Else v2 would be ours on the model and theirs on the runs."""
    publish(hub, [Publication(model, {"w": b"1"}, "Add"), Publication(runs, {"a": b"1"}, "Add")])

    def overtake() -> None:
        publish(Hub(), [Publication(runs, {"theirs": b"1"}, "Add")])

    strike("POST /api/datasets/me/study-runs/tag/", moment="before", action=overtake)
    ours = [Publication(model, {"w": b"2"}, "Add"), Publication(runs, {"a": b"2"}, "Add")]
    published = publish(hub, ours)

    assert published.version == "v3"
    assert standin.repo(model.id).tags.keys() == {"v1", "v3"}
    assert standin.repo(runs.id).tags.keys() == {"v1", "v2", "v3"}
    assert "theirs" in standin.repo(runs.id).resolve("v2").files


def test_numbers_stay_in_step_with_repositories_published_beside(hub, standin, runs, model):
    for text in (b"1", b"2", b"3"):
        publish(hub, [Publication(runs, {"results.parquet": text}, "Add runs")])

    published = publish(hub, [Publication(model, {"a.txt": b"a"}, "Add the regressor")], beside=[runs])

    assert published.version == "v3"
    assert standin.repo(model.id).tags == {"v3": published.commits[model]}


def test_what_is_published_already_gets_no_further_version(hub, standin, runs, model):
    regressor = Publication(model, {"a.txt": b"a"}, "Add the regressor")
    publish(hub, [regressor])
    for text in (b"1", b"2"):
        publish(hub, [Publication(runs, {"results.parquet": text}, "Add runs")], beside=[model])

    assert publish(hub, [regressor], beside=[runs]).version == "v1"
    assert standin.repo(runs.id).tags.keys() == {"v1", "v2"}
    assert publish(hub, [regressor, Publication(runs, {"results.parquet": b"2"}, "")]).version == "v2"
    assert standin.repo(model.id).tags.keys() == {"v1", "v2"}


def test_an_answer_that_never_comes_is_not_waited_for_and_nothing_is_done_twice(
    hub, standin, runs, strike, monkeypatch
):
    monkeypatch.setattr(connection, "_SILENCE_S", 0.3)
    end, over = threading.Event(), []
    strike("POST .*/commit/", moment="after", action=lambda: over.append(end.wait(20)))

    published = publish(hub, [Publication(runs, {"a": b"1"}, "Add")])

    assert over == []
    end.set()
    assert [commit.title for commit in standin.repo(runs.id).history()] == ["Add", "initial commit"]
    assert published.changed == {runs}


def test_other_peoples_tags_do_not_count_as_versions(hub, standin, runs):
    publish(hub, [Publication(runs, {"a": b"1"}, "Add")])
    standin.repo(runs.id).tags |= {"v1.5": "x", "v02": "x", "version9": "x", "v99999999": "x"}

    assert publish(hub, [Publication(runs, {"a": b"2"}, "Add")]).version == "v2"


def test_private_stays_private(hub, standin, runs):
    publish(hub, [Publication(runs, {"a": b"1"}, "Add", private=True)])
    assert standin.repo(runs.id).private


def test_a_public_repository_is_not_taken_for_a_private_one(hub, standin, runs):
    publish(hub, [Publication(runs, {"a": b"1"}, "Add")])

    with pytest.raises(HubError, match="is public"):
        publish(hub, [Publication(runs, {"a": b"secret"}, "Add", private=True)])
    assert standin.repo(runs.id).file("main", "a") == b"1"


def test_an_invalid_card_is_refused_before_anything_is_committed(hub, standin, runs):
    with pytest.raises(HubError, match="metadata"):
        publish(hub, [Publication(runs, {"README.md": b"---\ntags: none\n---\n"}, "Add")])
    assert len(standin.repo(runs.id).history()) == 1


@pytest.mark.usefixtures("hurried")
def test_after_every_fault_at_every_request_a_rerun_ends_like_an_undisturbed_run(hub: Hub, standin, fault):
    """To repositories of their own for every request: the same files, commits and tags."""
    hub.find(Repository("model", "me/none"))  # what the client asks once per process is asked now
    standin.log.clear()
    assert _publish(hub, "undisturbed") == "v1"
    requests = [entry.request for entry in standin.log]
    expected = _state(standin, "undisturbed")

    for position, request in enumerate(requests):
        name = f"at-{position}"
        standin.faults.script(".", fault, skip=position)
        with contextlib.suppress(HubError):
            _publish(hub, name)
        assert not standin.faults.pending
        assert _publish(hub, name) == "v1"
        assert _state(standin, name) == expected, f"{fault.name} at {request}"


def _publish(hub: Hub, name: str) -> str | None:
    runs, model = Repository("dataset", f"me/{name}-runs"), Repository("model", f"me/{name}-model")
    return publish(hub, publications(runs, model)).version


def _state(standin, name: str) -> list[object]:
    state: list[object] = []
    for repo_id in (f"me/{name}-runs", f"me/{name}-model"):
        repo = standin.repo(repo_id)
        history = repo.history()
        numbers = {commit.oid: number for number, commit in enumerate(reversed(history))}
        state.append([(commit.title, dict(commit.files)) for commit in history])
        state.append({tag: numbers[oid] for tag, oid in repo.tags.items()})
    return state
