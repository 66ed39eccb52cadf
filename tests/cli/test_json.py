"""What verbs print for machines: keys that stay, units, one schema per verb, and errors that can be read."""

import json
import re
from pathlib import Path

import pytest

from regmix_hf.cli.schema import VERBS, Failure, output_model
from regmix_hf.cli.tables import OF_VERB
from regmix_hf.files import read_yaml
from tests.study.test_version_0_1 import open_study  # noqa: F401 - a fixture

#: Verb -> what stands behind it, on a finished study; these two want a Hub, and stand in tests/hub.
WORDS: dict[str, list[str]] = {
    **{verb: ["recipe.yaml"] for verb in VERBS if verb not in ("push", "pull")},
    "init": ["library", "--output", "first.yaml"],
    "env": [],
    "keys": ["sampling"],
}


@pytest.fixture
def finished(open_study, tmp_path) -> Path:  # noqa: F811
    """The working directory: a study that is done, and a folder of text."""
    folder = Path.cwd()
    for name in ("a", "b"):
        (folder / "library" / name).mkdir(parents=True)
        for number in range(40):
            text = f"document {name} {number} " * 500
            (folder / "library" / name / f"{number}.txt").write_text(text)
    return folder


def test_every_verb_that_prints_for_machines_is_tried():
    assert set(VERBS) == {*WORDS, "push", "pull"}


@pytest.mark.parametrize("verb", WORDS)
def test_a_verb_prints_what_its_schema_says(regmix, finished, monkeypatch, verb):
    monkeypatch.setattr("regmix_hf.plan._MEASURED_SECONDS", 0.0)
    outcome = regmix(verb, *WORDS[verb], "--format", "json")
    assert outcome.code == 0, outcome.err
    if verb == "report":  # its text is its result
        assert outcome.out == "{}\n"
        return
    printed = output_model(verb).model_validate_json(outcome.out)
    assert printed.model_fields_set, "something was printed"
    if verb in OF_VERB:
        assert any(table["rows"] for table in json.loads(outcome.out).values())


def test_a_study_says_its_answer_in_numbers_with_units(regmix, finished):
    answer = json.loads(regmix("run", "recipe.yaml", "--format", "json").out)
    assert answer["chosen_mixture"]["units"]["weight"] == "share_of_training_tokens"
    assert sum(row["weight"] for row in answer["chosen_mixture"]["rows"]) == pytest.approx(1.0, abs=1e-5)
    again = regmix("choose", "recipe.yaml", "--format", "json")
    assert "Next:" not in again.err, "all that comes after it is done"
    assert again.err.endswith(f"Read {Path('study/report/README.md')}\n")
    chosen = json.loads(again.out)
    tables = [found["chosen_mixture"]["rows"] for found in (answer, chosen)]
    weights = [{row["domain"]: row["weight"] for row in rows} for rows in tables]
    assert weights[0] == weights[1], "`weight` means the same in every verb"
    assert answer["final_models"]["units"]["value"] == "nats_per_token"
    plan = json.loads(regmix("run", "recipe.yaml", "--dry-run", "--format", "json").out)
    output_model("run").model_validate(plan)
    assert plan["plan"]["units"]["disk_bytes"] == "bytes"


def test_a_group_that_binds_is_chosen_within_and_recorded(regmix, finished):
    asked = ["choice.groups.mine={domains: [prose, code], max: 0.8}", "choice.num_confirm=0"]
    before = json.loads(regmix("choose", "recipe.yaml", "--format", "json").out)
    assert "groups" not in before
    free = {row["domain"]: row["weight"] for row in before["chosen_mixture"]["rows"]}
    assert free["prose"] + free["code"] > 0.85
    outcome = regmix("choose", "recipe.yaml", *asked, "--format", "json")
    assert outcome.code == 0, outcome.err
    assert "Next: regmix train recipe.yaml" in outcome.err
    printed = json.loads(outcome.out)
    held = {row["domain"]: row["weight"] for row in printed["chosen_mixture"]["rows"]}
    assert held["prose"] + held["code"] == pytest.approx(0.8, abs=1e-9)
    assert held["sums"] == pytest.approx(0.2, abs=1e-9)
    [row] = printed["groups"]["rows"]
    expected = {"group": "mine", "domains": "prose, code", "min": 0.0, "max": 0.8, "held_at": "max"}
    assert {key: row[key] for key in expected} == expected
    [recorded] = read_yaml(Path("study/5-mixture/mixture.yaml"))["groups"]
    assert (recorded["name"], recorded["domains"], recorded["chosen"]) == ("mine", ["prose", "code"], 0.8)


def test_keys_are_words_that_any_language_takes():
    kinds = {kind.name: kind for kinds in OF_VERB.values() for kind in kinds}
    columns = [column for kind in kinds.values() for column in (*kind.columns, *kind.about)]
    names = {*kinds, *(column.key for column in columns)}
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in names), names
    assert {column.unit for column in columns if column.key == "weight"} == {"share_of_training_tokens"}


def test_the_schema_of_a_verb_is_printed(regmix):
    schema = json.loads(regmix("keys", "--printed-by", "choose").out)
    assert set(schema["properties"]) == {
        *("chosen_mixture", "groups", "predicted_target", "predicted", "choice_as_tried")
    }
    assert regmix("keys", "--printed-by", "chose").err.endswith("did you mean 'choose'?\n")


@pytest.mark.parametrize("words", [["--format", "json"], ["--format=json"]])
def test_who_asks_for_json_gets_errors_as_json(regmix, words):
    outcome = regmix("validate", "nowhere", *words)
    assert (outcome.code, outcome.out) == (2, "")
    failure = Failure.model_validate_json(outcome.err.splitlines()[-1])
    assert (failure.error, failure.exit_code) == ("RecipeError", 2)
    assert failure.message == "no recipe at 'nowhere'."
    assert failure.hint.startswith("give a recipe.yaml")


@pytest.mark.parametrize("words", [["status", ".", "--nosuch"], ["stats", "."], ["fit", "--seed", "many"]])
def test_words_that_no_verb_takes_are_an_error_as_json_too(regmix, words):
    outcome = regmix(*words, "--format", "json")
    assert (outcome.code, outcome.out) == (2, "")
    failure = Failure.model_validate_json(outcome.err)
    assert failure.exit_code == 2
    assert "No such" in failure.message or "Invalid value" in failure.message
    assert "--help" in failure.hint
