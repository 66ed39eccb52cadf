"""A fit on tables gets what a study gets: a choice with a prior, a report, a status, an export."""

import io
import json
import re
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

from regmix_hf.choice import read_chosen
from regmix_hf.cli.quality import QualityFormat, quality_text
from tests.table_fit import FEW, make_fit, write_tables

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("drawn_once")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit, made once: what `regmix fit` leaves, and the tables beside it."""
    return make_fit(tmp_path_factory.mktemp("tables"))


@pytest.fixture
def fit(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "fit", tmp_path / "fit")
    return tmp_path / "fit"


def states(regmix, folder: Path) -> dict[str, str]:
    rows = json.loads(regmix("status", folder, "--format", "json").out)["stages"]["rows"]
    return {row["stage"]: row["state"] for row in rows}


def test_it_is_reported_with_pictures_and_a_page_to_explore(regmix, fit):
    assert regmix("choose", fit, *FEW).code == 0
    outcome = regmix("report", fit)
    assert (outcome.code, outcome.err.splitlines()[-1]) == (0, f"Read {fit / 'report' / 'README.md'}")
    page = (fit / "report" / "README.md").read_text()
    assert page.startswith("# fit: which data to train on\n")
    assert "**Verdict:** the regression" in page
    assert "Only validated on: `exam`." in page
    assert "that make the exam small." in page
    assert "nats" not in page.split("## How well")[0]  # of a column that is no domain's nobody says the unit
    assert "the mean of the runs' mixtures, which stands in for it" in page
    assert "30 runs of `mixtures.csv` and `losses.csv`." in page
    assert "epochs" not in page
    assert "    regmix choose " in page.split("## Do it again")[1]
    pictures = {path.stem for path in (fit / "report").glob("*.png")}
    assert pictures == {"weights", "trade_off", "predictions", "learning_curve", "effects"}
    for name in pictures:
        assert f"({name}.png)" in page
    facts = (fit / "report" / "explorer.html").read_text().split('id="facts">')[1].split("</script>")[0]
    known = json.loads(facts)
    assert (known["domains"], known["targets"]) == (["web", "code", "books"], ["web", "code", "exam"])
    assert (known["tokens"], list(known["mixtures"])) == (None, ["chosen", "prior", "uniform"])


def test_bounds_hold_for_domains_that_no_recipe_could_name(regmix, tmp_path):
    write_tables(tmp_path, 12)
    wide = pd.read_csv(tmp_path / "wide.csv").rename(
        columns={"w_web": "w_Common Crawl", "w_code": "w_GitHub"}
    )
    wide.to_csv(tmp_path / "wide.csv", index=False)
    fit = tmp_path / "named"
    asked = ("--weights", "w_*", "--targets", "loss_*", "--target", "exam", "--estimators", "ridge")
    assert regmix("fit", "--runs", tmp_path / "wide.csv", *asked, "--output", fit).code == 0
    together = "choice.groups={open: {domains: [Common Crawl, books], max: 0.3}}"
    outcome = regmix("choose", fit, *FEW, together, "choice.fixed.GitHub=0.75")
    assert outcome.code == 0, outcome.err
    chosen = read_chosen(fit / "mixture.yaml")
    assert chosen["GitHub"] == 0.75
    assert chosen["Common Crawl"] + chosen["books"] == pytest.approx(0.25)
    assert "'Github' is no domain" in regmix("choose", fit, *FEW, "choice.max.Github=0.5").err


def test_the_commands_in_the_report_do_it_again(regmix, fit):
    asked = ("choice.max.code=0.5", "choice.groups.few={domains: [web, code], max: 0.6}")
    assert regmix("choose", fit, *FEW, *asked).code == 0
    regmix("report", fit)
    before = (fit / "mixture.yaml").read_text()
    page, again = (fit / "report" / "README.md").read_text().split("## Do it again")
    assert "| 60.0 % | 0.0 % to 60.0 %: held at its max |" in page
    lines = again.splitlines()
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("    regmix ")]
    assert [words[0] for words in commands] == ["fit", "choose"]
    (fit / "mixture.yaml").unlink()
    assert regmix(*commands[1]).code == 0
    assert (fit / "mixture.yaml").read_text() == before
    chosen = read_chosen(fit / "mixture.yaml")
    assert chosen["code"] <= 0.5
    assert chosen["web"] + chosen["code"] == pytest.approx(0.6, abs=1e-9)


def test_status_says_what_is_left_and_what_is_stale(regmix, made, fit):
    assert states(regmix, fit) == {"fit": "done", "choose": "missing", "report": "missing"}
    assert f"Next: regmix choose {fit}" in regmix("status", fit).err
    regmix("choose", fit, *FEW)
    regmix("report", fit)
    assert states(regmix, fit) == {"fit": "done", "choose": "done", "report": "done"}
    assert "All done: read" in regmix("status", fit).err
    summary = json.loads((fit / "summary.json").read_text())
    (fit / "summary.json").write_text(json.dumps({**summary, "seed_noise": 0.5}))
    outcome = regmix("status", fit)
    assert "summary.json changed" in outcome.out
    assert states(regmix, fit) == {"fit": "done", "choose": "stale", "report": "stale"}
    assert f"Next: regmix choose {fit} {' '.join(FEW)}" in outcome.err, "as it was chosen before"
    record = json.loads((fit / "fit.json").read_text())
    record["tables"] = dict.fromkeys(record["tables"], "0" * 64)
    (fit / "fit.json").write_text(json.dumps(record))
    assert states(regmix, fit)["fit"] == "stale"


def test_a_choice_may_have_a_prior_of_its_own_and_a_folder_of_its_own(regmix, fit, tmp_path):
    prior = tmp_path / "prior.yaml"
    prior.write_text("priors:\n  token_counts: {web: 7_000_000, code: 1_000_000, books: 2_000_000}\n")
    other = tmp_path / "other"
    assert regmix("choose", fit, *FEW, "--prior", prior, "--output", other).code == 0
    assert not (fit / "mixture.yaml").exists()
    record = YAML(typ="safe").load((other / "mixture.yaml").read_text())
    assert record["prior"] == pytest.approx({"web": 0.7, "code": 0.1, "books": 0.2})
    assert regmix("report", other).code == 0
    assert "The prior is that of prior.yaml." in (other / "report" / "README.md").read_text()
    assert states(regmix, other) == {"fit": "done", "choose": "done", "report": "done"}
    exported = json.loads(regmix("export", other, "--to", "json").out)["weights"]
    assert exported == {name: share for name, share in record["weights"].items() if share > 0}
    shutil.rmtree(fit)
    outcome = regmix("report", other)
    assert outcome.code == 2
    assert "which is gone" in outcome.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("web: 0.5\ncodes: 0.5\n", "'codes' is no domain; did you mean 'code'?"),
        ("web: a lot\n", "'web' has 'a lot'"),
        ("- web\n", "holds no domains"),
        ("web: -1\n", "the weight of 'web' is -1"),
        ("web: [\n", "cannot be read"),
    ],
)
def test_a_prior_that_is_none_is_refused(regmix, fit, tmp_path, text, message):
    (tmp_path / "prior.yaml").write_text(text)
    outcome = regmix("choose", fit, "--prior", tmp_path / "prior.yaml")
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert not (fit / "mixture.yaml").exists()


def test_what_is_only_validated_on_is_no_domain_of_weight_0(regmix, fit):
    tables = json.loads(regmix("choose", fit, *FEW, "--format", "json").out)
    assert {row["domain"] for row in tables["chosen_mixture"]["rows"]} == {"web", "code", "books"}
    units = {row["target"]: row["unit"] for row in tables["predicted"]["rows"]}
    assert units == {"web": "nats_per_token", "code": "nats_per_token", "exam": None}  # of that nobody says


def test_the_table_of_quality_for_a_paper_a_page_and_a_program(regmix, made, tmp_path):
    words = ["--runs", made / "wide.csv", "--target", "exam", "--estimators", "power_law"]
    outcome = regmix("fit", *words, "--output", tmp_path / "csv", "--format", "csv")
    assert outcome.code == 0
    assert "weights: w_web, w_code, w_books" in outcome.err
    rows = pd.read_csv(io.StringIO(outcome.out))
    quality = pd.read_parquet(tmp_path / "csv" / "quality.parquet")
    told = {kind: quality_text(quality, "exam", kind) for kind in QualityFormat if kind.is_text}
    assert set(rows["estimator"]) == {"power_law", "own_weight"}
    assert {"spearman", "spearman_low", "spearman_high"} <= set(rows.columns)
    row = rows[(rows["target"] == "exam") & (rows["estimator"] == "power_law")].iloc[0]
    shown = f"{100 * row['spearman']:.1f} [{100 * row['spearman_low']:.1f}, {100 * row['spearman_high']:.1f}]"
    lines = told["markdown"].splitlines()
    assert lines[1].startswith("| --- | --- |")
    assert any(shown in line and "| power_law |" in line for line in lines)
    assert all(part in told["latex"] for part in ("\\toprule", "\\midrule", "\\bottomrule", shown))
    assert "power\\_law" in told["latex"]
    assert "spearman (\\%)" in told["latex"]
    record = json.loads((tmp_path / "csv" / "fit.json").read_text())
    assert record["command"][:3] == ["fit", "--runs", str(made / "wide.csv")]
    assert any(note.startswith("weights: ") for note in record["notes"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mixtures", "a.csv"], "--mixtures a.csv is there, and --losses is missing."),
        (["--losses", "b.csv"], "--losses b.csv is there, and --mixtures is missing."),
        (["--runs", "a.csv", "--losses", "b.csv"], "--runs holds weights and losses"),
        (["--runs", "nowhere.csv"], "nowhere.csv is not there"),
        (["--runs", "a.csv", "--where", "size"], "--where 'size' says no value"),
    ],
)
def test_what_is_missing_of_tables_is_named(regmix, words, message):
    outcome = regmix("fit", *words)
    assert outcome.code == 2
    assert message in outcome.err


@pytest.mark.parametrize("words", [["run"], ["prepare"], ["validate"], ["train"], ["fit"]])
def test_verbs_of_a_recipe_say_what_such_a_folder_has(regmix, fit, words):
    outcome = regmix(*words, fit)
    assert outcome.code == 2
    assert "is a fit on tables and holds no recipe" in outcome.err
    assert "`regmix choose`, `report`, `status`, `export` and `push`" in outcome.err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("choice.max_weight=0.3", "choice.max_weight: unknown key; did you mean 'max_epochs'?"),
        ("choice.max.web=3", "choice.max.web: should be less than or equal to 1 (value 3)"),
        ("choice.max.web", "'choice.max.web' is no override."),
        ("choice=3", "choice: should be keys with values: {num_candidates: "),
        ("choise.max.web=0.3", "choise: unknown key; did you mean 'choice'?"),
        ("choice.max_epochs=3", "choice.max_epochs has no effect on this fit"),
        ("choice.num_confirm=2", "choice.num_confirm has no effect on a fit on tables"),
        ("regression.min_signal=2", "regression.min_signal has no effect on what is fitted already."),
    ],
)
def test_an_override_is_named_as_it_was_written(regmix, made, override, message):
    outcome = regmix("choose", made / "fit", override)
    assert outcome.code == 2
    assert message in outcome.err


def test_a_target_made_of_several_is_predicted_beside_them(regmix, fit):
    outcome = regmix("choose", fit, *FEW, "regression.target=[web, code]")
    assert outcome.code == 0, outcome.err
    assert "predicted loss: mean of web, code (nats per token, 90 % interval)" in outcome.out
    (chosen, prior) = re.findall(r"^  (?:chosen|prior)  +(\d\.\d{4}) ", outcome.out, re.MULTILINE)
    assert float(chosen) < float(prior)
    sentence = "the regression tells mixtures apart"
    assert outcome.err.count(sentence) == 1, "it was judged for another target before"
    assert "predicted targets" in outcome.out
    assert sentence not in regmix("choose", fit, *FEW).err, "`fit` has said it"


def test_a_recipe_has_a_prior_and_a_folder_already(regmix, recipe, tmp_path):
    outcome = regmix("choose", recipe, "--output", tmp_path / "x")
    assert outcome.code == 2
    assert "--prior and --output are for a fit on tables" in outcome.err


@pytest.mark.parametrize("name", ["chosen.yaml", "chosen.JSON"])
def test_a_folder_is_not_called_as_a_file_is(regmix, fit, tmp_path, name):
    outcome = regmix("choose", fit, "--output", tmp_path / name)
    assert (outcome.code, (tmp_path / name).exists()) == (2, False)
    assert "has to be a folder" in outcome.err
    assert "mixture.yaml" in outcome.err


def test_a_fit_of_version_0_1_is_chosen_from_and_reported(regmix, fit):
    (fit / "fit.json").unlink()
    regmix("choose", fit, *FEW)
    (fit / "choice.json").unlink()
    assert regmix("report", fit).code == 0
    assert states(regmix, fit) == {"fit": "done", "choose": "done", "report": "done"}
