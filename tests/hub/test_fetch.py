"""What comes from the Hub is data: only expected files, within limits, inside the folder, as committed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from regmix_hf.errors import HubError
from regmix_hf.hub import Expected, Publication, RemoteFile, Snapshot, fetch, matching, publish

TABLE = bytes(range(256)) * 400


@pytest.fixture
def snapshot(hub, runs) -> Snapshot:
    files = {
        "data/results.parquet": TABLE,
        "pictures/a.txt": b"a",
        "pictures/b.txt": b"b",
        "pictures/deep/c.txt": b"c",
        "evil.py": b"raise SystemExit",
    }
    publish(hub, [Publication(runs, files, "Add")])
    return hub.snapshot(runs, "v1")


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_only_expected_files_arrive_and_nothing_is_left_beside_them(hub, snapshot, tmp_path):
    into = tmp_path / "into"
    found = fetch(hub, snapshot, [Expected("data/*.parquet"), Expected("pictures/*.txt", max_files=2)], into)

    expected = {"data/results.parquet": TABLE, "pictures/a.txt": b"a", "pictures/b.txt": b"b"}
    assert content(into) == expected
    assert found == {path: into / path for path in expected}


def test_a_tag_is_resolved_once_and_later_commits_do_not_mix_in(hub, runs, snapshot, tmp_path):
    publish(hub, [Publication(runs, {"pictures/a.txt": b"newer"}, "Change")])

    fetch(hub, snapshot, [Expected("pictures/a.txt")], tmp_path)

    assert (tmp_path / "pictures/a.txt").read_bytes() == b"a"


def test_star_stays_within_one_part_of_a_path():
    paths = ["a.png", "x/a.png", "x/y/a.png"]
    assert matching(paths, ["*.png"]) == ["a.png"]
    assert matching(paths, ["x/*.png", "*/y/*"]) == ["x/a.png", "x/y/a.png"]


def test_too_large_a_file_is_refused_by_its_declared_size(hub, snapshot, standin, tmp_path):
    huge = RemoteFile("results.json", 10_000_000_000, "0" * 40, "0" * 64)
    declared = replace(snapshot, files={**snapshot.files, huge.path: huge})
    standin.log.clear()
    with pytest.raises(HubError, match=r"results\.json has 10,000,000,000 bytes; at most 1,000,000"):
        fetch(hub, declared, [Expected("results.json", max_bytes=1_000_000)], tmp_path)
    assert standin.log == []


def test_too_many_files_are_refused_before_any_is_loaded(hub, snapshot, standin, tmp_path):
    standin.log.clear()
    with pytest.raises(HubError, match="2 files that match"):
        fetch(hub, snapshot, [Expected("pictures/*.txt")], tmp_path)
    assert standin.log == []


def test_optional_files_may_be_missing(hub, snapshot, tmp_path):
    assert fetch(hub, snapshot, [Expected("*.md", required=False)], tmp_path) == {}


@pytest.mark.parametrize(
    "path", ["../x.txt", "a/../../x.txt", "/x.txt", "a//x.txt", "a\\x.txt", "c:/x.txt", "a/\n.txt", "./x.txt"]
)
def test_names_that_leave_the_folder_are_refused(hub, snapshot, standin, tmp_path, path):
    named = replace(snapshot, files={path: RemoteFile(path, 1, "0" * 40, None)})
    patterns = ["*.txt", "*/*.txt", "*/*/*.txt", "*/*/*/*.txt", "/*.txt"]
    standin.log.clear()
    with pytest.raises(HubError, match="unsafe name"):
        fetch(hub, named, [Expected(pattern, required=False) for pattern in patterns], tmp_path / "into")
    assert standin.log == []
    assert not list(tmp_path.glob("*.txt"))


def test_a_link_inside_the_folder_leads_nowhere_else(hub, snapshot, tmp_path):
    into, outside = tmp_path / "into", tmp_path / "outside"
    into.mkdir()
    outside.mkdir()
    (into / "pictures").symlink_to(outside)
    with pytest.raises(HubError, match="outside of"):
        fetch(hub, snapshot, [Expected("pictures/a.txt")], into)
    assert list(outside.iterdir()) == []


def test_content_that_is_not_what_the_commit_names_is_refused(hub, snapshot, tmp_path):
    for path in ("pictures/a.txt", "data/results.parquet"):
        file = snapshot.files[path]
        lie = replace(file, git_oid="0" * 40, sha256=file.sha256 and "0" * 64)
        with pytest.raises(HubError, match="not the content the commit names"):
            fetch(hub, replace(snapshot, files={path: lie}), [Expected(path)], tmp_path / "into")
    assert content(tmp_path / "into") == {}


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("status", [429, 500, 503])
def test_downloads_survive_refusals_that_pass(hub, snapshot, strike, tmp_path, method, status):
    strike(f"{method} .*/resolve/", status=status, times=3)
    fetch(hub, snapshot, [Expected("data/*.parquet")], tmp_path / "into")
    assert content(tmp_path / "into") == {"data/results.parquet": TABLE}


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("moment", ["lost_reply", "dropped_body"])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_downloads_survive_broken_connections(hub, snapshot, strike, tmp_path, moment, method):
    strike(f"{method} .*/resolve/", moment=moment, times=2)
    fetch(hub, snapshot, [Expected("data/*.parquet")], tmp_path / "into")
    assert content(tmp_path / "into") == {"data/results.parquet": TABLE}


def test_a_failed_fetch_leaves_earlier_files_as_they_were(hub, snapshot, strike, tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/a.txt").write_bytes(b"mine")
    strike("GET .*/resolve/.*/b.txt", status=403)
    with pytest.raises(HubError, match="no permission"):
        fetch(hub, snapshot, [Expected("pictures/*.txt", max_files=2)], tmp_path)
    assert content(tmp_path) == {"pictures/a.txt": b"mine"}


@pytest.mark.processes
def test_people_with_only_the_datasets_library_can_load_a_table(hub, runs, environment):
    """Every config of a card, at a tag, by `load_dataset` in a process of its own."""
    import pandas as pd

    from regmix_hf.hub import parquet_bytes

    card = "---\nconfigs:\n" + "".join(
        f"- config_name: {name}\n  data_files: {name}.parquet\n" for name in ("results", "mixtures")
    )
    results = {
        "run_id": ["a", "b"],
        "loss/x": [1.5, 2.5],
        "bpb/arc": [1.25, None],
        "arc/acc_norm": [0.5, None],
        "arc/acc_norm_stderr": [0.125, None],
    }
    files = {
        "README.md": f"{card}---\n".encode(),
        "results.parquet": parquet_bytes(pd.DataFrame(results)),
        "mixtures.parquet": parquet_bytes(pd.DataFrame({"mixture_id": ["m0"], "weight/x": [1.0]})),
    }
    publish(hub, [Publication(runs, files, "Add")])
    publish(hub, [Publication(runs, {"results.parquet": b"newer"}, "Break")])
    program = (
        "import json, sys, datasets\n"
        "load = lambda name: datasets.load_dataset(sys.argv[1], name, revision='v1', split='train')\n"
        "print(json.dumps({name: load(name).to_dict() for name in ('results', 'mixtures')}))"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, runs.id], env=environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "results": results,
        "mixtures": {"mixture_id": ["m0"], "weight/x": [1.0]},
    }
