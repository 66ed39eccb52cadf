"""A fit on tables goes to the Hub: its runs with licence and origin, its regressor, its mixture."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from huggingface_hub import DatasetCard

from regmix_hf import MixtureRegressor, load_runs
from regmix_hf.cli import app
from regmix_hf.progress import Silent
from regmix_hf.regression.by_size import by_size, fit_one
from tests.table_fit import FEW, make_fit

TERMS = ("--namespace", "me", "--name", "table", "--license", "cc-by-4.0", "--origin", "runs of our cluster")


@pytest.fixture(scope="module")
def fit(made_once: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pushed") / "fit"
    return Path(shutil.copytree(made_once("table-fit", make_fit) / "fit", folder))


@pytest.fixture
def regmix(monkeypatch, capsys):
    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["regmix", *map(str, words)])
        code = app.run()
        return (code, *capsys.readouterr())

    return call


def test_runs_regressor_and_mixture_are_published_and_read(hub, standin, regmix, fit):
    assert regmix("choose", fit, *FEW)[0] == 0
    code, _, err = regmix("push", fit, *TERMS)
    assert code == 0, err
    assert set(standin.store.repos) == {"me/table-runs", "me/table-regressor", "me/table-mixture"}
    assert all(set(repo.tags) == {"v1"} for repo in standin.store.repos.values())
    card = standin.repo("me/table-runs").head.files["README.md"].content.decode()
    assert DatasetCard(card).data.license == "cc-by-4.0"
    assert "in the words of whoever publishes them: runs of our cluster" in card
    assert "me/table-runs@v1" in card
    assert "me/table-runs@v1" in err, "what to do with it is said"
    results = pd.read_parquet(io.BytesIO(standin.repo("me/table-runs").head.files["results.parquet"].content))
    assert list(results["name"]) == [str(k) for k in range(30)]
    assert results["run_id"].str.fullmatch("[0-9a-f]{16}").all()

    here, there = load_runs(fit), load_runs("me/table-runs@v1")
    np.testing.assert_array_equal(here.weights, there.weights)
    np.testing.assert_array_equal(here.losses, there.losses)
    model = MixtureRegressor.from_pretrained("me/table-regressor", revision="v1")
    own = MixtureRegressor.from_pretrained(fit / "power_law")
    np.testing.assert_array_equal(model.predict(here.weights), own.predict(here.weights))
    page = standin.repo("me/table-mixture").head.files["README.md"].content.decode()
    assert "Shares of 3 domains" in page
    assert "epochs |" not in page
    assert "Licence: `cc-by-4.0`" in page
    assert "explorer.html" in standin.repo("me/table-mixture").head.files

    code, out, _ = regmix("push", fit, *TERMS, "--dry-run", "--format", "json")
    assert code == 0
    (table,) = json.loads(out).values()
    assert {row["changed"].split()[0] for row in table["rows"]} == {"0"}


def test_a_law_over_sizes_and_what_it_chose_for_a_larger_model_are_published_and_read(
    hub, standin, regmix, tmp_path
):
    rng, folder = np.random.default_rng(0), tmp_path / "fit"
    swarm = rng.dirichlet(np.ones(3), 20)
    weights, larger = np.concatenate([swarm, swarm[:10]]), np.arange(30) >= 20
    runs = pd.DataFrame(weights, columns=["weight/a", "weight/b", "weight/c"])
    runs["loss/a"] = 3 - np.sqrt(weights[:, 0]) - 0.4 * larger + rng.normal(scale=0.01, size=30)
    runs["num_parameters"], runs["num_train_tokens"] = np.where(larger, 6e7, 1e6), 1e9
    runs.to_csv(tmp_path / "runs.csv", index=False)
    family = ("--estimators", "scaled_law", "--target", "a", "--output", folder)
    assert regmix("fit", "--runs", tmp_path / "runs.csv", *family)[0] == 0
    code, _, err = regmix("choose", folder, *FEW, "--num-parameters", "1B", "--num-tokens", "25B")
    assert code == 0, err
    code, _, err = regmix("push", folder, *TERMS)
    assert code == 0, err
    there = MixtureRegressor.from_pretrained("me/table-regressor", revision="v1").at(1e9, 2.5e10)
    here = MixtureRegressor.from_pretrained(folder / "scaled_law").at(1e9, 2.5e10)
    for one, other in zip(there.predict_interval(swarm), here.predict_interval(swarm), strict=True):
        np.testing.assert_array_equal(one, other)
    page = standin.repo("me/table-mixture").head.files["README.md"].content.decode()
    assert "1,000,000,000 parameters on 25,000,000,000 tokens" in page
    again = fit_one("scaled_law", 0, *by_size(load_runs("me/table-runs@v1"), Silent())).at(1e9, 2.5e10)
    np.testing.assert_array_equal(again.predict(swarm), here.predict(swarm))
    page = standin.repo("me/table-runs").head.files["README.md"].content.decode()
    assert "By size: 20 of 1,000,000 parameters on 1,000,000,000 tokens, 10 of 60,000,000" in page


@pytest.mark.parametrize("missing", ["--namespace", "--license", "--origin"])
def test_what_tables_do_not_say_is_asked_for(hub, standin, regmix, fit, missing):
    place = TERMS.index(missing)
    code, _, err = regmix("push", fit, *TERMS[:place], *TERMS[place + 2 :])
    assert code == 2
    assert f"a fit on tables does not say {missing}." in err
    assert not standin.store.repos


def test_a_licence_the_hub_does_not_know_as_one_is_refused(hub, standin, regmix, fit):
    words = [word if word != "cc-by-4.0" else "My own licence" for word in TERMS]
    code, _, err = regmix("push", fit, *words)
    assert (code, standin.store.repos) == (2, {})
    assert "license" in err


def test_a_mixture_chosen_with_another_fit_is_left_out(hub, standin, regmix, fit):
    regmix("choose", fit, *FEW)
    record = json.loads((fit / "choice.json").read_text())
    (fit / "choice.json").write_text(json.dumps({**record, "fitted": "0" * 64}))
    code, _, err = regmix("push", fit, *TERMS)
    assert code == 0
    assert "mixture: `choose` is stale, because summary.json changed; left out" in err
    assert set(standin.store.repos) == {"me/table-runs", "me/table-regressor"}


def test_the_name_of_a_study_is_taken(pushed, standin, regmix, fit):
    words = [word if word != "table" else "small" for word in TERMS]
    code, _, err = regmix("push", fit, *words, "--only", "runs")
    assert code == 2
    assert "me/small-runs holds the runs of a study" in err


def test_pulling_it_says_what_it_is(hub, standin, regmix, fit, tmp_path):
    assert regmix("push", fit, *TERMS, "--only", "runs")[0] == 0
    code, _, err = regmix("pull", "me/table", tmp_path / "pulled")
    assert code == 2
    assert "regmix fit --runs me/table-runs" in err
