"""Final models: which runs there are, and that launches, kills and ranks leave their numbers alone."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from regmix_hf.errors import MixtureError, StudyError, TrainingError
from regmix_hf.files import write_json, write_parquet
from regmix_hf.jobs import finals
from regmix_hf.jobs.claims import LostClaimError, Standing, Watch, claim
from regmix_hf.jobs.finals import FinalWork, did_not_fit
from regmix_hf.jobs.ranks import Ranks, do_together
from regmix_hf.jobs.tasks import OutOfMemoryError, Task
from regmix_hf.plan import make_plan
from regmix_hf.preflight import check_study
from regmix_hf.progress import Silent
from regmix_hf.recipe import load_recipe
from regmix_hf.stages import choose, train
from regmix_hf.study import State, Study
from tests.preloaded import Mode, family, starting

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def undisturbed(new_study):
    """A study whose three final models were trained by two launches side by side, without any trouble."""
    study = new_study()
    train.run(study, Silent())
    return study


class FakeLaunches:
    """Takes the place of `accelerate launch`: notes what it is asked, and records results as ranks would."""

    def __init__(self, study, code=0):
        self.study, self.code, self.asked = study, code, []

    def __call__(self, launch):
        self.asked.append(launch)
        launch.log.parent.mkdir(exist_ok=True)
        launch.log.write_text("regmix: the disk is full\n" if self.code else "")
        for task in [] if self.code else train.tasks_of(self.study):
            spec = task.spec
            task.folder.mkdir(exist_ok=True)
            row = {
                "run_id": spec.run_id,
                "mixture_id": spec.mixture_id,
                "split": spec.split,
                "seed": spec.seed,
            }
            frame = pd.DataFrame({"run_id": [spec.run_id], "step": [1], "num_tokens": [16]})
            write_parquet(task.folder / "trajectory.parquet", frame)
            write_json(task.folder / "result.json", {**row, "status": "ok", "loss/sums": 1.0})
        return self

    def poll(self):
        return self.code

    def stop(self):
        pass


def test_final_runs_are_mixtures_times_seeds_each_in_its_folder(new_study):
    study = new_study("train.num_seeds=2", "train.mixtures=[chosen, prior, uniform, sums_first]")
    tasks = train.tasks_of(study)
    assert [task.folder.relative_to(study.models).name for task in tasks] == [
        *("chosen", "chosen-seed-1", "prior", "prior-seed-1"),
        *("uniform", "uniform-seed-1", "sums_first", "sums_first-seed-1"),
    ]
    weights = {task.name: task.spec.weights for task in tasks}
    assert weights["chosen"] == weights["chosen-seed-1"] == {"prose": 0.5, "sums": 0.25, "code": 0.25}
    assert weights["uniform"] == pytest.approx(dict.fromkeys(weights["chosen"], 1 / 3))
    assert weights["sums_first"] == {"prose": 0.0, "sums": 0.75, "code": 0.25}
    facts = json.loads((study.corpus / "corpus.json").read_text())["domains"]
    tokens = {name: domain["train"]["num_tokens"] for name, domain in facts.items()}
    assert weights["prior"] == pytest.approx({n: t / sum(tokens.values()) for n, t in tokens.items()})
    assert len({task.spec.run_id for task in tasks}) == 8


def test_final_runs_on_samples_are_warned_of_with_the_numbers(new_study, recorder):
    study = new_study("domains.sums.num_tokens=1000000", "train.mixtures=[sums_first]")
    train.run(study, recorder, start=FakeLaunches(study))
    facts = json.loads((study.corpus / "corpus.json").read_text())["domains"]
    epochs = 0.75 * 6400 / facts["sums"]["train"]["num_tokens"]
    assert (
        "warning: final runs on samples: 1 of 3 sources have fewer tokens than the recipe says; "
        f"'sums_first' reads 'sums' {epochs:.3g} times"
    ) in recorder.notes


SAME = ("baselines.same={prose: 2, sums: 1, code: 1}", "train.mixtures=[chosen, same]", "train.num_seeds=2")


def test_two_names_of_one_mixture_are_trained_once_and_both_show_its_models(new_study, recorder):
    study = new_study(*SAME)
    assert [task.name for task in train.tasks_of(study)] == ["chosen", "chosen-seed-1"]
    assert [task.name for task in train.tasks_of(study, ["same"])] == ["chosen", "chosen-seed-1"]
    (study.models / "same" / "checkpoints").mkdir(parents=True)  # of before it was known
    train.run(study, recorder, start=FakeLaunches(study))
    said = "'same' is the same mixture as 'chosen': one model a seed is for both"
    assert [note for note in recorder.notes if "same mixture" in note] == [said]
    results = pd.read_parquet(study.models / "results.parquet")
    assert results["mixture_id"].tolist() == ["chosen"] * 2 + ["same"] * 2
    assert results["run_id"].nunique() == 2
    for name in ("same", "same-seed-1"):
        row = json.loads((study.models / name / "result.json").read_text())
        assert row["mixture_id"] == "same"
        assert (study.models / name / "trajectory.parquet").exists()
    assert not (study.models / "same" / "checkpoints").exists()
    assert len(train.tasks_of(study)) == 2


def test_who_lost_the_claim_on_a_copy_leaves_its_result_to_whoever_has_it(tmp_path, monkeypatch):
    spec, copy = SimpleNamespace(mixture_id="same"), finals.shutil.copytree
    run, task = (Task(name, tmp_path / name, 1, spec, {"run_id": "r"}) for name in ("chosen", "same"))
    write_json(run.folder / "result.json", {"run_id": "r", "status": "ok"})

    def lose(*words, **options):
        (task.folder / ".lease-000009").write_text("another machine")
        return copy(*words, **options)

    monkeypatch.setattr(finals.shutil, "copytree", lose)
    with pytest.raises(LostClaimError):
        finals.give(task, run)
    assert not (task.folder / "result.json").exists()


def test_a_choice_that_ends_as_a_baseline_takes_over_the_models_of_that(new_study):
    study = new_study("train.mixtures=[chosen, uniform]")
    train.run(study, Silent(), start=FakeLaunches(study))
    before = (study.models / "uniform" / "result.json").read_bytes()
    write_json(study.models / "uniform" / "asked-later" / "x" / "result.json", {"status": "diverged"})
    third = 1 / 3
    study.mixture.write_text(f"weights: {{prose: {third}, sums: {third}, code: {third}}}\n")
    launches = FakeLaunches(study)
    train.run(study, Silent(), start=launches)
    assert not launches.asked, "nothing is left to train"
    results = pd.read_parquet(study.models / "results.parquet")
    assert results["mixture_id"].tolist() == ["chosen", "uniform"]
    assert results["run_id"].nunique() == 1
    row = json.loads((study.models / "chosen" / "result.json").read_text())
    assert (row["mixture_id"], row["run_id"]) == ("chosen", results["run_id"][0])
    assert (study.models / "chosen" / "asked-later" / "x" / "result.json").exists(), "else it is asked again"
    assert (study.models / "uniform" / "result.json").read_bytes() == before


def test_a_plan_counts_the_runs_of_a_mixture_that_is_yet_to_be_chosen_again(new_study):
    study = new_study("train.mixtures=[chosen, uniform]", "train.num_seeds=2", "executor.gpu=h200")
    train.run(study, Silent(), start=FakeLaunches(study))
    assert study.state(choose.STAGE) is not State.DONE
    [plan] = make_plan(study, first="train", last="train").stages
    assert (plan.runs, plan.left) == (4, 2)
    (study.models / "uniform" / "result.json").unlink()
    [plan] = make_plan(study, first="train", last="train").stages
    assert plan.left == 3


def test_held_out_mixtures_of_the_swarm_are_trained_on_by_their_names(new_study):
    study = new_study("train.mixtures=[prior, holdout]")
    mixtures = pd.read_parquet(study.mixtures).set_index("mixture_id")
    (name,) = mixtures.index[mixtures["split"] == "holdout"]
    tasks = {task.name: task.spec for task in train.tasks_of(study)}
    assert list(tasks) == ["prior", name]
    assert tasks[name].weights == pytest.approx(
        {domain: mixtures.loc[name, f"weight/{domain}"] for domain in ("prose", "sums", "code")}
    )


def test_more_of_a_domain_than_allowed_is_refused_before_anything_is_launched(new_study):
    study = new_study("train.num_train_tokens=64000", "choice.max_epochs=2")
    launches = FakeLaunches(study)
    with pytest.raises(MixtureError, match="'sums_first' would read domain 'sums'"):
        train.run(study, Silent(), start=launches)
    assert not launches.asked
    allowed = new_study("train.num_train_tokens=64000", "choice.max_epochs=2", "train.allow_repetition=true")
    assert len(train.tasks_of(allowed)) == 3


def test_a_baseline_outside_the_bounds_is_checked_as_a_comparison_only(new_study):
    found = check_study(new_study("choice.max.sums=0.3"), ["train"])
    assert "train: sums_first: outside the bounds of `choice`, so a comparison only" in found


def test_what_is_launched_reads_this_very_recipe(new_study):
    study = new_study("train.num_train_tokens=6416")
    launches = FakeLaunches(study)
    train.run(study, Silent(), start=launches)
    assert len(launches.asked) == 2
    command = launches.asked[0].command
    assert command[1:4] == ["-m", "accelerate.commands.launch", "--quiet"]
    assert command[-4:-2] == ["-m", "regmix_hf.train"]
    assert load_recipe(command[-2]).model_dump() == study.recipe.model_dump()
    assert command[-1] == "executor.wait=true", "of two side by side each does the runs of one that dies"
    assert study.state(train.STAGE) is State.DONE
    train.run(study, Silent(), start=launches)
    assert len(launches.asked) == 2, "nothing is launched when everything is done"


def test_a_changed_baseline_opens_its_own_run_only(new_study):
    study = new_study()
    train.run(study, Silent(), start=FakeLaunches(study))
    other = Study(study.recipe.model_copy(update={"baselines": {"sums_first": {"sums": 1.0}}}))
    assert other.state(train.STAGE) is State.STALE
    launches = FakeLaunches(other)
    train.run(other, Silent(), start=launches)
    assert len(launches.asked) == 1
    assert other.state(train.STAGE) is State.DONE


def test_a_run_that_does_not_fit_is_launched_again_with_half_the_blocks_at_once(new_study, recorder):
    study = new_study("train.mixtures=[prior]", "train.num_workers=1")
    (task,) = train.tasks_of(study)
    tried, ranks = [], Ranks(use_cpu=True, timeout_s=1)

    class Training(FinalWork):
        """Fits with two blocks at once."""

        def open(self):
            def do(spec, folder, on_tokens):
                tried.append((spec.run_id, spec.micro_batch, spec.num_batch_tokens))
                if spec.micro_batch > 2:
                    raise OutOfMemoryError("CUDA out of memory")
                FakeLaunches(study)(SimpleNamespace(log=study.models / "log"))

            return do

    class InThisProcess(FakeLaunches):
        """Takes the place of a launch and of its ranks."""

        def __call__(self, launch):
            self.code = 0
            try:
                do_together([task], Training(study.corpus, Path("unread")), ranks, stays=False)
            except TrainingError as error:
                launch.log.write_text(f"regmix: {error}\n")
                self.code = 2
            return self

    train.run(study, recorder, start=InThisProcess(study))
    assert [size for _, size, _ in tried] == [8, 4, 2]
    assert len({(name, tokens) for name, _, tokens in tried}) == 1, "the same run, with the same steps"
    assert "prior: 8 blocks at once did not fit into memory; trying 4" in recorder.notes
    assert study.state(train.STAGE) is State.DONE
    assert not (task.folder / ".micro_batch.json").exists()
    whole = did_not_fit(task, task.spec.with_micro_batch(1), 1, "CUDA out of memory")
    assert "not even one block at once fits" in str(whole)
    shared = did_not_fit(task, task.spec, 4, "CUDA out of memory")  # a step has two blocks for each of four
    assert "tried with 1, and a step has as many tokens" in shared.hint


def test_runs_of_others_who_live_are_left_to_them(new_study, recorder, monkeypatch):
    study = new_study("train.num_workers=1", "train.mixtures=[prior]")
    (task,) = train.tasks_of(study)
    monkeypatch.setattr(Watch, "look", lambda *_: (Standing.ALIVE, None))
    with claim(task.folder):
        do_together([task], FinalWork(study.corpus, Path("x")), Ranks(use_cpu=True, timeout_s=1), stays=False)

        class EndsAtOnce(FakeLaunches):
            def __call__(self, launch):
                self.asked.append(launch)
                launch.log.touch()
                return self

        launches = EndsAtOnce(study)
        train.run(study, recorder, start=launches)
    assert launches.asked[0].command[-2] == "regmix_hf.train", "one launch is told to stay for nobody"
    assert recorder.notes[-1] == "1 of 1 final runs are left to others; the last of them ends the stage"
    assert study.state(train.STAGE) is State.PARTIAL


def test_a_failed_launch_names_its_log_and_leaves_the_stage_open(new_study):
    study = new_study()
    with pytest.raises(TrainingError, match="the disk is full") as caught:
        train.run(study, Silent(), start=FakeLaunches(study, code=2))
    assert str(study.models / "launch-") in caught.value.hint
    assert study.state(train.STAGE) is State.PARTIAL


def test_without_a_chosen_mixture_it_says_what_to_run(new_study):
    study = new_study()
    study.mixture.unlink()
    with pytest.raises(StudyError) as caught:
        train.run(study, Silent())
    assert caught.value.hint == "run `regmix choose` first"


def test_launched_models_load_and_their_results_are_collected(undisturbed):
    from transformers import AutoModelForCausalLM

    results = pd.read_parquet(undisturbed.models / "results.parquet")
    assert undisturbed.state(train.STAGE) is State.DONE
    assert list(results["mixture_id"]) == ["chosen", "prior", "sums_first"]
    assert (results["status"] == "ok").all()
    assert (results["split"] == "final").all()
    trajectories = pd.read_parquet(undisturbed.models / "trajectories.parquet")
    assert list(trajectories["run_id"].unique()) == list(results["run_id"])
    assert (trajectories.groupby("run_id")["num_tokens"].max() == 6400).all()
    model = AutoModelForCausalLM.from_pretrained(undisturbed.models / "prior")
    assert model.config.hidden_size == 16


def test_killed_it_leaves_no_rank_behind_and_ends_with_the_same_models(
    new_study, undisturbed, tables, start_stage, within, gone
):
    study = new_study()
    signs = "*/checkpoints/checkpoint-*/complete.json", "*/result.json"
    begun = lambda: any(any(study.models.glob(sign)) for sign in signs)  # noqa: E731
    with claim(train.tasks_of(study)[-1].folder):  # as if others were at it: nobody ends before the kill
        process = start_stage("train", study)
        # Two launches of one rank each; the second may begin after the first one's first checkpoint, or run.
        within(lambda: begun() and len(family(process.pid)) == 4, seconds=120)
        ranks = family(process.pid)
        process.kill()
        process.wait()
    within(lambda: gone(ranks))
    assert not (study.models / "results.parquet").exists()

    with starting(Mode.COLD):
        process = start_stage("train", study, "train.num_workers=1")
    said = process.communicate(timeout=180)[0]
    assert (process.returncode, said.strip()) == (0, "False"), said
    for mine, its in zip(tables(study.models), tables(undisturbed.models), strict=True):
        assert_frame_equal(mine, its)
    for name in ("chosen", "prior", "sums_first"):
        files = [s.models / name / "model.safetensors" for s in (study, undisturbed)]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_two_ranks_train_one_model_and_only_the_asked_mixture(
    new_study, undisturbed, tables, accelerate_launch
):
    study = new_study()
    accelerate_launch("regmix_hf.train", study, "--mixture", "prior")
    assert not (study.models / "results.parquet").exists(), "the stage is not done"
    mine = json.loads((study.models / "prior" / "result.json").read_text())
    alone = json.loads((undisturbed.models / "prior" / "result.json").read_text())
    assert mine["run_id"] == alone["run_id"]
    assert mine["device"] == "2 x cpu"
    losses = [name for name in alone if name.startswith("loss/")]
    assert np.allclose([mine[n] for n in losses], [alone[n] for n in losses], rtol=1e-3)


def test_a_mixture_that_is_not_asked_for_is_a_mistake(prepared, new_study):
    study = new_study()
    command = [
        sys.executable,
        "-m",
        "regmix_hf.train",
        str(prepared / "recipe.json"),
        f"output_dir={study.root}",
    ]
    done = subprocess.run([*command, "--mixture", "priro"], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 2
    assert done.stderr.startswith("regmix: --mixture 'priro' is not in train.mixtures; did you mean 'prior'?")
    assert not Path(study.models).exists()
