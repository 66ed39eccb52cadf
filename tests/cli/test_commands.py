"""What a person types and sees: data on stdout, notes on stderr, a message and exit code 2 for a mistake."""

import errno
import importlib
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import typer

from regmix_hf import pipeline
from regmix_hf.cli import app
from regmix_hf.cli.console import Console
from regmix_hf.cli.status import _stage_row
from regmix_hf.errors import RecipeError
from regmix_hf.files import write_json, write_parquet
from regmix_hf.jobs.census import Census
from regmix_hf.jobs.claims import claim
from regmix_hf.jobs.results import record_failed
from regmix_hf.jobs.tokens import TokenCount
from regmix_hf.jobs.turns import alone_in
from regmix_hf.pipeline import StageStatus
from regmix_hf.progress import Silent
from regmix_hf.readable import duration, short
from regmix_hf.recipe import load_recipe
from regmix_hf.stages import prepare
from regmix_hf.study import State, Study
from regmix_hf.study.folder import Standing


def test_validate_says_what_it_checked(regmix, recipe):
    outcome = regmix("validate", recipe)
    assert outcome.code == 0
    assert "ok  proxy.training_args" in outcome.out
    assert f"Next: regmix run {recipe} --dry-run" in outcome.err


def test_env_names_the_configs_of_accelerate(regmix):
    found = json.loads(regmix("env", "--format", "json").out)
    assert found["accelerate_configs"] == ["cpu", "fsdp2", "multi_gpu", "single_gpu"]
    assert (Path(found["accelerate_config_folder"]) / "fsdp2.yaml").is_file()
    assert "liger-kernel" in found["packages"]
    assert "(cpu, fsdp2, multi_gpu, single_gpu)" in " ".join(regmix("env").out.split())


def test_dry_run_touches_nothing_and_counts(regmix, recipe, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    outcome = regmix("run", recipe, "--dry-run", "--format", "json")
    assert outcome.code == 0
    plan = {row["stage"]: row for row in json.loads(outcome.out)["plan"]["rows"]}
    assert plan["proxies"]["runs"] == 16 + 8, "two rounds of four may try the choice"
    assert plan["proxies"]["tokens"] == 24 * 1024
    assert plan["proxies"]["flops"] > 0
    assert plan["train"]["runs"] == plan["train"]["left"] == 1
    assert plan["prepare"]["download_bytes"] == 0, "all text is on this machine"
    assert plan["total"]["tokens"] == plan["proxies"]["tokens"] + plan["train"]["tokens"]
    assert plan["total"]["flops"] == pytest.approx(plan["proxies"]["flops"] + plan["train"]["flops"])
    assert sorted(tmp_path.rglob("*")) == before


def test_one_stage_after_another_then_status(regmix, recipe):
    assert regmix("prepare", recipe).code == 0
    outcome = regmix("sample", recipe, "--format", "json")
    assert [row["domain"] for row in next(iter(json.loads(outcome.out).values()))["rows"]] == ["a", "b"]
    assert f"Next: regmix proxies {recipe}" in outcome.err
    stages = json.loads(regmix("status", recipe, "--format", "json").out)["stages"]["rows"]
    assert [stage["state"] for stage in stages[:3]] == ["done", "done", "missing"]
    stages = json.loads(regmix("status", recipe, "seed=3", "--format", "json").out)["stages"]["rows"]
    assert (stages[1]["state"], stages[1]["reason"]) == ("stale", "seed changed and it depends on prepare")


def test_what_follows_a_stale_stage_is_never_done(regmix, recipe):
    for verb in ("prepare", "sample"):
        assert regmix(verb, recipe).code == 0
    changed = "corpus.validation_fraction=0.1"  # read by `prepare` alone
    for words in (["status"], ["run", "--dry-run"]):
        verb, *options = words
        outcome = regmix(verb, recipe, changed, *options, "--format", "json")
        rows = next(iter(json.loads(outcome.out).values()))["rows"]
        states = {row["stage"]: row["state"] for row in rows}
        assert (states["prepare"], states["sample"], states["proxies"]) == ("stale", "stale", "missing")
    rows = json.loads(regmix("status", recipe, changed, "--format", "json").out)["stages"]["rows"]
    assert rows[1]["reason"] == "it depends on prepare"


#: A mistake that only the last of the training stages would meet.
LATE = "train.training_args.learning_rat=1.0"


@pytest.mark.parametrize(
    "words",
    ["run", "run --to sample", "run --dry-run", "prepare", "sample", "proxies", "fit", "choose", "train"],
)
def test_nothing_starts_that_validate_would_refuse(regmix, recipe, tmp_path, words):
    before = sorted(tmp_path.rglob("*"))
    verb, *options = words.split()
    outcome = regmix(verb, recipe, LATE, *options)
    assert (outcome.code, outcome.out) == (2, "")
    assert "train.training_args.learning_rat: no such training argument; did you mean" in outcome.err
    assert sorted(tmp_path.rglob("*")) == before, "nothing was touched"


@pytest.mark.parametrize("module", ["proxies", "train"])
def test_nor_is_it_started_by_a_launcher(recipe, tmp_path, monkeypatch, capsys, module):
    launched = importlib.import_module(f"regmix_hf.{module}").launched
    monkeypatch.setattr(sys, "argv", [module, str(recipe), LATE])
    assert app.run(launched) == 2
    assert "learning_rat: no such training argument" in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


def test_what_was_found_right_is_not_checked_twice_until_something_changes(regmix, recipe, monkeypatch):
    regmix("prepare", recipe)
    checked = []
    monkeypatch.setattr("regmix_hf.preflight.check_study", lambda study, verbs: checked.append(set(verbs)))
    regmix("sample", recipe)
    assert len(checked) == 1, "the corpus is known now"
    regmix("sample", recipe)
    regmix("status", recipe)
    assert len(checked) == 1
    regmix("sample", recipe, "seed=4")
    assert len(checked) == 2
    assert "train" in checked[1]


def test_a_done_stage_is_not_done_again(regmix, recipe):
    regmix("prepare", recipe)
    assert "done already" in regmix("prepare", recipe).err


@pytest.fixture
def ends(monkeypatch):
    """Let every proxy end at once, each with the next of some statuses."""

    def end(*statuses):
        def run(pool, tasks, work, progress):
            for task, status in zip(tasks, statuses, strict=True):
                losses = {f"loss/{name}": 1.0 if status == "ok" else None for name in "ab"}
                write_json(task.folder / "result.json", {**task.head, "status": status, **losses})
                write_parquet(
                    task.folder / "trajectory.parquet",
                    pd.DataFrame({"run_id": [task.name], "step": [1], "num_tokens": [16]}),
                )
                if status == "failed":
                    record_failed(task, "RuntimeError: CUDA error")
            return Counter(statuses)

        monkeypatch.setattr("regmix_hf.jobs.pool.Pool.run", run)

    return end


@pytest.mark.parametrize(
    ("statuses", "code", "says"),
    [
        (["ok"] * 16, 0, "Next: regmix fit"),
        (["ok"] * 15 + ["failed"], 0, "1 of 16 runs failed"),
        (["failed"] * 14 + ["ok"] * 2, 1, "diverged, 14 failed, the first because RuntimeError: CUDA error"),
        (["diverged"] * 16, 1, "too few runs to fit on: 0 of 12 ended well, 10 are needed; 16 diverged"),
        (["failed"] * 16, 1, "`regmix proxies` tries failed runs again"),
    ],
)
def test_too_few_runs_to_fit_on_are_exit_code_1_and_some_that_failed_a_note(
    regmix, recipe, ends, statuses, code, says
):
    regmix("run", recipe, "--to", "sample")
    ends(*statuses)
    outcome = regmix("proxies", recipe)
    assert outcome.code == code
    assert says in outcome.err
    assert ("Next: regmix fit" in outcome.err) == (code == 0)


def test_nothing_is_left_of_final_models_that_a_pulled_study_left_elsewhere(tmp_path):
    stage = StageStatus("train", "6-models", Standing(State.DONE))
    for is_pulled in (True, False):
        study = SimpleNamespace(root=tmp_path, is_pulled=is_pulled)
        assert ("left" in _stage_row(study, stage, Census(num_left=4))) is not is_pulled
        assert _stage_row(study, stage, Census({"ok": 4}))["runs_done"] == 4


def test_status_counts_runs_and_says_who_is_at_what_and_why_some_failed(regmix, recipe, ends, tmp_path):
    regmix("run", recipe, "--to", "sample")
    ends(*["ok"] * 13, *["failed"] * 3)
    regmix("proxies", recipe)
    results = sorted((tmp_path / "study/3-proxies").glob("*/result.json"))
    ended = [file for file in results if "CUDA" not in file.read_text()]
    for file in ended[:2]:
        file.unlink()
    TokenCount(ended[1].parent)  # begun by somebody who died
    with claim(ended[0].parent):
        TokenCount(ended[0].parent)
        said = json.loads(regmix("status", recipe, "--format", "json").out)
    row = next(row for row in said["stages"]["rows"] if row["stage"] == "proxies")
    counts = {name: row[name] for name in ("state", "runs_done", "running", "failed", "left")}
    assert counts == {"state": "running", "runs_done": 11, "running": 1, "failed": 3, "left": 1}
    (run,) = said["running"]["rows"]
    assert (run["run"], run["pid"]) == (ended[0].parent.name, os.getpid())
    (failed,) = said["failed"]["rows"]
    assert (failed["runs"], failed["why"]) == (3, "RuntimeError: CUDA error")


def test_a_second_prepare_waits_says_for_whom_and_finds_it_done(recipe, recorder, within):
    study = Study(load_recipe(recipe))
    pipeline.begin(study, "prepare")
    with alone_in(study.root, "prepare", Silent()):
        second = threading.Thread(target=pipeline.run_stage, args=(study, "prepare", recorder))
        second.start()
        within(lambda: any(f"waiting for process {os.getpid()} on" in note for note in recorder.notes))
        prepare.run(study, Silent())
    second.join()
    assert recorder.notes[-1].startswith("prepare: done already")


def test_proxies_are_not_launched_over_several_machines(recipe, monkeypatch, capsys):
    ranks = {"WORLD_SIZE": "4", "RANK": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
    for name, value in {**ranks, "GROUP_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("regmix_hf.jobs.ranks.end_with_launcher", lambda: None)
    monkeypatch.setattr(sys, "argv", ["proxies", str(recipe)])
    assert app.run(importlib.import_module("regmix_hf.proxies").launched) == 2
    said = capsys.readouterr().err
    assert "proxies need no launch over 2 machines" in said
    assert f"accelerate launch --num_machines 1 --num_processes 2 -m regmix_hf.proxies {recipe}" in said


def test_quiet_prints_nothing_but_errors(regmix, recipe):
    outcome = regmix("prepare", recipe, "--format", "quiet")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")


def test_a_group_that_must_have_more_than_proxies_tell_of_is_named_before(regmix, recipe):
    known = ("domains.a.num_tokens=4096", "domains.b.num_tokens=4096", "sampling.max.a=0.2")
    asked = "choice.groups.rare={domains: [a], min: 0.3}"
    checked = regmix("validate", recipe, *known, asked)
    said = "not what proxies can tell: group 'rare' must have 30 %, and its domains could have 20 % together"
    assert (checked.code, said in checked.out + checked.err) == (0, True)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["validat", "RECIPE"], "validate"),
        (["validate", "nowhere/recipe.yaml"], "no recipe at"),
        (["validate", "RECIPE", "sampling.num_mixture=4"], "did you mean 'num_mixtures'?"),
        (["validate", "RECIPE", "proxy.training_args.learning_rat=1"], "did you mean 'learning_rate'?"),
        (["validate", "RECIPE", "proxy.training_args.max_steps=1"], "num_train_tokens"),
        (["validate", "RECIPE", "proxy.model.preset=tin"], "did you mean 'tiny'?"),
        (["validate", "RECIPE", "train.accelerate_config=fsdp"], "did you mean 'fsdp2'?"),
        (["validate", "RECIPE", "train.training_args.report_to=wandbb"], "did you mean 'wandb'?"),
        (["validate", "RECIPE", "train.training_args.lr_scheduler_type=cosine_with_min_lr"], "min_lr_rate"),
        (["sample", "RECIPE", "train.training_args.warmup_steps=100"], "and the run has"),
        (["validate", "RECIPE", "train.model.max_position_embeddings=8"], "longer than the model's"),
        (["validate", "RECIPE", "regression.estimators=[ridg]"], "did you mean 'ridge'?"),
        (["validate", "RECIPE", "sampling.num_mixtures=2"], "too few to fit 'ridge'"),
        (["validate", "RECIPE", "regression.estimator=power_law"], "none of regression.estimators"),
        (["validate", "RECIPE", "sampling.max.a=0.3", "sampling.max.b=0.3"], "sampling"),
        (["validate", "RECIPE", "choice.min.a=0.7", "choice.min.b=0.7"], "choice"),
        (["validate", "RECIPE", "choice.groups.x={domains: [c], max: 0.1}"], "choice.groups.x: 'c' is no"),
        (["validate", "RECIPE", "choice.groups.x={domains: [a]}"], "bounds nothing; give `min`"),
        (
            ["run", "RECIPE", "--dry-run", "choice.groups.x={domains: [a, b], max: 0.5}"],
            "together may have 0.5",
        ),
        (
            [
                *("run", "RECIPE", "domains.a.num_tokens=256", "domains.b.num_tokens=8192"),
                "choice.groups.x={domains: [a], min: 0.75}",
            ],
            "lower choice.groups.x.min to 0.5, or raise max_epochs to 6",
        ),
        (["validate", "RECIPE", "train.model.num_hiden_layers=1"], "train: model.num_hiden_layers"),
        (["choose", Path(__file__).parent], "holds neither a recipe nor a fit"),
        (["fit", "--mixtures", "a.csv", "--losses", "b.csv"], "a.csv is not there"),
        (["status", "RECIPE", f"output_dir={__file__}"], "is a file"),
        (["run", "RECIPE", "--from", "traning"], "did you mean 'train'?"),
        (["train", "RECIPE", "--on", "jobs"], "`train` is not done on jobs"),
        (["evaluate", "RECIPE", "--shard", "1/2"], "only proxies are shared out so"),
        (["run", "RECIPE", "--from", "fit", "--to", "sample"], "comes after"),
        (["sample", "RECIPE"], "run `regmix prepare"),
        (["fit"], "--mixtures A.csv --losses B.csv"),
        (["fit", "--mixtures", "a.csv", "--losses", "b.csv", "--output", __file__], "is a file"),
        (["fit", "--mixtures", "a.csv", "--losses", "b.csv", "--test", "c.csv"], "is no test set"),
        (["fit", "--mixtures", "a.csv", "--losses", "b.csv", "--test", "x=c.csv"], "a.csv is not there"),
        (["fit", "--mixtures", "a.csv", "--losses", "b.csv", "--test", "=c.csv,d.csv"], "is no test set"),
        (
            ["fit", "RECIPE", "--mixtures", "a.csv"],
            "and --mixtures, an option for tables, cannot go together",
        ),
        (["fit", "--runs", "t.csv", "--targets", "a_*", "b"], "joined by commas: --targets 'a_*,b'"),
        (["fit", "RECIPE", "--min-signal", "2"], "and --min-signal, an option for tables"),
        (["fit", "RECIPE", "--seed", "1"], "and --seed, an option for tables"),
        (["choose", "RECIPE"], "run `regmix prepare"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(regmix, recipe, words, says):
    outcome = regmix(*(recipe if word == "RECIPE" else word for word in words))
    assert outcome.code == 2
    assert says in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.out == ""


def test_the_folder_of_another_recipe_is_left_alone(regmix, recipe):
    regmix("prepare", recipe)
    outcome = regmix("run", recipe, "name=three", "seed=5")
    assert outcome.code == 2
    assert "was made by the recipe 'two', not by 'three'" in outcome.err


def test_debug_shows_the_traceback(regmix, recipe, monkeypatch):
    monkeypatch.setenv("REGMIX_DEBUG", "1")
    with pytest.raises(RecipeError):
        regmix("validate", recipe, "seed=x")


def failing(error: BaseException) -> typer.Typer:
    application = typer.Typer()

    @application.command()
    def fail() -> None:
        raise error

    return application


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "results.parquet"),
            2,
            "the disk is full at results",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 2, "Permission denied: '/x'"),
        (KeyboardInterrupt(), 130, "the same command goes on"),
        (ZeroDivisionError("division by zero"), 1, "ZeroDivisionError: division by zero"),
    ],
)
def test_what_the_system_refuses_is_said_in_words(error, code, says, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["regmix"])
    assert app.run(failing(error)) == code
    assert says in capsys.readouterr().err


@pytest.mark.cold_processes
def test_a_reader_that_stops_reading_is_no_error(tmp_path):
    code = "import sys; sys.argv = ['regmix', '--help']; from regmix_hf.cli import main; main()"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert b"Traceback" not in process.stderr.read()
    process.wait()
    process.stderr.close()


def test_amounts_and_times_read_as_people_say_them():
    assert [short(n) for n in (0.25, 950, 12_345, 12_288_000, 4.4e10)] == [
        "0.25",
        "950",
        "12.3k",
        "12.3M",
        "44B",
    ]
    assert [duration(s) for s in (42, 150, 9000, 400_000)] == ["42 s", "2.5 min", "2.5 h", "4.63 days"]


def test_lines_about_a_bar_say_what_is_left(capsys, monkeypatch):
    clock = iter([0.0, 5.0, 10.0, 25.0])
    monkeypatch.setattr("regmix_hf.cli.console.time.monotonic", lambda: next(clock))
    with Console().bar("work", total=100, unit="tokens") as bar:
        for done in (0, 20, 60):
            bar.update(done)
    assert capsys.readouterr().err == "work: 60 of 100 tokens, about 13 s left\n"


def test_keys_are_listed_with_what_they_mean_in_the_width_there_is(regmix, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    outcome = regmix("keys", "corpus.num_proc")
    assert outcome.out.splitlines()[0] == "corpus.num_proc"
    assert "takes one per core" in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 60
    assert (
        json.loads(regmix("keys", "corpus.num_proc", "--format", "json").out)["keys"][0]["default"] == "null"
    )
