"""The chosen mixture on disk: what a person and another recipe read, and what a table holds."""

import pandas as pd
import pytest
from ruamel.yaml import YAML

from regmix_hf import choose_mixture
from regmix_hf.choice import read_chosen, write_chosen
from regmix_hf.errors import MixtureError, StudyError
from regmix_hf.recipe import Choice

NAMES = ("a", "b", "c")
PRIOR = {"a": 0.7, "b": 0.2, "c": 0.1}


@pytest.fixture(scope="module")
def chosen(runs, fitted):
    choice = Choice(num_candidates=1_000, top_k=10)
    return choose_mixture(fitted("power_law"), "mean", prior=PRIOR, swarm=runs[0], choice=choice)


def read_yaml(file):
    return YAML(typ="safe", pure=True).load(file.read_text())


def test_the_weights_come_back_to_the_last_digit(chosen, tmp_path):
    write_chosen(chosen, tmp_path)
    assert read_chosen(tmp_path / "mixture.yaml", NAMES) == pytest.approx(chosen.weights, abs=1e-12)
    assert read_yaml(tmp_path / "mixture.yaml")["weights"] == chosen.weights


def test_the_weights_are_a_baseline_of_another_recipe_as_they_stand(chosen, tmp_path):
    write_chosen(chosen, tmp_path)
    weights = read_yaml(tmp_path / "mixture.yaml")["weights"]
    assert list(weights.values()) == sorted(weights.values(), reverse=True)
    lines = (tmp_path / "mixture.yaml").read_text().splitlines()
    start = lines.index("weights:")
    assert [line.strip() for line in lines[start + 1 : start + 4]] == [
        f"{name}: {weight}" for name, weight in weights.items()
    ]


def test_the_file_says_what_is_promised_and_against_what(chosen, tmp_path):
    write_chosen(chosen, tmp_path, name="best")
    tree = read_yaml(tmp_path / "mixture.yaml")
    assert tree["name"] == "best"
    assert tree["target"] == "mean of 3 targets"
    assert tree["estimator"] == "power_law"
    assert tree["method"] == chosen.method
    assert tree["prior"] == PRIOR
    predicted = tree["predicted"]
    assert predicted["chosen"]["loss"] == pytest.approx(chosen.predicted.loss, abs=1e-6)
    assert predicted["prior"]["upper"] == pytest.approx(chosen.prior_predicted.upper, abs=1e-6)
    assert predicted["is_better_than_prior"] is True
    assert set(tree["candidates"]) == {"simulated", "optimised"}
    assert tree["widest_gap_between_runs"] == pytest.approx(chosen.widest_gap, abs=1e-6)


def test_what_is_not_known_is_null(fitted, tmp_path):
    alone = choose_mixture(fitted("power_law"), "a", prior=PRIOR, choice=Choice(num_candidates=100))
    write_chosen(alone, tmp_path)
    tree = read_yaml(tmp_path / "mixture.yaml")
    assert tree["widest_gap_between_runs"] is None
    assert tree["candidates"]["simulated"]["distance_to_nearest_run"] is None
    assert pd.read_parquet(tmp_path / "mixture.parquet")["epochs"].isna().all()


def test_the_table_has_a_row_per_domain_with_the_trade_off(chosen, tmp_path):
    write_chosen(chosen, tmp_path, epochs={"a": 1.5, "b": 0.5, "c": 2.0})
    table = pd.read_parquet(tmp_path / "mixture.parquet")
    assert table["domain"].tolist() == list(NAMES)
    assert table["weight"].tolist() == list(chosen.weights.values())
    assert table["epochs"].tolist() == [1.5, 0.5, 2.0]
    assert list(table.columns[4:]) == list(chosen.losses.columns)
    assert table["change"].tolist() == chosen.losses["change"].tolist()
    assert table["is_clear"].dtype == "boolean"


def test_a_target_that_is_not_trained_on_and_a_domain_without_a_loss_have_rows_too(runs):
    from regmix_hf.regression import MixtureRegressor

    weights, losses = runs
    other = losses[["a", "b"]].rename(columns={"b": "mine"})
    model = MixtureRegressor("ridge").fit(weights, other)
    table = choose_mixture(model, "mine", prior=PRIOR, choice=Choice(num_candidates=100)).table()
    assert table["domain"].tolist() == ["a", "b", "c", "mine"]
    rows = table.set_index("domain")
    assert rows.loc["mine", "weight"] == 0.0
    assert rows.loc["mine", "loss"] > 0
    assert rows.loc[["b", "c"], ["loss", "is_clear"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("weights: [", StudyError, "cannot be read as YAML"),
        ("- a", StudyError, "holds no `weights`"),
        ("weights: 3", StudyError, "holds no `weights`"),
        ("weights: {a: 0.5, d: 0.5}", MixtureError, "'d' is no domain"),
        ("weights: {a: 0.5}", MixtureError, "sum to 0.5"),
    ],
)
def test_a_file_that_is_no_mixture_is_refused_by_name(tmp_path, text, error, message):
    file = tmp_path / "mixture.yaml"
    file.write_text(text)
    with pytest.raises(error) as raised:
        read_chosen(file, NAMES)
    assert message in str(raised.value)
    assert str(file) in str(raised.value)


def test_a_missing_file_names_the_stage(tmp_path):
    with pytest.raises(StudyError, match="regmix choose"):
        read_chosen(tmp_path / "mixture.yaml", NAMES)
