"""A pull that is killed, cut off, or meets another ends like one that was left alone, or says why not."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from regmix_hf.errors import HubError, StudyError, UnreachableError
from regmix_hf.jobs.claims import claim
from regmix_hf.sharing import pull_study

pytestmark = pytest.mark.processes

PARTS = ("runs", "regressor", "mixture", "model")
NUM_KILLS = 3
PULL = """
import sys
from collections.abc import Iterator
from pathlib import Path
from regmix_hf import pipeline
from regmix_hf.sharing import pull_study
import regmix_hf.sharing.incoming_model, regmix_hf.training.models

stages = [pipeline.stage_of(verb) for verb in pipeline.VERBS]
print("ready", flush=True)
sys.stdin.readline()
pull_study("me/small", stages, Path(sys.argv[1]), only=sys.argv[2].split(","))
"""


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the recipe's own place, which differs."""
    return {
        str(path.relative_to(folder)): path.read_bytes().replace(str(folder).encode(), b"FOLDER")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.usefixtures("pushed")
def test_killed_after_any_request_and_repeated_it_ends_with_the_same_files(
    standin, stages, environment, strike, tmp_path
):
    standin.log.clear()
    pull_study("me/small", stages, tmp_path / "undisturbed", only=PARTS)
    num_requests = len(standin.log)
    expected = contents(tmp_path / "undisturbed")
    for number, position in enumerate(random.Random(1).sample(range(2, num_requests), NUM_KILLS)):
        folder = tmp_path / f"killed-{number}"
        with subprocess.Popen(
            [sys.executable, "-c", PULL, str(folder), ",".join(PARTS)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout.readline() == "ready\n"
            pid = process.pid
            strike(".", moment="after", skip=position, action=lambda pid=pid: os.kill(pid, signal.SIGKILL))
            process.communicate("go\n", timeout=100)
            assert process.returncode == -signal.SIGKILL
        standin.faults.clear()
        pull_study("me/small", stages, folder, only=PARTS)
        assert contents(folder) == expected, f"killed after request {position}"


@pytest.mark.usefixtures("pushed")
def test_interrupted_while_files_take_their_places_it_can_be_repeated(stages, monkeypatch, tmp_path):
    pull_study("me/small", stages, tmp_path / "undisturbed", only=PARTS)
    expected = contents(tmp_path / "undisturbed")
    for position in (3, 16):
        left = iter(range(position))

        def interrupted(source: Path, target: Path, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(source, target)

        folder = tmp_path / f"interrupted-{position}"
        with monkeypatch.context() as patch:
            patch.setattr("regmix_hf.sharing.arrivals._move", interrupted)
            with pytest.raises(KeyboardInterrupt):
                pull_study("me/small", stages, folder, only=PARTS)
        assert not any(folder.glob("*/.[a-z]*.json")), "nothing counts as done"
        pull_study("me/small", stages, folder, only=PARTS)
        assert contents(folder) == expected


@pytest.mark.usefixtures("pushed", "hurried")
def test_cut_off_it_goes_on_from_what_had_arrived(standin, stages, strike, tmp_path):
    folder = tmp_path / "pulled"
    strike("GET /me/small-regressor/resolve/", moment="dropped_body", skip=3, times=1000)
    with pytest.raises(UnreachableError, match="cannot be reached"):
        pull_study("me/small", stages, folder)
    assert [path.name for path in folder.iterdir()] == [".pull"]
    standin.faults.clear()
    standin.log.clear()

    pull_study("me/small", stages, folder)

    assert not (folder / ".pull").exists()
    loaded = len(standin.requests("GET /me/small-regressor/resolve/"))
    standin.log.clear()
    pull_study("me/small", stages, tmp_path / "undisturbed")
    assert loaded == len(standin.requests("GET /me/small-regressor/resolve/")) - 3
    assert contents(folder) == contents(tmp_path / "undisturbed")


@pytest.mark.usefixtures("pushed")
def test_a_version_whose_tag_was_moved_is_not_put_over_the_one_that_was_pulled(standin, stages, tmp_path):
    pull_study("me/small@v1", stages, tmp_path / "pulled")
    before = contents(tmp_path / "pulled")
    repo = standin.repo("me/small-mixture")
    blob = repo.head.files["mixture.yaml"]
    files = {**repo.head.files, "mixture.yaml": type(blob)(blob.content + b"\n", False)}
    repo.tags["v1"] = repo.add_commit("main", files, title="Better", author="me").oid

    with pytest.raises(HubError, match=r"small-mixture' is .*, and was .* when it was pulled") as caught:
        pull_study("me/small@v1", stages, tmp_path / "pulled")

    assert "moved the tag" in str(caught.value.hint)
    assert contents(tmp_path / "pulled") == before
    assert pull_study("me/small@v1", stages, tmp_path / "other").version == "v1"


@pytest.mark.usefixtures("pushed")
def test_a_tag_that_moves_during_the_pull_does_not_mix_two_states(standin, stages, strike, tmp_path):
    pull_study("me/small@v1", stages, tmp_path / "undisturbed")
    repo = standin.repo("me/small-runs")

    def move() -> None:
        blob = repo.head.files["recipe.yaml"]
        changed = {**repo.head.files, "recipe.yaml": type(blob)(b"name: other\n", False)}
        repo.tags["v1"] = repo.add_commit("main", changed, title="Move", author="me").oid

    strike("GET /datasets/me/small-runs/resolve/", moment="after", action=move)
    pull_study("me/small@v1", stages, tmp_path / "pulled")
    assert contents(tmp_path / "pulled") == contents(tmp_path / "undisturbed")


@pytest.mark.usefixtures("pushed")
def test_two_pulls_do_not_share_a_folder(stages, tmp_path):
    with claim(tmp_path / "pulled" / ".pull") as granted:
        assert granted
        with pytest.raises(StudyError, match="by another process"):
            pull_study("me/small", stages, tmp_path / "pulled")
    assert pull_study("me/small", stages, tmp_path / "pulled").version == "v1"


@pytest.mark.usefixtures("pushed")
@pytest.mark.parametrize(
    "what", ["a file", "a study of one's own", "another pull", "a link to a full folder"]
)
def test_what_is_in_the_way_is_left_alone(stages, tmp_path, what):
    folder = tmp_path / "taken"
    if what == "a file":
        folder.write_text("mine")
    elif what == "a study of one's own":
        folder.mkdir()
        (folder / "study.json").write_text('{"name": "small"}')
    elif what == "another pull":
        folder.mkdir()
        (folder / ".pulled.json").write_text('{"source": "you/small"}')
    else:
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "thesis.txt").write_text("mine")
        folder.symlink_to(tmp_path / "full")
    before = contents(tmp_path)
    with pytest.raises(StudyError) as caught:
        pull_study("me/small", stages, folder)
    assert str(folder) in str(caught.value)
    assert contents(tmp_path) == before
