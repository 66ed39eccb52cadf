"""Every snippet of every card of every version gives what that version holds."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors.numpy import load

from regmix_hf import MixtureRegressor
from regmix_hf.hub import Publication, publish
from regmix_hf.sharing import push_study

from .finished import score_models, train_models

SNIPPET = re.compile("^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def run_snippets(hub, standin, monkeypatch) -> Callable[[Any, str], dict[str, Any]]:
    """Run all code of a card, and return what it left; `datasets` reads the stand-in's tables meanwhile.

    The real one cannot be pointed elsewhere once it is imported; `test_share` calls it in a process.
    `transformers` keeps a client of its own, which may still ask whatever Hub it was first used with, and
    waits for minutes where that is gone.
    """
    monkeypatch.setattr("transformers.utils.hub._hf_api", None, raising=False)

    def load_dataset(name: str, config: str, *, revision: str, split: str) -> pd.DataFrame:
        repo = standin.repo(name)
        metadata = yaml.safe_load(repo.file(revision, "README.md").decode().split("---\n")[1])
        (file,) = (one["data_files"] for one in metadata["configs"] if one["config_name"] == config)
        assert split == "train"
        return pd.read_parquet(io.BytesIO(repo.file(revision, file)))

    def run(repo: Any, version: str) -> dict[str, Any]:
        names: dict[str, Any] = {}
        snippets = SNIPPET.findall(repo.file(version, "README.md").decode())
        assert snippets
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
            for snippet in snippets:
                exec(snippet, names)
        return names

    return run


def check(repo: Any, version: str, found: dict[str, Any]) -> None:
    """Compare what snippets loaded with the files of the version."""
    kind = repo.repo_id.removeprefix("me/small-")
    if kind == "runs":
        there = pd.read_parquet(io.BytesIO(repo.file(version, "results.parquet")))
        pd.testing.assert_frame_equal(found["results"], there)
        assert len(found["runs"]) == (there["status"] == "ok").sum()
    elif kind == "mixture":
        there = pd.read_parquet(io.BytesIO(repo.file(version, "mixture.parquet")))
        pd.testing.assert_frame_equal(found["mixture"], there)
    elif kind == "regressor":
        there = MixtureRegressor.from_pretrained(repo.repo_id, revision=repo.tags[version])
        np.testing.assert_array_equal(
            found["model"].predict(found["mixture"]), there.predict(found["mixture"])
        )
    else:
        weights = load(repo.file(version, "model.safetensors"))
        loaded = {name: value.numpy() for name, value in found["model"].state_dict().items()}
        for name, value in weights.items():
            np.testing.assert_array_equal(loaded[name], value)
        assert found["tokenizer"].eos_token == "a"


def test_every_snippet_of_every_card_at_every_version_loads_what_the_card_shows(
    hub, standin, new_study, grow, stages, run_snippets
):
    study = new_study("train.num_seeds=1")
    train_models(study)
    score_models(study)
    push_study(study, stages)
    grow(study)
    push_study(study, stages)  # without models, which are of the mixture of before
    train_models(study)
    score_models(study)
    push_study(study, stages)

    ran = {}
    for name, repo in standin.store.repos.items():
        ran[name] = sorted(repo.tags)
        for version in repo.tags:
            check(repo, version, run_snippets(repo, version))
    whole = ["v1", "v2", "v3"]
    assert ran == {
        "me/small-chosen": ["v1", "v3"],
        "me/small-prior": ["v1", "v3"],
        **{f"me/small-{part}": whole for part in ("mixture", "regressor", "runs")},
    }
    contents = {
        repo.file(v, "model.safetensors") for repo in [standin.repo("me/small-chosen")] for v in repo.tags
    }
    assert len(contents) == 2, "both versions hold the same weights, so the test shows nothing"


def test_a_card_names_the_version_it_gets_also_when_that_was_lost_to_somebody_else(
    hub, standin, runs, strike
):
    def overtake() -> None:
        repo = standin.repo(runs.id)
        repo.tags["v1"] = repo.history()[-1].oid

    strike(f"POST /api/datasets/{runs.id}/tag", moment="before", action=overtake)
    card = {"README.md": lambda version: f"---\nlicense: mit\n---\nI am {version}\n".encode()}
    assert publish(hub, [Publication(runs, card, "Add")]).version == "v2"
    assert standin.repo(runs.id).file("v2", "README.md").endswith(b"I am v2\n")


def test_what_is_published_without_a_version_names_the_one_it_will_get(hub, standin, runs):
    card = {"README.md": lambda version: f"---\nlicense: mit\n---\nI am {version}\n".encode()}
    publish(hub, [Publication(runs, card, "Add")], tag=False)
    assert standin.repo(runs.id).file("main", "README.md").endswith(b"I am v1\n")
    head = standin.repo(runs.id).head
    assert publish(hub, [Publication(runs, card, "Add")]).version == "v1"
    assert standin.repo(runs.id).head is head
