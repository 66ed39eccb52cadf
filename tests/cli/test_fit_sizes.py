"""From a table of runs of several sizes to a mixture for a model that nobody trained yet."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """A swarm of 30 at 1M parameters, 12 of its mixtures again at 60M."""
    rng = np.random.default_rng(5)
    swarm = rng.dirichlet([1.0, 1.0, 1.0], 30)
    weights = pd.DataFrame(np.concatenate([swarm, swarm[:12]]), columns=["web", "code", "books"])
    is_large = weights.index >= 30
    losses = 3.0 + 0.4 * (weights[["web", "code"]] + 0.05) ** -0.4 - 0.4 * is_large[:, None]
    losses += rng.normal(0, 0.005, losses.shape)
    sizes = {"model_size": np.where(is_large, 6e7, 1e6), "n_tokens": 1e9}
    weights.assign(**sizes).rename_axis("index").to_csv(tmp_path / "mixtures.csv")
    losses.rename_axis("index").to_csv(tmp_path / "losses.csv")
    return tmp_path


@pytest.mark.usefixtures("drawn_once")
def test_a_mixture_is_chosen_for_a_size_that_was_never_trained(regmix, tables):
    files = ("--mixtures", tables / "mixtures.csv", "--losses", tables / "losses.csv")
    fitted = regmix("fit", *files, "--estimators", "scaled_law", "--output", tables / "fit")
    assert fitted.code == 0
    assert (
        "judged: 12 runs of 60,000,000 parameters on 1,000,000,000 tokens; beside: 30 of other" in fitted.err
    )
    few = ("choice.num_candidates=2000", "choice.top_k=20")
    chosen = regmix("choose", tables / "fit", *few, "--num-parameters", "1B", "--num-tokens", "25B")
    assert chosen.code == 0
    assert "of a new run of 1,000,000,000 parameters on 25,000,000,000 tokens" in chosen.err
    alone = regmix("choose", tables / "fit", "--num-parameters", "1B")
    assert (alone.code, "give both" in alone.err) == (2, True)
    wrong = regmix("choose", tables / "fit", "--num-parameters", "big", "--num-tokens", "1B")
    assert (wrong.code, "'big' is no number above 0" in wrong.err) == (2, True)
    assert regmix("report", tables / "fit").code == 0
    assert (
        "1,000,000,000 parameters on 25,000,000,000 tokens" in (tables / "fit/report/README.md").read_text()
    )


def test_sizes_come_in_pairs(regmix, tables):
    path = tables / "mixtures.csv"
    pd.read_csv(path).drop(columns="n_tokens").to_csv(path, index=False)
    files = ("--mixtures", path, "--losses", tables / "losses.csv")
    outcome = regmix("fit", *files, "--estimators", "scaled_law", "--output", tables / "fit")
    assert (outcome.code, "of sizes there are two, or none" in outcome.err) == (2, True)


def test_runs_of_other_sizes_are_left_out_in_one_line(regmix, tables):
    mixtures = pd.read_csv(tables / "mixtures.csv")
    mixtures.loc[38:, "n_tokens"] = 2e9
    mixtures.to_csv(tables / "mixtures.csv", index=False)
    files = ("--mixtures", tables / "mixtures.csv", "--losses", tables / "losses.csv")
    fitted = regmix("fit", *files, "--estimators", "ridge", "--output", tables / "fit")
    assert fitted.code == 0, fitted.err
    said = [line for line in fitted.err.splitlines() if "no part of the fit" in line]
    assert len(said) == 1
    assert said[0].startswith("8 runs of 60,000,000 parameters on 1,000,000,000 tokens and 4 of ")
    [hint] = [line for line in fitted.err.splitlines() if "of several sizes or lengths" in line]
    assert "--estimators scaled_law fits all of them, --where COLUMN=VALUE takes others" in hint


def test_where_sizes_have_as_many_runs_the_largest_is_fitted(regmix, tables):
    mixtures = pd.read_csv(tables / "mixtures.csv").drop(index=range(12, 30))
    mixtures.to_csv(tables / "mixtures.csv", index=False)
    files = ("--mixtures", tables / "mixtures.csv", "--losses", tables / "losses.csv")
    fitted = regmix("fit", *files, "--estimators", "ridge", "--output", tables / "fit")
    assert "which is of 60,000,000 parameters on 1,000,000,000 tokens" in fitted.err
