"""A study without a swarm: experts alone choose, a few runs that try it give the scale."""

import json

import numpy as np
import pandas as pd
import pytest

from regmix_hf.cards.facts import StudyFacts
from regmix_hf.choice import FittedRuns
from regmix_hf.errors import RecipeError
from regmix_hf.files import read_json, read_yaml
from regmix_hf.jobs.proxies import ProxyWork
from regmix_hf.jobs.results import result_of
from regmix_hf.preflight import check_study
from regmix_hf.progress import Silent
from regmix_hf.recipe import load_recipe
from regmix_hf.regression.verdict import Verdict
from regmix_hf.stages import choose, fit, proxies, report, sample
from regmix_hf.study import State, Study

from .test_ladder import SWARM


class Here:
    """A place that does everything in this process."""

    def run(self, tasks, work: ProxyWork, progress):
        do = work.open()
        for task in tasks:
            if result_of(task) is None:
                do(task.spec, task.folder, lambda num_tokens: None)


@pytest.fixture(scope="module")
def alone(new_study):
    """A study of three experts, from which was chosen."""
    study = new_study(
        "sampling={num_mixtures: 0, num_holdout: 0, experts: true, max_epochs: null}",
        "regression={estimators: [experts], target: mean}",
        "choice={max_epochs: null, max: {prose: 0.2}}",
        "proxy.num_train_tokens=1600",
    )
    study.mixtures.unlink()
    sample.run(study, Silent())
    proxies.run(study, Silent(), Here())
    fit.run(study, Silent())
    choose.run(study, Silent())
    return study


@pytest.fixture(scope="module")
def untried(alone):
    """What it says before anything is tried: the record of the choice, the report and the page to explore."""
    report.run(alone, Silent())
    return read_yaml(alone.mixture), alone.page.read_text(), (alone.report / "explorer.html").read_text()


def test_experts_alone_choose_and_promise_no_loss(alone, untried):
    summary, (record, page, explorer) = read_json(alone.regression / "summary.json"), untried
    assert summary["num_runs"]["fit"] == 0
    assert summary["verdict"]["word"] == record["verdict"]["word"] == "weakly"
    assert record["weights"]["prose"] == pytest.approx(0.2, abs=1e-4)
    assert record["predicted"]["chosen"]["lower"] is None
    assert record["predicted"]["speaks_of"].startswith("no model: experts alone rank mixtures")
    assert any("nobody knows the scale" in warning for warning in record["warnings"])
    assert not record["predicted"]["is_better_than_prior"]
    assert "no run on a mixture has tried" in page
    assert "](None)" not in page, "there is nothing to draw of predictions"
    assert "nats" not in explorer.partition("<script")[0], "the page to explore has words of its own for it"
    assert "of the size and length" not in page, "its predictions speak of no size"
    assert "Of their tokens went 100 % to 3 experts of one domain each" in page
    assert "| mixture | what experts say | 90 % interval |" in page
    assert "- to -" not in page, "there is no interval"
    assert "| estimator | runs |" not in page, "nothing is measured of any estimator"


def test_experts_alone_choose_for_another_target_and_a_report_says_which_it_was(alone, untried, recorder):
    code = Study(
        alone.recipe.model_copy(
            update={"regression": alone.recipe.regression.model_copy(update={"target": "code"})}
        )
    )
    fitted = FittedRuns.load(alone.regression, target="code")
    assert fitted.verdict.reasons == Verdict.untried().reasons
    assert StudyFacts.read(alone).chosen_for_another is None
    assert StudyFacts.read(code).chosen_for_another == str(StudyFacts.read(alone).target)


def test_runs_that_try_the_choice_give_the_scale_intervals_and_a_verdict(alone, untried, recorder):
    proxies.run(alone, Silent(), Here())
    fit.run(alone, recorder)
    choose.run(alone, recorder)
    summary, record = read_json(alone.regression / "summary.json"), read_yaml(alone.mixture)
    assert summary["num_runs"]["fit"] == 4
    assert record["predicted"]["chosen"]["lower"] < record["predicted"]["chosen"]["loss"]
    assert "intervals hold the noise between seeds" in record["predicted"]["speaks_of"]
    assert "too few for an interval" in record["verdict"]["reasons"][0]
    assert any("experts: fitted on 4 runs and 3 experts; " in note for note in recorder.notes)
    assert any("experts alone had said nothing of the scale" in note for note in recorder.notes)
    tried = [trial for one in record["rounds"] for trial in one["trials"] if trial["measured"]]
    assert [trial["lower"] for trial in tried] == [None] * 4
    report.run(alone, Silent())
    page = alone.page.read_text()
    assert "experts alone had chosen, who promise no loss.** Measured by proxies" in page.split("\n\n")[1]
    assert "Where nothing stands as promised" in page
    measured = np.mean([trial["measured"] for trial in tried if trial["kind"] == "chosen"])
    assert abs(record["predicted"]["chosen"]["loss"] - measured) < 0.3
    spent = StudyFacts.read(alone).swarm.spent
    assert spent == [("experts of one domain each", 3, 3 / 7), ("tries of a choice", 4, 4 / 7)]
    results = pd.read_parquet(alone.proxies / "results.parquet")
    assert results["split"].value_counts().to_dict() == {"expert": 3, "fit": 4}
    assert alone.state(choose.STAGE) == State.DONE


def test_without_experts_a_study_needs_mixtures(prepared):
    with pytest.raises(RecipeError, match="nothing is left to choose by"):
        load_recipe(prepared / "recipe.json", ["sampling.num_mixtures=0"])


def test_experts_that_no_family_asks_are_named(prepared):
    said = ["sampling.experts=true", "regression.estimators=[ridge]"]
    found = check_study(Study(load_recipe(prepared / "recipe.json", said)), ["fit"])
    assert found[-1].startswith("not what experts say: ridge asks none")
    asked = Study(load_recipe(prepared / "recipe.json", [*said, "regression.estimators=[ridge, experts]"]))
    assert len(check_study(asked, ["fit"])) == len(found) - 1


def test_what_needs_runs_is_refused_where_there_will_be_experts_alone(prepared):
    alone = ["sampling={num_mixtures: 0, experts: true}", "regression.estimators=[experts]"]
    with pytest.raises(RecipeError, match="in standard deviations over the runs"):
        scaled = "regression.target={mean_of: [prose, code], scale: spread}"
        load_recipe(prepared / "recipe.json", [*alone, scaled])
    with pytest.raises(RecipeError, match="experts tell nothing of 'arc_easy/acc'"):
        score = ["proxy.metrics=[arc_easy/acc]", "regression.target=arc_easy/acc"]
        load_recipe(prepared / "recipe.json", [*alone, *score])
    sizes = [{**SWARM, "scale": None}, {"num_train_tokens": 960, "num_mixtures": 4}]
    with pytest.raises(RecipeError, match="trains mixtures of the swarm"):
        load_recipe(prepared / "recipe.json", [*alone, "proxy=null", f"proxies={json.dumps(sizes)}"])
