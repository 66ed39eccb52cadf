"""Rounds in which a choice was tried, and runs of several sizes, go to the Hub and come back whole."""

from __future__ import annotations

import io
import json

import pandas as pd

from regmix_hf import load_runs
from regmix_hf.files import read_yaml
from regmix_hf.mixtures.table import read_mixtures
from regmix_hf.pipeline import status
from regmix_hf.progress import Silent
from regmix_hf.sharing import pull_study, push_study
from regmix_hf.stages import choose, fit, sample
from regmix_hf.study.rounds import rounds_in

from .finished import MODEL, train_proxies

SWARM = {"model": MODEL, "num_train_tokens": 204_800, "scale": "0.2M"}
LARGE = {"scale": "0.8M", "model": {**MODEL, "hidden_size": 32}, "num_mixtures": 6}


def test_a_choice_that_was_tried_is_published_and_pulled_with_its_rounds(hub, new_study, stages, tmp_path):
    study = new_study("choice.num_confirm=2", "choice.num_rounds=1")
    choose.run(study, Silent())
    train_proxies(study)
    fit.run(study, Silent())
    choose.run(study, Silent())
    [tried] = rounds_in(read_yaml(study.mixture), study.mixture)
    assert tried.chosen is not None
    push_study(study, stages, only=["runs", "regressor", "mixture"])

    pulled = pull_study("me/small", stages, tmp_path / "pulled").study
    table = read_mixtures(pulled.mixtures)
    pd.testing.assert_frame_equal(table, read_mixtures(study.mixtures))
    assert table["origin"].value_counts().to_dict() == {"sampled": 28, "confirm": 2}
    assert rounds_in(read_yaml(pulled.mixture), pulled.mixture) == [tried]
    standings = {stage.verb: stage.standing for stage in status(pulled)}
    assert not any(standings[verb].changes for verb in ("sample", "proxies", "fit", "choose"))
    assert choose.most_to_try(pulled) == 0  # nobody trains proxies for what was pulled


def test_runs_of_a_further_size_are_published_beside_those_that_are_there(hub, standin, new_study, stages):
    push_study(new_study(folder="alone"), stages, only=["runs"])
    ladder = new_study("proxy=null", f"proxies={json.dumps([SWARM, LARGE])}")
    sample.run(ladder, Silent())
    train_proxies(ladder)
    push_study(ladder, stages, only=["runs"])
    push_study(ladder, stages, only=["runs"])  # with runs of both sizes there
    head = standin.repo("me/small-runs")
    mixtures = pd.read_parquet(io.BytesIO(head.file("main", "mixtures.parquet")))
    assert mixtures["rung"].value_counts().to_dict() == {0: 28, 1: 6}
    runs = load_runs("me/small-runs@v2")
    assert runs.scale.value_counts().to_dict() == {
        "0.2M on 204,800 tokens": 27,  # one diverged
        "0.8M on 204,800 tokens": 6,
    }
