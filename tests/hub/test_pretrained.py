"""A model to start from that lies on the Hub: looked at, fetched at its commit, and refused when gated."""

import json

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError
from huggingface_hub.utils import httpx

from regmix_hf.errors import HubError, TrainingError
from regmix_hf.recipe import Model
from regmix_hf.training.pretrained import fetch_checkpoint, hash_weights, open_source, read_shape

from .standin.store import Blob

SHAPE = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 16,
    "num_attention_heads": 2,
    "vocab_size": 300,
}


@pytest.fixture
def published(standin):
    """`team/base`: a model in two parts, a pickle of it beside them, and a tag."""
    parts = {f"model-0000{k}-of-00002.safetensors": bytes([k]) * 1000 for k in (1, 2)}
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    files = {
        "config.json": json.dumps(SHAPE).encode(),
        "model.safetensors.index.json": json.dumps(index).encode(),
        "pytorch_model.bin": b"pickle",
        "original/consolidated.safetensors": b"no",
        **parts,
    }
    repo = standin.store.create("model", "team/base", private=False, author="team")
    blobs = {name: Blob(content, large=name.endswith("tensors")) for name, content in files.items()}
    repo.add_commit("main", {**repo.head.files, **blobs}, title="Upload", author="team")
    return repo


@pytest.mark.usefixtures("hub", "published")
def test_the_weights_of_a_repository_are_fetched_and_nothing_else(tmp_path):
    source = open_source(Model(pretrained="team/base"))
    keys = read_shape(source, 16)
    assert (keys["model_type"], keys["hidden_size"]) == ("llama", 16)
    facts = fetch_checkpoint(source, keys, tmp_path)
    folder = tmp_path / ".checkpoints" / facts.folder
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "model.safetensors.index.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    }
    assert hash_weights(folder) == facts.sha256
    assert [path.name for path in folder.parent.iterdir()] == [facts.folder]


@pytest.mark.usefixtures("hub", "published")
def test_a_revision_that_is_none_and_a_repository_that_is_none_are_named():
    with pytest.raises(HubError, match="has no such revision"):
        open_source(Model(pretrained="team/base", revision="v9"))
    with pytest.raises(HubError, match="does not exist"):
        open_source(Model(pretrained="team/bass"))
    with pytest.raises(TrainingError, match="no NAMESPACE/NAME on the Hub"):
        open_source(Model(pretrained="bass"))


@pytest.mark.usefixtures("hub", "published")
def test_a_gated_model_says_where_to_accept_its_terms(monkeypatch):
    def refuse(*_, **__):
        request = httpx.Request("GET", "http://hub/team/base")
        raise GatedRepoError("403", response=httpx.Response(403, request=request))

    source = open_source(Model(pretrained="team/base"))
    monkeypatch.setattr(HfApi, "hf_hub_download", refuse)
    with pytest.raises(HubError, match="is gated") as caught:
        read_shape(source, 16)
    assert "accept them on its page" in caught.value.hint
