"""Mouse, keyboard and links move the page to explore a mixture, and it says what it speaks of."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from regmix_hf.cards import explorer_page as pages
from regmix_hf.cards.explorer_page import explorer_page
from regmix_hf.cards.facts import StudyFacts
from regmix_hf.cards.rendering import recipe_yaml
from regmix_hf.cli import app
from regmix_hf.mixtures import check_mixture
from regmix_hf.mixtures.final import given_mixture
from regmix_hf.mixtures.group_shares import GroupShare
from regmix_hf.regression.verdict import WEAKLY, Verdict
from regmix_hf.study import Study

from .browser import Browser
from .explored import DOMAINS, choose, make_study, write_page

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    study = make_study(tmp_path_factory.mktemp("explored"), DOMAINS)
    choose(study, "power_law")
    return study


@pytest.fixture(scope="module")
def page(study: Study) -> Path:
    return write_page(study)


@pytest.fixture
def opened(browser: Browser, page: Path) -> Browser:
    browser.open(page)
    return browser


def weights_of(browser: Browser) -> np.ndarray:
    return np.array(browser.run("explorer.state.weights"))


def set_to(browser: Browser, name: str, value: object, event: str = "input") -> None:
    browser.run(
        f"(() => {{ const it = document.getElementById('{name}'); it.value = {json.dumps(value)};"
        f" it.dispatchEvent(new Event('{event}')); }})()"
    )


def test_it_starts_at_the_chosen_mixture_beside_all_others(opened: Browser, study: Study) -> None:
    chosen = [2 * (k + 1) / 8 / 9 for k in range(8)]
    assert weights_of(opened) == pytest.approx(chosen)
    heads = opened.run("[...document.querySelectorAll('#losses thead th')].map(it => it.textContent)")
    assert heads == [
        *("loss on", "here", "90 % interval", "chosen", "prior", "uniform", "first"),
        "nearest run (measured)",
    ]
    firsts = opened.run("[...document.querySelectorAll('#losses tbody th')].map(it => it.textContent)")
    assert firsts == ["mean of 9 targets", *DOMAINS, "letters"]


def test_others_give_way_in_proportion(opened: Browser) -> None:
    before = weights_of(opened)
    set_to(opened, "share-7", 50)
    after = weights_of(opened)
    assert after[7] == pytest.approx(0.5)
    assert after.sum() == pytest.approx(1)
    assert after[:7] == pytest.approx(before[:7] * 0.5 / before[:7].sum())
    shown = opened.run("Number(document.querySelector('#losses td[data-value]').dataset.value)")
    assert shown == opened.run("explorer.predict(explorer.state.weights)[0]")


def test_what_domains_bounded_together_have_is_said_and_the_front_keeps_to_it(
    browser: Browser, study: Study, tmp_path: Path
) -> None:
    facts = StudyFacts.read(study)
    assert facts.choice is not None
    bounded = GroupShare("texts", ("prose", "readme"), prior=0.25, chosen=0.194, min=0.1, max=0.2)
    found = explorer_page(study, replace(facts, choice=replace(facts.choice, groups=(bounded,))))
    (page := tmp_path / "explorer.html").write_text(found.page or "")
    browser.open(page)
    line = "document.querySelector('#together p')"
    assert browser.run(f"{line}.className") == "muted"
    assert browser.run(f"{line}.textContent") == (
        "texts (prose, readme): 19.4 % together; it was to have at least 10.0 % and at most 20.0 %"
    )
    set_to(browser, "share-5", 50)
    assert browser.run(f"{line}.className") == "warning"
    assert "which was not allowed" in browser.run(f"{line}.textContent")
    # Beside the sliders of its domains, too: the line above them may be out of sight.
    notes = browser.run("[...document.querySelectorAll('.domain .note.warning')].map(it => it.id)")
    assert notes == ["note-0", "note-5"]
    assert browser.run("document.getElementById('note-5').textContent").endswith("texts 51.7 %: not allowed")
    browser.run("document.getElementById('take').click()")
    assert 0.1 - 2e-6 <= weights_of(browser)[[0, 5]].sum() <= 0.2 + 2e-6


def test_mixtures_in_one_place_have_one_label_and_little_text_is_not_none(
    browser: Browser, study: Study, tmp_path: Path
) -> None:
    facts = StudyFacts.read(study)
    assert facts.choice is not None
    kept = {"weights": given_mixture(study.recipe, "prior", dict(facts.available_tokens or {}))}
    choice = replace(facts.choice, record={**facts.choice.record, **kept})
    found = explorer_page(study, replace(facts, choice=choice))
    (page := tmp_path / "explorer.html").write_text(found.page or "")
    browser.open(page)
    texts = browser.run("[...document.querySelectorAll('#trade text')].map(it => it.textContent)")
    assert [text for text in texts if "chosen" in text] == ["chosen, prior"]
    set_to(browser, "exact-1", 0.003, "change")
    assert browser.run("document.getElementById('note-1').textContent") == "0.000060 epochs"
    assert browser.run("document.getElementById('share-1').ariaValueText") == "<0.1 %, 0.000060 epochs"


def test_a_locked_domain_keeps_its_share_and_caps_hold(opened: Browser) -> None:
    locked = weights_of(opened)[6]
    opened.run("document.getElementById('lock-6').click()")
    set_to(opened, "share-7", 100)
    after = weights_of(opened)
    assert after[6] == pytest.approx(locked)
    assert after[7] == pytest.approx(1 - locked)
    set_to(opened, "share-7", 0)
    after = weights_of(opened)
    assert after[6:] == pytest.approx([locked, 0.0])
    assert after[1] / after[0] == pytest.approx(20)  # all were 0, so they share as the prior does
    set_to(opened, "exact-0", 90, "change")
    # Four epochs of 20,000 tokens are a tenth of 800,000.
    assert weights_of(opened)[0] == pytest.approx(0.1)
    assert weights_of(opened).sum() == pytest.approx(1)


def test_a_domain_stays_where_the_others_have_no_text_left(opened: Browser) -> None:
    for k in range(1, 7):
        opened.run(f"document.getElementById('lock-{k}').click()")
    rest = weights_of(opened)[[0, 7]].sum()
    set_to(opened, "share-7", 0)
    assert weights_of(opened)[[0, 7]] == pytest.approx([0.1, rest - 0.1])


def test_another_budget_moves_caps_and_too_large_a_one_is_said(opened: Browser) -> None:
    set_to(opened, "budget", 1_600_000, "change")
    assert opened.run("explorer.caps()[0]") == pytest.approx(0.05)
    set_to(opened, "share-0", 90)
    assert weights_of(opened)[0] == pytest.approx(0.05)
    set_to(opened, "budget", 100_000_000, "change")
    assert "does not last" in opened.run("document.getElementById('cap-warning').textContent")
    opened.run("document.getElementById('capped').click()")
    assert opened.run("document.getElementById('cap-warning').textContent") == ""
    set_to(opened, "share-0", 90)
    assert weights_of(opened)[0] == pytest.approx(0.9)


def test_a_link_brings_back_what_was_seen(opened: Browser, page: Path) -> None:
    opened.run("document.getElementById('lock-2').click()")
    set_to(opened, "epochs", 7, "change")
    set_to(opened, "share-3", 44)
    before = weights_of(opened)
    fragment = opened.run("location.hash.slice(1)")
    opened.open(page, fragment)
    assert weights_of(opened) == pytest.approx(before, abs=1e-10)
    assert opened.run("explorer.state.locked.indexOf(true)") == 2
    assert opened.run("explorer.state.epochs") == 7


@pytest.mark.parametrize(
    "fragment", ["w.prose=1", "w.prose=x", "nothing", "&".join(f"w.{d}=-1" for d in DOMAINS)]
)
def test_a_link_that_is_no_mixture_is_left_alone(fragment: str, browser: Browser, page: Path) -> None:
    browser.open(page, fragment)
    assert weights_of(browser)[7] == pytest.approx(16 / 72)


def test_the_keyboard_moves_a_slider(opened: Browser) -> None:
    before = weights_of(opened)[3]
    opened.run("document.getElementById('share-2').focus()")
    for _ in range(3):  # number, lock and slider of the next domain
        opened.press("Tab", 9)
    assert opened.run("document.activeElement.id") == "share-3"
    opened.press("ArrowRight", 39)
    assert weights_of(opened)[3] == pytest.approx(before + 0.001, abs=6e-4)
    words = opened.run("document.getElementById('share-3').getAttribute('aria-valuetext')")
    assert re.fullmatch(r"\d+\.\d %, \d+\.\d\d epochs", words)


def test_everything_to_move_has_a_name(opened: Browser) -> None:
    nameless = opened.run(
        "[...document.querySelectorAll('input, select, textarea, button')].filter(it =>"
        " !(it.labels?.length || it.getAttribute('aria-label') || it.textContent)).map(it => it.id)"
    )
    assert nameless == []


def test_leaving_the_swarm_is_said(opened: Browser, study: Study) -> None:
    opened.run("document.getElementById('capped').click()")
    runs = pd.read_parquet(study.regression / "runs.parquet").filter(like="weight/").to_numpy()
    warning = "document.getElementById('far').textContent"
    opened.run(f"explorer.setWeights({json.dumps(runs[5].tolist())})")
    assert opened.run("explorer.nearestRun(explorer.state.weights).number") == 5
    assert opened.run(warning) == ""
    away = [0, 0, 0, 0.5, 0, 0, 0, 0.5]
    opened.run(f"explorer.setWeights({away})")
    distance = np.abs(runs - away).sum(axis=1).min() / 2
    assert opened.run("explorer.nearestRun(explorer.state.weights).distance") == pytest.approx(distance)
    assert distance > 0.3  # what `mixture.yaml` says of the runs' widest gap
    assert f"differs in {100 * distance:.1f} % of the tokens" in opened.run(warning)


def test_no_run_beats_the_front_in_both_targets(opened: Browser, study: Study) -> None:
    set_to(opened, "along", 0)
    opened.run("document.getElementById('take').click()")
    taken = weights_of(opened)
    assert taken.sum() == pytest.approx(1)
    assert taken[0] <= 0.1 + 1e-9
    runs = pd.read_parquet(study.regression / "runs.parquet").filter(like="weight/").to_numpy()
    allowed = runs[(runs <= opened.run("explorer.caps()")).all(axis=1)]
    losses = np.array(opened.run(f"{json.dumps(allowed.tolist())}.map(one => explorer.predict(one))"))[:, 1:3]
    here = np.array(opened.run("explorer.predict(explorer.state.weights)"))[1:3]
    assert not (losses < here - 1e-12).all(axis=1).any()
    assert here[0] <= losses[:, 0].min() + 1e-12  # the left end of the front


def test_two_points_more_of_a_domain_change_what_the_law_says(opened: Browser) -> None:
    weights = weights_of(opened)
    more = weights * (1 - 0.02 / (1 - weights[4]))
    more[4] = weights[4] + 0.02
    change = opened.run("explorer.effects(explorer.state.weights, 0.02)[4]")
    after, before = (
        np.array(opened.run(f"explorer.predict({json.dumps(list(w))})")) for w in (more, weights)
    )
    assert change == pytest.approx(list(after - before))


def test_the_yaml_is_a_baseline(opened: Browser) -> None:
    set_to(opened, "share-1", 30)
    text = opened.run("document.getElementById('text').value")
    (mixture,) = YAML(typ="safe", pure=True).load(text).values()
    found = check_mixture(mixture, DOMAINS)
    assert list(found.values()) == pytest.approx(list(weights_of(opened)), abs=1e-5)


def test_what_is_pasted_below_the_baselines_is_exported(
    opened: Browser,
    study: Study,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_to(opened, "share-1", 30)
    before, line, after = recipe_yaml(study.recipe).partition("\nbaselines:\n")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(before + line + opened.run("document.getElementById('text').value") + after)
    words = ["export", recipe, f"output_dir={study.root}", "--mixture", "explored", "--to", "json"]
    monkeypatch.setattr(sys, "argv", ["regmix", *map(str, words)])
    assert app.run() == 0
    exported = json.loads(capsys.readouterr().out)["weights"]
    shares = dict(zip(DOMAINS, weights_of(opened), strict=True))
    assert exported == pytest.approx({name: share for name, share in shares.items() if share > 0}, abs=1e-5)


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (800, True), (390, False)])
def test_it_fits_every_width_in_light_and_dark(width: int, dark: bool, browser: Browser, page: Path) -> None:
    browser.look(width, 800, dark=dark)
    browser.open(page)
    assert browser.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    back = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(255, 255, 255)") != dark


def test_it_asks_for_nothing_but_itself(browser: Browser, page: Path) -> None:
    browser.requests.clear()
    browser.open(page)
    assert {address.partition("#")[0] for address in browser.requests} == {page.resolve().as_uri()}


def test_it_says_of_which_runs_it_speaks_and_what_the_law_is_worth(study: Study, page: Path) -> None:
    assert "those of a new run of the size and length of those fitted on" in page.read_text()
    assert "Verdict" not in page.read_text()
    facts = StudyFacts.read(study)
    assert facts.choice is not None
    weak = Verdict(WEAKLY, ("few runs",), 0.5, 0.1, 0.9, 0.3)
    judged = replace(facts, choice=replace(facts.choice, verdict=weak))
    assert f"<strong>Verdict:</strong> {weak}" in str(explorer_page(study, judged).page)


def test_what_it_holds_cannot_end_its_element(page: Path) -> None:
    text = page.read_text()
    assert text.count("</script>") == 2
    facts = text[text.index('id="facts">') :].partition("</script>")[0]
    assert "<" not in facts


def test_equal_studies_have_equal_pages(study: Study, page: Path) -> None:
    assert explorer_page(study, StudyFacts.read(study)).page == page.read_text()


def test_without_a_choice_or_a_fit_it_says_what_is_missing(tmp_path: Path) -> None:
    study = make_study(tmp_path, DOMAINS[:3])
    assert explorer_page(study, StudyFacts.read(study)).missing == "no mixture is chosen yet"
    choose(study, "ridge")
    (study.regression / "ridge" / "config.json").unlink()
    assert explorer_page(study, StudyFacts.read(study)).missing.endswith("ridge holds no fit")


def test_a_page_that_is_too_large_is_not_written(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MOST_MEGABYTES", 0.01)
    explorer = explorer_page(study, StudyFacts.read(study))
    assert explorer.page is None
    assert explorer.missing == "with power_law it would take 0.1 MB, too many to share"


def test_a_page_of_experts_that_is_too_large_says_what_makes_it_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(tmp_path, DOMAINS[:3], num_runs=12)
    choose(study, "experts")
    monkeypatch.setattr(pages, "MOST_MEGABYTES", 0.01)
    explorer = explorer_page(study, StudyFacts.read(study))
    assert explorer.page is None
    assert "smaller corpus.max_validation_tokens" in explorer.missing
