"""From a table of runs that repeat text to a mixture for a run that repeats it otherwise."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

FEW = ("choice.num_candidates=2000", "choice.top_k=20", "choice.max_epochs=null")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """24 runs on little of `books`, which help everything until they are read too often."""
    weights = pd.DataFrame(
        np.random.default_rng(5).dirichlet(np.ones(3), 24), columns=["web", "code", "books"]
    )
    epochs = weights * [0.5, 0.5, 40.0]
    harm = 0.1 * np.logaddexp(0, np.log1p(epochs["books"]) - 1.4) ** 2
    losses = pd.DataFrame({"exam": 3.0 - 0.8 * np.sqrt(weights["books"]) - 0.1 * weights["code"] + harm})
    runs = weights.add_prefix("w_").join(losses.add_prefix("loss_")).join(epochs.add_prefix("epochs/"))
    runs.to_csv(tmp_path / "runs.csv", index=False)
    return tmp_path


def books(folder: Path) -> float:
    return float(YAML(typ="safe").load(folder / "mixture.yaml")["weights"]["books"])


def test_a_domain_gets_less_in_a_run_that_would_read_it_more_often(regmix, table):
    fit = table / "fit"
    fitted = regmix("fit", "--runs", table / "runs.csv", "--estimators", "power_law", "--output", fit)
    assert fitted.code == 0, fitted.err
    (table / "text.yaml").write_text("{web: 40_000_000, code: 40_000_000, books: 500_000}")
    text = ("--available", table / "text.yaml")
    for name, tokens in (("alike", "20M"), ("longer", "200M")):
        to = ("--num-tokens", tokens, "--output", table / name)
        chosen = regmix("choose", fit, *FEW, *text, *to)
        assert (chosen.code, "predictions count what repeating costs" in chosen.err) == (0, True), chosen.err
    assert books(table / "longer") < 0.7 * books(table / "alike")
    guarded = regmix("choose", fit, *FEW[:2], *text, "--num-tokens", "200M", "--output", table / "guarded")
    assert guarded.code == 0, guarded.err
    assert books(table / "guarded") <= 4 * 0.5 / 200 + 1e-6


def test_text_and_length_come_together(regmix, table):
    regmix("fit", "--runs", table / "runs.csv", "--estimators", "power_law", "--output", table / "fit")
    for option, given, said in (
        ("--available", table / "text.yaml", "give both"),
        ("--num-tokens", "1B", "give --num-parameters, too, to ask a law over sizes, or --available FILE"),
    ):
        alone = regmix("choose", table / "fit", option, given)
        assert (alone.code, said in alone.err) == (2, True)
    (table / "text.yaml").write_text("{web: 1_000, code: 1_000}")
    lacking = regmix("choose", table / "fit", "--available", table / "text.yaml", "--num-tokens", "1B")
    assert (lacking.code, "domain 'books' has no tokens" in lacking.err) == (2, True)
