"""`regmix export`: from a recipe with its corpus, and from the folder of a fit."""

import json
from collections import Counter

import numpy as np
import pytest
from ruamel.yaml import YAML

from regmix_hf.recipe import Domain
from regmix_hf.sharing.exporting import from_here


@pytest.fixture
def chosen_study(recipe, tmp_path, write_corpus):
    """The study of the recipe: its corpus, whose blocks hold one number per domain, and a chosen mixture."""
    study = tmp_path / "study"
    blocks = {"a": np.full((60, 16), 1), "b": np.full((40, 16), 2)}
    write_corpus(study / "1-corpus", 300, {name: (part, part[:2]) for name, part in blocks.items()})
    (study / "5-mixture").mkdir()
    (study / "5-mixture" / "mixture.yaml").write_text("weights: {a: 0.25, b: 0.75}\n")
    return recipe


def test_a_study_is_exported_with_its_text_and_its_counts(regmix, chosen_study):
    outcome = regmix("export", chosen_study, "--to", "trl")
    assert outcome.code == 0, outcome.err
    entries = YAML(typ="safe").load(outcome.out)["datasets"]
    assert {e["data_files"]["train"].split("/")[-1]: e["fraction"] for e in entries} == pytest.approx(
        {"a.jsonl": 0.25, "b.jsonl": 0.75}
    )


def test_the_program_for_datasets_runs_and_meets_the_shares(regmix, chosen_study):
    outcome = regmix("export", chosen_study, "--to", "datasets")
    told = {"__name__": "a_mixture"}
    exec(outcome.out, told)
    drawn = Counter(row[0] for row in told["mixture"]["input_ids"])
    share = drawn[2] / drawn.total()
    assert share == pytest.approx(0.75, abs=5 * (0.75 * 0.25 / drawn.total()) ** 0.5)


def test_the_prior_and_any_baseline_can_be_exported(regmix, chosen_study):
    outcome = regmix("export", chosen_study, "--to", "json", "--mixture", "prior")
    assert json.loads(outcome.out)["weights"] == pytest.approx({"a": 0.6, "b": 0.4})


def test_all_trainers_get_a_folder_and_those_left_out_are_named(regmix, chosen_study, tmp_path):
    outcome = regmix("export", chosen_study, "--all", tmp_path / "out", "--location", "/data/{domain}")
    assert outcome.code == 0
    assert "streaming: left out:" in outcome.err
    assert "--samples blocks or --samples documents" in outcome.err
    assert (tmp_path / "out" / "megatron-lm" / "data_args.sh").read_text().count("/data/") == 2
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"yaml", "json", "csv", "datasets", "trl", "olmo-core", "nanotron", "litgpt"} <= written


def test_a_fit_on_tables_is_exported_by_its_weights(regmix, tmp_path):
    (tmp_path / "summary.json").write_text("{}")
    (tmp_path / "mixture.yaml").write_text("weights: {web: 0.9, code: 0.1, maths: 0.0}\n")
    outcome = regmix("export", tmp_path, "--to", "nanotron", "--location", "/tokens/{domain}")
    assert outcome.code == 0
    assert "/tokens/code" in outcome.out
    assert "left out, because their share is 0: maths" in outcome.err
    outcome = regmix("export", tmp_path, "--to", "trl")
    assert outcome.code == 2
    assert "--tokens-per-document web=NUMBER" in outcome.err


def test_without_a_trainer_the_trainers_are_listed(regmix, chosen_study):
    outcome = regmix("export", chosen_study)
    assert outcome.code == 2
    assert "megatron-lm" in outcome.err
    assert "shares of documents" in outcome.err


def test_paths_beside_the_recipe_are_told_from_where_others_start(tmp_path):
    for name in ("texts/a.txt", "web/b.jsonl"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    books = from_here(Domain(path="texts").from_folder(tmp_path))
    assert books.path == str(tmp_path / "texts")
    web = from_here(Domain(path="json", data_files=["web/*.jsonl"]).from_folder(tmp_path))
    assert (web.path, web.data_files) == ("json", {"train": [str(tmp_path / "web/*.jsonl")]})
    far = Domain(path="someone/tweets").from_folder(tmp_path)
    assert from_here(far) == far
