"""The page copies the mixture under its sliders in the words of every trainer, as it is exported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from regmix_hf.cards.explorer_page import explorer_page
from regmix_hf.cards.facts import StudyFacts
from regmix_hf.exports import TRAINERS, MixtureToTrain
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.study.described import described

from .browser import Browser
from .explored import check_exports, choose, make_study

DOMAINS = ["prose", "code", "a.b", "web-text", "yaml", "7b"]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[MixtureToTrain, str]:
    study = make_study(tmp_path_factory.mktemp("copied"), DOMAINS, num_runs=24)
    choose(study, "ridge")
    mixture = described(MixtureToTrain("explored", {}), study.recipe, CorpusFacts.load(study.corpus))
    mixture = replace(mixture, tokenizer="some/tokenizer", samples="documents")
    page = explorer_page(study, StudyFacts.read(study), mixture).page
    assert page is not None
    return mixture, page


@pytest.fixture
def opened(told: tuple[MixtureToTrain, str], browser: Browser, tmp_path: Path) -> Browser:
    (tmp_path / "explorer.html").write_text(told[1])
    browser.open(tmp_path / "explorer.html")
    return browser


def test_every_trainer_gets_what_is_exported(opened: Browser, told: tuple[MixtureToTrain, str]) -> None:
    for number, share in ((3, 0), (1, 33)):
        opened.run(
            f"(() => {{ const it = document.getElementById('share-{number}'); it.value = {share};"
            " it.dispatchEvent(new Event('input')); })()"
        )
    weights = dict(zip(DOMAINS, opened.run("explorer.state.weights"), strict=True))
    assert weights["web-text"] == 0
    assert weights["code"] == pytest.approx(0.33)
    assert check_exports(opened, replace(told[0], weights=weights)) == set(TRAINERS) - {"axolotl"}
    # Its counts of documents are no shares; the page says so.
    assert "Axolotl: " in opened.run("document.querySelector('details').textContent")


def test_the_keyboard_chooses_and_the_text_follows_the_sliders(opened: Browser) -> None:
    assert opened.run("document.getElementById('text').value").startswith("  explored:")
    opened.run("document.getElementById('format').focus()")
    opened.press("ArrowDown", 40)
    assert opened.run("document.getElementById('format').value") == "yaml"
    before = opened.run("document.getElementById('text').value")
    assert opened.run("document.getElementById('text-title').textContent").startswith("YAML: mixture.yaml")
    assert opened.run("document.getElementById('for-baselines-words').hidden")
    opened.run("explorer.setWeights([0, 0.25, 0.25, 0.25, 0.25, 0])")
    after = opened.run("document.getElementById('text').value")
    assert after != before
    assert after.count(": 0.25") == 4
