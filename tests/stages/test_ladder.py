"""A study whose proxies are of two sizes: from the mixtures of both to one for the size of final models."""

import json
import shutil
from collections import Counter
from dataclasses import replace

import pandas as pd
import pytest

from regmix_hf import pipeline
from regmix_hf.choice.fitted import FittedRuns
from regmix_hf.cli.status import _rung_rows
from regmix_hf.corpus.corpus import Corpus
from regmix_hf.errors import RecipeError
from regmix_hf.evaluation.promises import write_promises
from regmix_hf.files import read_json, read_yaml, write_parquet
from regmix_hf.jobs.results import status_of
from regmix_hf.mixtures.table import read_mixtures
from regmix_hf.plan import make_plan
from regmix_hf.preflight import check_study
from regmix_hf.progress import Silent
from regmix_hf.recipe import load_recipe
from regmix_hf.regression import MixtureRegressor
from regmix_hf.regression.by_size import families_of
from regmix_hf.regression.target import Target
from regmix_hf.stages import choose, fit, proxies, report, sample, train
from regmix_hf.study import State
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.study.promises import Promises
from regmix_hf.study.rounds import rounds_in
from regmix_hf.tables import by_domain
from regmix_hf.training.run import train_final
from regmix_hf.training.spec import proxy_specs

from ..conftest import Recorder
from ..tiny import LLAMA
from .conftest import ARGUMENTS, WORDS

SWARM = {
    "scale": "small",
    "model": LLAMA,
    "num_train_tokens": 640,
    "num_evaluations": 1,
    "training_args": ARGUMENTS,
    "num_workers": 1,
}
LARGE = {"scale": "large", "model": {**LLAMA, "hidden_size": 32}, "num_mixtures": 5}
LADDER = (
    "proxy=null",
    f"proxies={json.dumps([SWARM, LARGE])}",
    "train.model.hidden_size=48",
    "train.num_train_tokens=960",
    "train.mixtures=[chosen]",
    "choice.force=true",
    "choice.num_candidates=2000",
    "choice.max_epochs=null",
)
RANKED = (*LADDER, "sampling.experts=true", "regression.estimators=[experts]", "choice.num_confirm=1")


class Here:
    """Does tasks one after the other, in this process."""

    def run(self, tasks, work, progress):
        do = work.open()
        for task in tasks:
            if status_of(task) is None:
                do(task.spec, task.folder, lambda tokens: None)
        return Counter(status_of(task) for task in tasks)


@pytest.fixture(scope="module")
def sampled(new_study):
    study = new_study(*LADDER)
    sample.run(study, Silent())
    return study


@pytest.fixture(scope="module")
def trained(new_study):
    """All proxies of a swarm and of a larger size are trained, in earnest."""
    study = new_study(*LADDER)
    sample.run(study, Silent())
    proxies.run(study, Silent(), Here())
    return study


def test_a_few_mixtures_are_run_again_at_the_larger_size_and_the_swarm_is_as_without(sampled, new_study):
    table = read_mixtures(sampled.mixtures)
    assert table["rung"].value_counts().to_dict() == {0: 11, 1: 5}
    facts = CorpusFacts.load(sampled.corpus)
    specs = proxy_specs(sampled.recipe, facts, table)
    alone = new_study("proxy=" + json.dumps(SWARM), "train.model.hidden_size=48")
    sample.run(alone, Silent())
    of_swarm = proxy_specs(alone.recipe, facts, read_mixtures(alone.mixtures))
    assert [spec.run_id for spec in specs[:11]] == [spec.run_id for spec in of_swarm]
    large = specs[11:]
    assert {(spec.scale, spec.model["hidden_size"], spec.seed) for spec in large} == {
        ("large", 32, specs[0].seed)
    }
    assert {tuple(spec.weights.values()) for spec in large} <= {
        tuple(spec.weights.values()) for spec in specs[:11] if spec.split == "fit"
    }
    assert len({spec.run_id for spec in specs}) == 16


def test_a_size_that_is_added_leaves_what_is_there_and_its_rows_alone_are_new(sampled, new_study):
    alone = new_study("proxy=" + json.dumps(SWARM), "train.model.hidden_size=48")
    sample.run(alone, Silent())
    before = read_mixtures(alone.mixtures)
    ladder = type(alone)(
        sampled.recipe.model_copy(update={"output_dir": alone.root, "proxies": sampled.recipe.proxies})
    )
    assert ladder.changes(sample.STAGE) == ["proxies"]
    sample.run(ladder, Silent())
    after = read_mixtures(ladder.mixtures)
    pd.testing.assert_frame_equal(after[: len(before)], before)
    assert after["rung"][len(before) :].tolist() == [1] * 5
    assert ladder.state(sample.STAGE) == State.DONE
    assert alone.state(sample.STAGE) == State.STALE


def test_the_plan_and_the_status_say_each_size(sampled):
    executor = sampled.recipe.executor.model_copy(update={"gpu": "h200"})  # then nothing is measured
    on_gpu = type(sampled)(sampled.recipe.model_copy(update={"executor": executor}))
    planned = [stage for stage in make_plan(on_gpu).stages if stage.verb == "proxies"]
    assert [(stage.rung, stage.runs, stage.left) for stage in planned] == [
        ("proxies.0 (small)", 11, 11),
        ("proxies.1 (large)", 5 + 8, 5 + 8),  # those that may try a choice are of the largest
    ]
    per_token = [stage.flops / stage.tokens for stage in planned]
    assert per_token[1] > 1.5 * per_token[0]
    censuses = pipeline.censuses_of(sampled, "proxies")
    assert [census.num_left for census in censuses] == [11, 5]
    rows = _rung_rows(sampled, censuses)
    assert [(row["rung"], row["scale"], row["left"]) for row in rows] == [
        ("proxies.0", "small", 11),
        ("proxies.1", "large", 5),
    ]


def test_runs_of_all_sizes_stand_in_one_table_with_their_parameters(trained):
    results = pd.read_parquet(trained.proxies / "results.parquet")
    assert results["status"].tolist() == ["ok"] * 16
    sizes = results.groupby("scale")["num_parameters"].unique()
    assert sizes["large"] > sizes["small"]
    assert trained.state(proxies.STAGE) == State.DONE
    censuses = pipeline.censuses_of(trained, "proxies")
    assert [census.ended["ok"] for census in censuses] == [11, 5]
    assert by_domain(results, "loss").notna().all(axis=None)


@pytest.fixture(scope="module")
def finished(trained):
    """The same fitted, a mixture chosen, the final model trained on it, and the report."""
    study, notes = trained, Recorder()
    fit.run(study, notes)
    choose.run(study, notes)
    tasks = train.tasks_of(study)
    corpus = Corpus(study.corpus)
    for task in tasks:
        train_final(task.spec, corpus, task.folder)
    train.conclude(study, Silent())
    write_promises(study)
    report.run(study, notes)
    return study, notes.notes


def test_a_mixture_is_chosen_for_the_size_and_length_of_the_final_model(finished):
    study, notes = finished
    final = pd.read_parquet(study.models / "results.parquet")
    size = {name: int(final[name].iloc[0]) for name in ("num_parameters", "num_train_tokens")}
    record = read_yaml(study.mixture)
    assert record["predicted"]["size"] == size
    words = f"of {size['num_parameters']:,} parameters on {size['num_train_tokens']:,} tokens"
    assert words in record["predicted"]["speaks_of"]
    # Both sizes trained equally long, so how the loss falls with more tokens is not known, and that is said.
    warned = f"all runs trained on 640 tokens, and {size['num_train_tokens']} are asked for"
    assert any(text.startswith(warned) for text in record["warnings"])
    assert any(f"those of a new run {words}" in note for note in notes)
    regressor = MixtureRegressor.from_pretrained(study.regression / "scaled_law")
    weights = pd.DataFrame([record["weights"]])[list(regressor.domains_)]
    target = Target.parse("mean", regressor.quantities_, regressor.scales)
    promised = regressor.at(**size).predict_target(weights, target)["loss"].iloc[0]
    assert record["predicted"]["chosen"]["loss"] == pytest.approx(promised, abs=1e-6)
    assert promised != pytest.approx(regressor.predict_target(weights, target)["loss"].iloc[0], abs=1e-3)


def test_the_fit_is_of_all_sizes_and_says_whether_they_agree(finished):
    study, notes = finished
    summary = read_json(study.regression / "summary.json")
    assert summary["estimators"] == ["scaled_law", "own_weight"]
    assert any("so scaled_law is fitted, not ridge, lightgbm, power_law" in note for note in notes)
    assert [one["target"] for one in summary["size_agreement"]] == ["mean of 3 targets", *WORDS]
    assert {one["num_mixtures"] for one in summary["size_agreement"]} == {5}
    results = pd.read_parquet(study.proxies / "results.parquet").query("split == 'fit'")
    mixtures = [f"weight/{name}" for name in WORDS]
    by_size = results.pivot_table("loss/sums", mixtures, "scale").dropna()
    expected = by_size.corr("spearman").loc["small", "large"]
    of_sums = next(one for one in summary["size_agreement"] if one["target"] == "sums")
    assert of_sums["spearman"] == pytest.approx(expected)


def test_what_was_promised_of_the_final_model_is_held_against_it_at_the_top_of_the_report(finished):
    study, _ = finished
    promises = Promises.load(study.evaluation / "promises.json")
    assert promises.same_size
    chosen = promises.mixtures[0]
    first = study.page.read_text().split("\n\n")[1]
    assert first.startswith(f"**Promised {chosen.predicted:.4f} [{chosen.lower:.4f}, {chosen.upper:.4f}]")
    assert f"measured {chosen.measured:.4f}" in first
    assert f"Of the final model ({promises.measured_on})" in " ".join(first.split())
    assert f"new run of {promises.measured_on.scale} parameters on" in " ".join(first.split())
    assert "Rank correlation of the mixtures that were trained at both sizes" in study.page.read_text()


def test_a_choice_is_tried_with_the_largest_proxies_and_promised_of_them(finished):
    study, _ = finished
    rows = read_mixtures(study.mixtures).query("origin == 'confirm'")
    assert rows["rung"].tolist() == [1] * 4
    [tried] = rounds_in(read_yaml(study.mixture), study.mixture)
    specs = proxies.tasks_of(study)[-4:]
    assert {task.spec.scale for task in specs} == {"large"}
    results = pd.read_parquet(study.proxies / "results.parquet")
    large = results[results["scale"] == "large"].iloc[0]
    assert f"of {large['num_parameters']:,} parameters on {large['num_train_tokens']:,}" in tried.speaks_of
    assert tried.trials[0].promised != read_yaml(study.mixture)["predicted"]["chosen"]["loss"]


@pytest.fixture(scope="module")
def ranked(trained, new_study):
    """The same runs and experts of the smallest size, by which alone was chosen."""
    study = new_study(*RANKED, "proxies.1.num_mixtures=10")
    shutil.copytree(trained.proxies, study.proxies)
    mixtures = read_mixtures(trained.mixtures)
    write_parquet(study.mixtures, mixtures[mixtures["origin"] != "confirm"])
    notes = Recorder()
    sample.run(study, notes)
    for task in proxies.tasks_of(study):
        if status_of(task) is None:  # a mixture of the swarm that is one domain alone is to be an expert, too
            shutil.rmtree(task.folder, ignore_errors=True)
    proxies.run(study, notes, Here())
    fit.run(study, notes)
    choose.run(study, notes)
    return study, notes.notes


def test_experts_of_the_smallest_size_rank_and_runs_of_the_largest_say_the_scale(ranked, trained):
    study, notes = ranked
    results = pd.read_parquet(study.proxies / "results.parquet")
    assert set(results.loc[results["split"] == "expert", "scale"]) == {"small"}
    large = results[(results["scale"] == "large") & (results["split"] == "fit")]
    assert len(large) == 10
    model = MixtureRegressor.from_pretrained(study.regression / "experts")
    weights = by_domain(large, "weight")
    promised = model.predict(weights.set_axis(large["run_id"]))["sums"]
    assert promised.mean() == pytest.approx(large["loss/sums"].mean(), abs=1e-9), "a line through these"
    summary, record = read_json(study.regression / "summary.json"), read_yaml(study.mixture)
    assert summary["estimators"] == ["experts", "own_weight"]
    assert summary["num_runs"]["fit"] == 10
    assert {one["num_mixtures"] for one in summary["size_agreement"]} == {10}
    said = "of large on 640 tokens, not of a larger model"
    assert said in record["predicted"]["speaks_of"]
    judged = "judged: 10 runs of large on 640 tokens; beside: 10 of other sizes and lengths"
    assert judged in notes
    [row] = read_mixtures(study.mixtures).query("origin == 'confirm'").to_dict("records")
    assert row["rung"] == 1


def test_what_experts_are_good_for_on_a_ladder_is_said_before(ranked, prepared, recorder):
    study, _ = ranked

    def asked(**regression):
        update = {"regression": study.recipe.regression.model_copy(update=regression)}
        return type(study)(study.recipe.model_copy(update=update))

    three = asked(estimators=["ridge", "experts", "scaled_law"])
    assert families_of(three.recipe) == ["experts", "scaled_law"]
    said = "not what final models will lose: experts rank mixtures, and speak of the largest proxies"
    assert any(line.startswith(said) for line in check_study(study, ["choose"]))
    both = asked(estimators=["experts", "scaled_law"])
    assert check_study(both, ["choose"])[-1] == (
        "proxies: a mixture can be chosen for the size and length of final models"
    )
    [*_, line] = check_study(asked(estimators=["scaled_law"]), ["fit"])
    assert line.endswith("scaled_law asks none; regression.estimators: [experts, scaled_law] does")
    with pytest.raises(RecipeError, match=r"(?s)'ridge' is not fitted on .*write experts, or leave it out"):
        check_study(asked(estimator="ridge"), ["choose"])
    few = type(study)(load_recipe(prepared / "recipe.json", [*RANKED, "proxies.1.num_mixtures=5"]))
    with pytest.raises(
        RecipeError, match=r"proxies\.1\.num_mixtures 5: 'experts' has its scale from the runs of"
    ):
        check_study(few, ["fit"])
    fitted = FittedRuns.load(study.regression)
    assert choose._speaks_of_tries(study, fitted, Silent())
    smaller = replace(fitted, runs=replace(fitted.runs, sizes=fitted.runs.sizes // 2), scale="small")
    assert not choose._speaks_of_tries(study, smaller, recorder)
    assert recorder.notes == [
        "not tried: choices are tried with the last of `proxies`, and the fit speaks of small"
    ]
