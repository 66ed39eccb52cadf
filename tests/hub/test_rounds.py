"""A study of two sizes of proxies, whose choice was tried, goes to the Hub and comes back whole."""

from __future__ import annotations

import json

import pandas as pd

from regmix_hf.files import read_yaml
from regmix_hf.mixtures.table import read_mixtures
from regmix_hf.pipeline import status
from regmix_hf.progress import Silent
from regmix_hf.recipe import load_recipe
from regmix_hf.sharing import pull_study, push_study
from regmix_hf.stages import choose, fit, sample
from regmix_hf.study.rounds import rounds_in

from .finished import MODEL, train_proxies

LARGE = {"scale": "0.8M", "model": {**MODEL, "hidden_size": 32}, "num_mixtures": 10}
SWARM = {"model": MODEL, "num_train_tokens": 204_800, "scale": "0.2M"}


def test_rounds_and_runs_of_all_sizes_are_published_and_pulled(hub, new_study, stages, tmp_path):
    study = new_study(
        "proxy=null",
        f"proxies={json.dumps([SWARM, LARGE])}",
        *("choice.num_confirm=2", "choice.num_rounds=1"),
    )
    sample.run(study, Silent())
    train_proxies(study)
    fit.run(study, Silent())
    choose.run(study, Silent())
    push_study(study, stages, only=["runs"])
    train_proxies(study)  # those that try the choice
    fit.run(study, Silent())
    choose.run(study, Silent())
    [tried] = rounds_in(read_yaml(study.mixture), study.mixture)
    assert tried.chosen is not None
    push = push_study(study, stages, only=["runs", "regressor", "mixture"])
    assert push.version == "v2"

    pulled = pull_study("me/small", stages, tmp_path / "pulled").study
    assert load_recipe(tmp_path / "pulled").proxies == pulled.recipe.proxies
    assert pulled.recipe.proxies == study.recipe.proxies
    for name in ("2-mixtures/mixtures.parquet", "3-proxies/results.parquet"):
        pd.testing.assert_frame_equal(*(pd.read_parquet(one.root / name) for one in (pulled, study)))
    table = read_mixtures(pulled.mixtures)
    assert table.groupby("rung")["origin"].value_counts().to_dict() == {
        **{(0, "sampled"): 28, (1, "ladder"): 10, (1, "confirm"): 2},
    }
    assert rounds_in(read_yaml(pulled.mixture), pulled.mixture) == [tried]
    states = {stage.verb: stage.standing for stage in status(pulled)}
    assert all(not states[verb].changes for verb in ("sample", "proxies", "fit", "choose"))
    before = pulled.mixtures.read_bytes()
    choose.run(pulled, Silent())
    assert pulled.mixtures.read_bytes() == before  # nobody trains proxies for what was pulled
    assert rounds_in(read_yaml(pulled.mixture), pulled.mixture) == [tried]
