"""The swarm ends with the same tables, however it is shared out, launched, killed and gone on with."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from regmix_hf.errors import StudyError, TrainingError
from regmix_hf.progress import Silent
from regmix_hf.stages import proxies
from regmix_hf.study import State
from tests.preloaded import family

from .conftest import told_of

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def new_study(new_study):
    """Make a study of six mixtures, one of which is trained as an expert; the models of all are kept."""

    def make(*overrides):
        study = new_study("proxy.keep_models=all", *overrides)
        mixtures = pd.read_parquet(study.mixtures)
        mixtures.loc[mixtures.index[3], ["split", "origin"]] = "expert"
        mixtures.to_parquet(study.mixtures, index=False)
        return study

    return make


@pytest.fixture(scope="module")
def undisturbed(new_study):
    """A study whose six proxies two workers trained without any trouble."""
    study = new_study()
    proxies.run(study, Silent())
    return study


def assert_same_tables(tables, study, other):
    for mine, its in zip(tables(study.proxies), tables(other.proxies), strict=True):
        assert_frame_equal(mine, its)
    for name in ("experts.safetensors", "*/kept-model/model.safetensors"):
        mine, its = ([file.read_bytes() for file in sorted(one.proxies.glob(name))] for one in (study, other))
        assert mine == its
        assert mine


def test_the_tables_hold_one_row_per_mixture_in_the_documented_columns(undisturbed):
    results = pd.read_parquet(undisturbed.proxies / "results.parquet")
    mixtures = pd.read_parquet(undisturbed.mixtures)
    assert undisturbed.state(proxies.STAGE) is State.DONE
    assert list(results["mixture_id"]) == list(mixtures["mixture_id"])
    assert list(results["split"]) == list(mixtures["split"])
    assert sorted(results["split"]) == ["expert", *["fit"] * 4, "holdout"]
    domains = ["prose", "sums", "code"]
    prefixes = ["weight", "realized", "epochs", "loss", "bpb", "loss_stderr"]
    assert list(results.columns) == [
        *["run_id", "mixture_id", "split", "scale", "seed", "status", "num_train_tokens", "num_parameters"],
        *[f"{prefix}/{domain}" for prefix in prefixes for domain in domains],
        *["wall_seconds", "device", "versions", "measured_on"],
    ]
    assert (results["status"] == "ok").all()
    for domain in domains:
        assert np.allclose(results[f"weight/{domain}"], mixtures[f"weight/{domain}"], rtol=0, atol=1e-12)
    trajectories = pd.read_parquet(undisturbed.proxies / "trajectories.parquet")
    assert list(trajectories.columns) == ["run_id", "step", "num_tokens", *(f"loss/{d}" for d in domains)]
    last = trajectories.groupby("run_id").last().loc[results["run_id"]]
    assert (last["num_tokens"] == 3200).all()
    assert (last["loss/sums"].to_numpy() == results["loss/sums"].to_numpy()).all()


def test_one_worker_equals_two(new_study, undisturbed, tables):
    study = new_study("proxy.num_workers=1")
    proxies.run(study, Silent())
    assert_same_tables(tables, study, undisturbed)


def test_killed_at_random_moments_it_ends_with_the_same_tables(
    new_study, undisturbed, tables, killed_and_finished
):
    study = new_study()

    def results(count):
        return lambda: len(list(study.proxies.glob("*/result.json"))) >= count

    begun = lambda: list(study.proxies.glob("*/.tokens"))  # noqa: E731
    said = killed_and_finished("proxies", study, [begun, results(2)], seed=1)
    assert said == "False", "the parent needs no torch"
    assert_same_tables(tables, study, undisturbed)


def test_without_locks_and_with_wrong_clocks_the_killed_and_the_paused_cost_nothing(
    new_study, tables, prepared, within, monkeypatch
):
    folder = Path(__file__).parent / "work"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    small = ["proxy.num_train_tokens=1600", "proxy.num_seeds=2"]
    alone = new_study(*small)
    proxies.run(alone, Silent())
    study = new_study(*small)
    command = [sys.executable, str(folder / "without_locks.py"), str(prepared / "recipe.json")]
    where = [*told_of(study), *small]
    started = [subprocess.Popen([*command, hours, *where]) for hours in ("-2", "0", "1", "2")]
    workers = lambda process: family(process.pid)  # noqa: E731
    ended = lambda: len(list(study.proxies.glob("*/result.json")))  # noqa: E731
    try:
        within(lambda: list(study.proxies.glob("*/.tokens")) and workers(started[3]), seconds=60)
        (paused,) = workers(started[3])
        paused.suspend()
        within(lambda: ended() >= 3, seconds=60)
        started[0].kill()
        within(lambda: ended() >= 6, seconds=60)
        for process in workers(started[1]):
            process.kill()
        within(lambda: ended() >= 9, seconds=60)
        for process in workers(started[2]):
            process.kill()
        within(lambda: started[1].poll() == started[2].poll() == 0, seconds=120)
        paused.resume()
        within(lambda: started[3].poll() == 0, seconds=60)
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert_same_tables(tables, study, alone)
    assert pd.read_parquet(study.proxies / "results.parquet")["run_id"].is_unique
    assert not list(study.proxies.glob("*/.lock"))


def test_each_proxy_under_the_launcher_equals_the_same_proxy_alone(
    new_study, undisturbed, tables, accelerate_launch
):
    study = new_study()
    accelerate_launch("regmix_hf.proxies", study)
    assert study.state(proxies.STAGE) is State.DONE
    assert_same_tables(tables, study, undisturbed)


def test_a_launch_goes_on_without_a_rank_that_has_no_worker_and_fails_without_any(
    new_study, undisturbed, tables, accelerate_launch, monkeypatch, tmp_path
):
    study, losing = new_study(), "tests.stages.work.losing_ranks"
    monkeypatch.setenv("LOST_RANKS", "0 1")
    monkeypatch.setenv("LOST_RANKS_END", str(tmp_path / "both"))
    with pytest.raises(AssertionError, match="regmix: a worker could not start"):
        accelerate_launch(losing, study)
    monkeypatch.setenv("LOST_RANKS", "1")
    monkeypatch.setenv("LOST_RANKS_END", str(tmp_path / "second"))
    said = accelerate_launch(losing, study)
    assert "rank 1 ends, and the others go on: a worker could not start: with exit code 1" in said
    assert_same_tables(tables, study, undisturbed)


def test_a_launch_that_may_restart_survives_a_killed_rank_and_who_is_stopped_says_how(
    new_study, undisturbed, tables, accelerate_launch
):
    study = new_study()
    said = accelerate_launch("tests.stages.work.killed_rank", study, flags=("--max_restarts", "1"))
    assert "`accelerate launch --max_restarts 3 ...`" in said
    assert_same_tables(tables, study, undisturbed)


def test_older_runs_are_left_alone_and_names_are_those_of_now(undisturbed, tables, new_study):
    study = new_study()
    shutil.copytree(undisturbed.proxies, study.proxies, dirs_exist_ok=True)
    mixtures = pd.read_parquet(study.mixtures)
    renamed = mixtures.iloc[[5, 0]].assign(mixture_id=["m0000", "m0001"], split=["fit", "holdout"])
    renamed.to_parquet(study.mixtures, index=False)
    proxies.run(study, Silent())  # starts no worker: both runs are done
    results, trajectories = tables(study.proxies)
    before, _ = tables(undisturbed.proxies)
    assert list(results["run_id"]) == [before["run_id"][5], before["run_id"][0]]
    assert list(results["mixture_id"]) == ["m0000", "m0001"]
    assert list(results["split"]) == ["fit", "holdout"]
    assert list(trajectories["run_id"].unique()) == list(results["run_id"])
    assert len(list(study.proxies.glob("*/result.json"))) == 6


def test_a_failed_run_is_recorded_and_tried_again_and_the_others_stay(
    new_study, undisturbed, tables, recorder
):
    study = new_study("proxy.num_workers=1")
    shutil.copytree(undisturbed.proxies, study.proxies, dirs_exist_ok=True)
    (study.proxies / ".proxies.json").unlink()
    victim = study.proxies / pd.read_parquet(study.proxies / "results.parquet")["run_id"][2]
    (victim / "result.json").unlink()
    (victim / "trajectory.parquet").unlink()
    (victim / "trajectory.parquet").mkdir()  # the run cannot write its trajectory
    proxies.run(study, recorder)
    results, trajectories = tables(study.proxies)
    assert list(results["status"]) == ["ok", "ok", "failed", "ok", "ok", "ok"]
    assert list(results.columns) == list(tables(undisturbed.proxies)[0].columns)
    assert results["loss/sums"].isna().tolist() == [False, False, True, False, False, False]
    assert victim.name not in set(trajectories["run_id"])
    assert "IsADirectoryError" in json.loads((victim / "result.json").read_text())["reason"]
    (note,) = (note for note in recorder.notes if note.startswith("1 of 6 runs failed"))
    assert "IsADirectoryError" in note
    assert note.endswith(f"see {victim / 'log.txt'}")
    assert "Traceback" in (victim / "log.txt").read_text()
    assert study.state(proxies.STAGE) is State.PARTIAL

    (victim / "trajectory.parquet").rmdir()
    proxies.run(study, recorder)
    assert study.state(proxies.STAGE) is State.DONE
    assert_same_tables(tables, study, undisturbed)


def test_diverged_runs_are_counted_and_not_tried_again(new_study, recorder):
    study = new_study("proxy.num_workers=1", "proxy.training_args.learning_rate=1e30")
    mixtures = pd.read_parquet(study.mixtures).head(2)
    mixtures.to_parquet(study.mixtures, index=False)
    proxies.run(study, recorder)
    results = pd.read_parquet(study.proxies / "results.parquet")
    assert list(results["status"]) == ["diverged", "diverged"]
    assert results["loss/sums"].dtype == np.float64
    assert "2 of 2 runs diverged; nothing is fitted on them" in recorder.notes
    assert study.state(proxies.STAGE) is State.DONE
    before = [path.stat().st_mtime_ns for path in study.proxies.glob("*/result.json")]
    proxies.run(study, recorder)
    assert [path.stat().st_mtime_ns for path in study.proxies.glob("*/result.json")] == before


def test_a_key_that_stops_every_run_is_one_error(new_study):
    study = new_study("proxy.num_workers=1", "proxy.model.num_attention_heads=3")
    with pytest.raises(TrainingError, match="heads"):
        proxies.run(study, Silent())
    assert not list(study.proxies.glob("*/result.json"))


def test_without_mixtures_it_says_what_to_run(new_study):
    study = new_study()
    study.mixtures.unlink()
    with pytest.raises(StudyError) as caught:
        proxies.run(study, Silent())
    assert caught.value.hint == "run `regmix sample` first"
