"""A regressor by itself is a `ModelHubMixin`, with this project's guarantees in the place of the mixin's."""

from __future__ import annotations

import json
import struct

import numpy as np
import pandas as pd
import pytest
from huggingface_hub import ModelCard, ModelHubMixin

from regmix_hf import MixtureRegressor
from regmix_hf.errors import HubError, RegmixError, RegressionError


@pytest.fixture
def fitted() -> MixtureRegressor:
    weights = pd.DataFrame(np.random.default_rng(0).dirichlet([1, 1, 1], 40), columns=["a", "b", "c"])
    return MixtureRegressor("ridge").fit(weights, pd.DataFrame({"a": 3 - weights["a"], "b": weights["b"]}))


def test_what_the_mixin_offers_works_on_it(hub, standin, fitted, tmp_path):
    assert isinstance(fitted, ModelHubMixin)
    assert fitted.save_pretrained(tmp_path / "one") is None
    address = fitted.save_pretrained(tmp_path / "two", push_to_hub=True, repo_id="me/one", private=True)

    assert address == f"{standin.url}/me/one/tree/v1"
    assert standin.repo("me/one").private
    card = ModelCard.load("me/one")
    assert card.data.library_name == "regmix_hf"
    assert card.data.tags == ["data-mixture", "model_hub_mixin", "regmix"]
    assert "`ridge` regressor of 2 targets" in card.text
    assert 'from_pretrained("me/one", revision="v1")' in card.text
    there = MixtureRegressor.from_pretrained("me/one", revision="v1", force_download=True, token=None)
    here = MixtureRegressor.from_pretrained(pretrained_model_name_or_path=tmp_path / "one")
    mixture = np.array([[0.2, 0.3, 0.5]])
    np.testing.assert_array_equal(there.predict(mixture), here.predict(mixture))


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("moment", ["lost_reply", "dropped_body"])
@pytest.mark.parametrize("request_", ["repos/create", "/commit/", "/tag/"])
def test_a_lost_reply_makes_no_second_commit(hub, standin, fitted, strike, request_, moment):
    strike(f"POST .*{request_}", moment=moment)
    assert fitted.push_to_hub("me/one", commit_message="Mine").endswith("/v1")
    assert [commit.title for commit in standin.repo("me/one").history()] == ["Mine", "initial commit"]
    assert standin.repo("me/one").tags == {"v1": standin.repo("me/one").head.oid}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"token": "hf_mine"}, "token is not supported here: the token is that of"),
        ({"token": False}, "token is not supported"),
        ({"branch": "next"}, "tag on the main branch"),
        ({"create_pr": True}, "tag on the main branch"),
        ({"allow_patterns": "*.json"}, "holds all files"),
        ({"config": {}}, "that of the fit"),
    ],
)
def test_what_would_break_a_promise_is_refused_by_name(hub, standin, fitted, options, message):
    with pytest.raises(HubError, match=message) as caught:
        fitted.push_to_hub("me/one", **options)
    assert "hf_mine" not in str(caught.value)
    assert standin.log == []


def test_nothing_that_is_asked_for_is_passed_over(fitted, tmp_path):
    with pytest.raises(HubError, match="name the folder"):
        MixtureRegressor.from_pretrained("me/one", local_files_only=True)
    with pytest.raises(TypeError, match="unexpected option 'trust_remote_code'"):
        MixtureRegressor.from_pretrained("me/one", trust_remote_code=True)
    with pytest.raises(TypeError, match="unexpected option 'private'"):
        fitted.save_pretrained(tmp_path, private=True)
    with pytest.raises(HubError, match="needs a repo_id"):
        fitted.save_pretrained(tmp_path, push_to_hub=True)


def test_nothing_is_loaded_before_the_names_and_sizes_of_all_files_are_known(hub, standin, fitted):
    fitted.push_to_hub("me/one")
    repo = standin.repo("me/one")
    blob = repo.head.files["config.json"]
    repo.add_commit(
        "main", {**repo.head.files, "config.json": type(blob)(b" " * 1_000_001, True)}, title="", author="me"
    )
    standin.log.clear()
    with pytest.raises(HubError, match=r"config.json has 1,000,001 bytes"):
        MixtureRegressor.from_pretrained("me/one")
    assert not standin.requests("/resolve/")


def header(**tensors: object) -> bytes:
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text


LIES = {
    "a header longer than the file": struct.pack("<Q", 1 << 60) + b"{}",
    "a header of no JSON": struct.pack("<Q", 4) + b"{{{{",
    "a tensor beyond the end": header(losses={"dtype": "F64", "shape": [40, 2], "data_offsets": [0, 640]}),
    "a shape that is not its bytes": header(
        losses={"dtype": "F64", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 8]}
    )
    + b"8 bytes.",
    "two tensors of the same bytes": header(
        losses={"dtype": "F64", "shape": [1], "data_offsets": [0, 8]},
        predicted={"dtype": "F64", "shape": [1], "data_offsets": [0, 8]},
    )
    + b"8 bytes.",
    "bytes of no tensor": header(losses={"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}) + b"8" * 99,
}


@pytest.mark.parametrize("file", ["out_of_fold.safetensors", "estimator.safetensors"])
@pytest.mark.parametrize("lie", LIES)
def test_a_safetensors_header_that_lies_is_refused(fitted, tmp_path, file, lie):
    fitted.save_pretrained(tmp_path)
    (tmp_path / file).write_bytes(LIES[lie])
    with pytest.raises(RegressionError, match="cannot be read"):
        MixtureRegressor.from_pretrained(tmp_path)


def test_files_too_large_to_be_a_regressor_are_not_read(fitted, tmp_path):
    fitted.save_pretrained(tmp_path)
    with (tmp_path / "estimator-x.safetensors").open("wb") as sparse:
        sparse.truncate(600_000_000)
    with pytest.raises(RegmixError, match=r"600,000,[0-9]+ bytes; at most 500,000,000 are read"):
        MixtureRegressor.from_pretrained(tmp_path)
