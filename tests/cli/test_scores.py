"""Accuracies in CSV files are made large from end to end, and no table, card or page calls them nats."""

import json

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

FEW = ("choice.num_candidates=2000", "choice.top_k=20")


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """Two exams, each with a teacher among three domains, beside a loss and a perplexity."""
    rng = np.random.default_rng(3)
    weights = pd.DataFrame(rng.dirichlet([1.0, 1.0, 1.0], 24), columns=["web", "code", "books"])
    values = pd.DataFrame({"web_acc": 0.2 + 0.5 * weights["web"], "code_acc": 0.2 + 0.5 * weights["code"]})
    values["books"] = 3.0 - weights["books"]
    values["books_ppl"] = np.exp(values["books"])
    for name, table in (("w", weights), ("l", values + rng.normal(0, 0.003, values.shape))):
        table.rename_axis("index").to_csv(tmp_path / f"{name}.csv")
    monkeypatch.chdir(tmp_path)
    return ("--mixtures", "w.csv", "--losses", "l.csv", "--estimators", "ridge", "--output", "out")


def test_accuracies_are_made_large_and_reported_as_such(regmix, tables, tmp_path):
    outcome = regmix("fit", *tables)
    assert outcome.code == 2
    assert "'web_acc', 'code_acc' look like scores" in " ".join(outcome.err.split())
    assert "--maximize web_acc,code_acc (or" in " ".join(outcome.err.split())
    outcome = regmix("fit", *tables, "--maximize", "*_acx")
    assert (outcome.code, "'*_acx'" in outcome.err) == (2, True)
    outcome = regmix("fit", *tables, "--maximize", "*_acc", "--target", "web_acc")
    assert outcome.code == 0, outcome.err
    outcome = regmix("choose", "out", *FEW)
    assert outcome.code == 0, outcome.err
    assert "predicted targets (higher is better, 90 % interval)" in outcome.out
    chosen = YAML(typ="safe").load((tmp_path / "out" / "mixture.yaml").read_text())
    assert chosen["weights"]["web"] > 0.9
    assert (chosen["direction"], chosen["unit"]) == ("higher", None)
    assert chosen["predicted"]["is_better_than_prior"]
    assert regmix("report", "out").code == 0
    page = (tmp_path / "out" / "report" / "README.md").read_text()
    assert "that make the web_acc large." in page
    assert not [line for line in page.splitlines() if "nats" in line and "_acc" in line]
    command = json.loads((tmp_path / "out" / "fit.json").read_text())["command"]
    assert command[command.index("--maximize") + 1] == "*_acc"


def test_what_is_maximised_is_the_target_where_none_is_named_and_the_choice_may_ask_otherwise(regmix, tables):
    assert regmix("fit", *tables, "--maximize", "web_acc,code_acc").code == 0
    for target, says in (
        ("{worst_of: [web_acc, code_acc]}", {"web": 0.45, "code": 0.45}),
        ("books_ppl", {"books": 0.9}),
        ("{mean_of: {books: 1, web_acc: 3}, scale: spread}", {"web": 0.9}),
    ):
        outcome = regmix("choose", "out", f"regression.target={target}", *FEW, "--format", "json")
        assert outcome.code == 0, outcome.err
        rows = json.loads(outcome.out)["chosen_mixture"]["rows"]
        weights = {row["domain"]: row["weight"] for row in rows}
        assert set(weights) == {"web", "code", "books"}
        assert all(weights[name] > least for name, least in says.items()), (target, weights)
    outcome = regmix("choose", "out", "regression.target=[books, web_acc]")
    assert outcome.code == 2
    assert "less of 'books' is better, and more of 'web_acc'" in outcome.err
    assert "scale: spread" in outcome.err


def test_scores_beside_the_target_are_left_out_unasked_and_values_raise_the_question_too(
    regmix, tables, tmp_path
):
    table = pd.read_csv("l.csv", index_col="index")
    table = table.assign(maths=100 * table["web_acc"], essay=table["code_acc"] - 1, recall=table["books"])
    table.to_csv("l.csv")
    outcome = regmix("fit", *tables)
    said = " ".join(outcome.err.split())
    assert outcome.code == 2
    assert "'web_acc', 'code_acc', 'maths', 'essay', 'recall' look like scores" in said
    outcome = regmix("fit", *tables, "--target", "books", "--test", "again=w.csv,l.csv")
    said = " ".join(outcome.err.split())
    assert outcome.code == 0, said
    assert "web_acc, code_acc, maths, essay, recall: left out, as nothing says whether more" in said
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [one["name"] for one in summary["quantities"]] == ["books", "books_ppl"]
    outcome = regmix("fit", *tables, "--target", "maths")
    said = " ".join(outcome.err.split())
    assert outcome.code == 2
    assert "the column 'maths' looks like a score" in said
    assert "--maximize maths (or --minimize maths" in said
    assert regmix("fit", *tables, "--target", "maths", "--maximize", "maths").code == 0


def test_what_is_called_a_loss_and_lies_below_0_is_a_question_too(regmix, tables):
    table = pd.read_csv("l.csv", index_col="index")[["books"]]
    table.add_prefix("loss_").to_csv("l.csv")
    assert regmix("fit", *tables).code == 0
    (-table).add_prefix("loss_").to_csv("l.csv")
    outcome = regmix("fit", *tables)
    assert outcome.code == 2
    assert "the column 'books' looks like a score" in " ".join(outcome.err.split())
    assert "--maximize books (or --minimize books" in " ".join(outcome.err.split())


def test_a_test_set_of_smaller_values_is_in_the_unit_of_the_fit(regmix, tables):
    table = pd.read_csv("l.csv", index_col="index")[["books"]].rename(columns={"books": "exam"})
    table.to_csv("l.csv")
    (table / 4).to_csv("small.csv")  # a larger model's losses, all below 1
    outcome = regmix("fit", *tables, "--test", "large=w.csv,small.csv")
    assert outcome.code == 0, outcome.err
    assert "large" in outcome.out
