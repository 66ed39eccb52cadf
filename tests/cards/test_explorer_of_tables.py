"""The page to explore a fit on tables: no text, so no epochs; on a phone, tables say that they are wider."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from regmix_hf.cards.explorer_page import explorer_page
from regmix_hf.cards.facts import StudyFacts
from regmix_hf.choice import FittedRuns, write_chosen
from regmix_hf.cli import app
from regmix_hf.exports import MixtureToTrain
from regmix_hf.recipe import Choice
from regmix_hf.study.table_fit import TableFit
from tests.table_fit import FEW, make_fit

from .browser import Browser
from .explored import check_exports


@pytest.fixture
def folder(made_once: Callable[..., Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made_once("table-fit", make_fit) / "fit", tmp_path / "fit"))


@pytest.fixture
def fitted(folder: Path) -> FittedRuns:
    return FittedRuns.load(folder)


@pytest.fixture
def opened(fitted: FittedRuns, folder: Path, browser: Browser, tmp_path: Path) -> Browser:
    write_chosen(fitted.problem(choice=Choice(num_candidates=500, top_k=5)).solve(), folder)
    fit = TableFit(folder, folder)
    page = explorer_page(fit, StudyFacts.of_fit(fit)).page
    assert page is not None
    (tmp_path / "explorer.html").write_text(page)
    browser.look(390, 844)
    browser.open(tmp_path / "explorer.html")
    return browser


def test_it_computes_what_the_fit_predicts_and_speaks_of_no_epochs(opened: Browser, fitted: FittedRuns):
    mixtures = np.random.default_rng(0).dirichlet(np.ones(3), 5)
    found = opened.run(f"{json.dumps(mixtures.tolist())}.map((weights) => explorer.predict(weights))")
    table = pd.DataFrame(mixtures, columns=list(fitted.regressor.domains_))
    expected = fitted.regressor.predict(table)
    rows = opened.run("explorer.names")
    assert sorted(rows) == sorted(expected)
    np.testing.assert_allclose(np.array(found), expected[rows], atol=1e-6)
    np.testing.assert_allclose(np.array(found)[:, 0], expected["exam"], atol=1e-6)
    assert opened.run("getComputedStyle(document.querySelector('.budget')).display") == "none"
    assert "epochs" not in opened.run("document.body.innerText")
    assert "budget" not in opened.run("location.hash")
    # A wide table says so until its end is seen, or there is room for it.
    hint = "document.querySelector('.hint').textContent"
    scroll = "document.querySelector('.scroll')"
    assert opened.run("document.documentElement.scrollWidth") == 390
    assert opened.run(hint).startswith("More columns")
    opened.run(
        f"new Promise(done => {{ {scroll}.addEventListener('scroll', done); {scroll}.scrollLeft = 9999 }})"
    )
    assert opened.run(hint) == ""
    opened.look(1600, 900)
    opened.run("new Promise(requestAnimationFrame)")
    assert opened.run(hint) == ""


def test_it_copies_what_weights_alone_tell_a_trainer(opened: Browser, fitted: FittedRuns):
    opened.run("explorer.setWeights([0.6, 0, 0.4])")
    weights = dict(zip(fitted.regressor.domains_, [0.6, 0.0, 0.4], strict=True))
    names = check_exports(opened, MixtureToTrain("explored", weights))
    weights_alone = {
        "yaml",
        "json",
        "csv",
        "megatron-lm",
        "megatron-bridge",
        "olmo-core",
        "nanotron",
        "litgpt",
    }
    assert names == weights_alone
    assert "the text of" in opened.run("document.querySelector('details').textContent")


@pytest.mark.usefixtures("drawn_once")
def test_it_counts_what_a_run_repeats_of_text_that_was_told(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = pd.DataFrame(
        np.random.default_rng(5).dirichlet(np.ones(3), 24), columns=["web", "code", "books"]
    )
    epochs = weights * [0.5, 0.5, 40.0]
    harm = 0.1 * np.log1p(epochs["books"]) ** 2
    losses = pd.DataFrame({"exam": 3.0 - 0.8 * np.sqrt(weights["books"]) - 0.1 * weights["code"] + harm})
    runs = weights.add_prefix("w_").join(losses.add_prefix("loss_")).join(epochs.add_prefix("epochs/"))
    runs.to_csv(tmp_path / "runs.csv", index=False)
    (tmp_path / "text.yaml").write_text("{web: 40_000_000, code: 40_000_000, books: 500_000}")
    monkeypatch.chdir(tmp_path)
    told = ["--available", "text.yaml", "--num-tokens", "200M"]
    for words in (
        ["fit", "--runs", "runs.csv", "--estimators", "power_law", "--output", "fit"],
        ["choose", "fit", *FEW, *told],
        ["report", "fit"],
    ):
        monkeypatch.setattr(sys, "argv", ["regmix", *words])
        assert app.run() == 0
    browser.open(tmp_path / "fit" / "report" / "explorer.html")
    table = pd.read_parquet(tmp_path / "fit" / "mixture.parquet").set_index("domain")
    assert table.loc["exam", "loss"] == pytest.approx(
        browser.run("explorer.predict(explorer.state.weights)[0]")
    )
    assert table["epochs"].dropna().to_dict() == pytest.approx(
        {"web": table.loc["web", "weight"] * 5, "code": table.loc["code", "weight"] * 5}
        | {"books": table.loc["books", "weight"] * 400}
    )
    assert browser.run("explorer.caps()[2]") == pytest.approx(4 * 0.5 / 200)
    assert "epochs" in browser.run("document.getElementById('note-2').textContent")
