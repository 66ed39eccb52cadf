"""The page to explore a mixture computes what `predict` does, whatever the family."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from regmix_hf.cards import explorer_page as pages
from regmix_hf.cards.explorer_page import explorer_page
from regmix_hf.cards.facts import StudyFacts
from regmix_hf.cards.laws import FAMILIES
from regmix_hf.regression import ESTIMATORS, MixtureRegressor
from regmix_hf.regression.registry import WITH_EXPERTS
from regmix_hf.regression.target import Target
from regmix_hf.runs.sizes import scale_words
from regmix_hf.study import names

from .browser import Browser
from .explored import DOMAINS, choose, make_study, write_page

pytestmark = pytest.mark.long

#: Fits that take long take few steps here: a page computes with what was learned, whatever that is.
PARAMS = {"lightgbm": {"num_iterations": 60}, "gaussian_process": {"max_steps": 3}}


def check_predictions(browser: Browser, file: Path, regressor: MixtureRegressor, target: object) -> None:
    domains = list(regressor.domains_)
    mixtures = np.random.default_rng(3).dirichlet(np.full(len(domains), 0.6), 12)
    fitted = pd.read_parquet(file.parent / names.REGRESSION / names.FITTED_RUNS)
    known = fitted[[f"weight/{name}" for name in domains]].to_numpy()[:2]
    mixtures = np.vstack([mixtures, np.eye(len(domains))[:2], known])
    browser.open(file)
    both = "w => [explorer.predict(w), explorer.halfWidths(explorer.predict(w), w)]"
    found = np.array(browser.run(f"{json.dumps(mixtures.tolist())}.map({both})"))
    table = pd.DataFrame(mixtures, columns=domains)
    asked = Target.parse(target, regressor.quantities_, regressor.scales)
    combined = regressor.predict_target(table, asked)
    lower, upper = regressor.predict_interval(table)
    losses = regressor.predict(table).assign(**{str(asked): combined["loss"]})
    half = ((upper - lower) / 2).assign(**{str(asked): combined["upper"] - combined["loss"]})
    rows = browser.run("explorer.names")
    assert sorted(rows) == sorted(losses)
    assert rows[0] == str(asked)
    has_trees = "lightgbm" in {regressor.estimator, *getattr(regressor.model, "members_", ())}
    assert np.abs(found[:, 0] - losses[rows]).max(axis=None) < (1e-6 if has_trees else 1e-11)  # of 4 bytes
    assert np.abs(found[:, 1] - half[rows]).max(axis=None) < 1e-6
    one = f"[...explorer.names.keys()].map(k => explorer.predictOne({mixtures[0].tolist()}, k))"
    assert browser.run(one) == found[0, 0].tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_it_computes_what_every_family_predicts(family: str, browser: Browser, tmp_path: Path) -> None:
    few = family in ("auto", "experts_and_law")
    study = make_study(tmp_path, DOMAINS[:4] if few else DOMAINS, num_runs=24)
    regressor = choose(study, family, **PARAMS.get(family, {}))
    check_predictions(browser, write_page(study), regressor, "mean")


def test_a_law_over_sizes_speaks_of_the_size_that_was_chosen_for(browser: Browser, tmp_path: Path) -> None:
    study, file = make_study(tmp_path, DOMAINS[:3], num_runs=24), names.FITTED_RUNS
    small = pd.read_parquet(study.regression / file).assign(num_parameters=1e6, num_train_tokens=1e9)
    large = small[:12].assign(num_parameters=6e7, run_id=[f"large{k}" for k in range(12)])
    losses = [name for name in small if name.startswith(("loss/", "target/"))]
    large[losses] = 0.8 * large[losses] + 0.3 * large["weight/code"].to_numpy()[:, None] ** 2
    for size in ((6e7, 1e9), (1e9, 2e9)):  # one that runs are of, and one beyond them
        pd.concat([small, large]).to_parquet(study.regression / file)
        regressor = choose(study, "scaled_law", size=size).at(*size)
        assert all(array.any() for array in (regressor.model.kriged_, regressor.model.coefficients_))
        large.to_parquet(study.regression / file)  # a fit keeps the runs that it is judged on
        check_predictions(browser, write_page(study), regressor, "mean")
        text = browser.run("document.body.innerText")
        assert f"those of a new run of {scale_words(*size)}" in text
        assert ("It trained 60,000,000 parameters on" in text) == (size[0] == 1e9)


def test_it_counts_what_a_final_run_repeats(browser: Browser, tmp_path: Path) -> None:
    study = make_study(tmp_path, DOMAINS[:3], num_runs=24)
    results = pd.read_parquet(study.regression / "runs.parquet")
    for name in DOMAINS[:3]:
        results[f"epochs/{name}"] = 10 * results[f"weight/{name}"]
        results["target/letters"] += 0.05 * np.log1p(results[f"epochs/{name}"]) ** 2
    results.to_parquet(study.regression / "runs.parquet")
    regressor = choose(study, "power_law")
    tokens = {"prose": 20_000, "code": 400_000, "maths": 400_000}
    final = regressor.reading(tokens, study.recipe.train.num_train_tokens)
    assert final.model.beyond(np.eye(3)).any()
    assert final.predict(np.eye(3)).iloc[0]["letters"] > regressor.predict(np.eye(3)).iloc[0]["letters"]
    check_predictions(browser, write_page(study), final, "mean")


def test_what_experts_say_is_no_loss_where_no_run_gives_it_a_scale(browser: Browser, tmp_path: Path) -> None:
    study = make_study(tmp_path, DOMAINS[:3], num_runs=0)
    regressor = choose(study, "experts")
    file = write_page(study)
    browser.open(file)
    text = browser.run("document.body.innerText")
    assert "their numbers are no losses of any model" in text
    for word in ("nats", "interval", "measured", "NaN", "undefined", "null", "Infinity"):
        assert word not in text
    found = browser.run("explorer.predict(explorer.state.weights)")
    given = pd.DataFrame([browser.run("explorer.state.weights")], columns=DOMAINS[:3])
    losses = regressor.predict(given).iloc[0]
    assert found == pytest.approx([losses.mean(), *losses], abs=1e-12)
    browser.run("document.getElementById('along').value = 0")
    browser.run("document.getElementById('take').click()")
    assert browser.run("explorer.predictOne(explorer.state.weights, 1)") < losses.iloc[0]


def test_trees_have_a_part_in_a_stack(browser: Browser, tmp_path: Path) -> None:
    study = make_study(tmp_path, DOMAINS[:4], num_runs=24)
    regressor = choose(study, "auto", members=["lightgbm", "log_linear"])
    assert regressor.model.shares_.all(axis=1).any()
    check_predictions(browser, write_page(study), regressor, "mean")


def test_experts_have_a_part_in_a_stack(browser: Browser, tmp_path: Path) -> None:
    study = make_study(tmp_path, DOMAINS[:3], num_runs=16)
    regressor = choose(study, "auto", members=["experts", "own_weight"])
    assert regressor.model.shares_.all(axis=1).any()
    check_predictions(browser, write_page(study), regressor, "mean")


def test_a_process_over_roots_alone_as_version_0_1_fitted_it(browser: Browser, tmp_path: Path) -> None:
    study = make_study(tmp_path, DOMAINS[:3], num_runs=24)
    regressor = choose(study, "gaussian_process", max_steps=3)
    regressor.model.lengths_ = regressor.model.lengths_[:, :3]
    regressor.save_pretrained(study.regression / "gaussian_process")
    check_predictions(browser, write_page(study), regressor, "mean")


def test_trees_that_never_split_are_their_mean(browser: Browser, tmp_path: Path) -> None:
    study = make_study(tmp_path, DOMAINS[:3], num_runs=24)
    regressor = choose(study, "lightgbm", num_iterations=3, min_leaf_runs=20)
    check_predictions(browser, write_page(study), regressor, "mean")


@pytest.mark.parametrize("target", ["worst", {"d03": 2, "letters": 1}])
def test_17_domains_and_other_targets(target: object, browser: Browser, tmp_path: Path) -> None:
    study = make_study(tmp_path, [f"d{k:02d}" for k in range(17)], target=target, num_runs=60)
    regressor = choose(study, "power_law")
    file = write_page(study)
    assert file.stat().st_size < 200_000
    check_predictions(browser, file, regressor, target)


def test_a_score_is_shown_as_it_is_and_more_of_it_is_better(browser: Browser, tmp_path: Path) -> None:
    target = {"mean_of": ["d01", "quiz/acc"], "scale": "spread"}
    study = make_study(tmp_path, ["d00", "d01", "d02"], num_runs=24)
    results = pd.read_parquet(study.regression / "runs.parquet")
    results["quiz/acc"] = 0.9 - results["loss/d01"] / 8
    results.to_parquet(study.regression / "runs.parquet")
    regressor = choose(study, "power_law")
    assert regressor.quantities_["quiz/acc"].direction == "higher"
    facts = StudyFacts.read(study)
    for value in ("quiz/acc", target):
        asked = replace(facts.asked, target=value)
        page = explorer_page(study, replace(facts, asked=asked)).page
        assert page is not None
        (study.root / "explorer.html").write_text(page)
        check_predictions(browser, study.root / "explorer.html", regressor, value)
    names = browser.run("explorer.names")
    assert len(set(names)) == len(names)
    caption = browser.run("document.querySelector('#losses caption').textContent")
    assert "quiz/acc: share, higher is better" in caption


def test_the_script_knows_the_same_families_as_the_writer() -> None:
    text = (Path(pages.__file__).parent / "explorer" / "laws.js").read_text()
    block = text[text.index("const FAMILIES = {") : text.index("};", text.index("const FAMILIES = {"))]
    names = re.findall(r"\b(\w+)(?:: \w+)?,", block)
    assert set(names) == set(FAMILIES) == {*ESTIMATORS, *WITH_EXPERTS}
