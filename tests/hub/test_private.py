"""What says something of its publisher's machine, network or keys is found before anything is published."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from regmix_hf.errors import HubError
from regmix_hf.files import read_json, read_parquet, write_json, write_parquet
from regmix_hf.hub import Repository
from regmix_hf.hub.privacy import require_public_words
from regmix_hf.sharing import push_study
from regmix_hf.stages import train

RECIPES = Path(__file__).parents[2] / "recipes"
PRIVATE = {
    "/home/me/letters": "a path of this machine, '/home/me/letters'",
    "/letters": "a path of this machine, '/letters'",
    "~/data/letters": "a path of this machine",
    r"C:\Users\me\letters": "a path of this machine",
    "file:///srv/letters": "a path of this machine",
    "https://example.org/letters.jsonl?token=abc123": "an address that is signed",
    "https://store.example.org/l?X-Amz-Credential=me&X-Amz-Signature=0abc": "an address that is signed",
    "https://blob.example.org/l.parquet?sv=2022&sig=abc%3D": "an address that is signed",
    "https://me:pass@example.org/letters": "what looks like a token or a password in an address",
    "https://example.org/?x=hf_" + "a1" * 17: "what looks like a token or a password in an address",
    "http://localhost:8000/letters": "the address of a machine that only some can reach",
    "http://10.0.0.7/letters": "the address of a machine that only some can reach",
    "http://nas/letters": "the address of a machine that only some can reach",
    "https://data.corp/letters": "the address of a machine that only some can reach",
}
HARMLESS = [
    "data/web",
    "../web/*.jsonl",
    "https://huggingface.co/datasets/a/b/resolve/main/x.jsonl.zst",
    "https://example.org/a?download=true&page=3",
    "s3://bucket/key.parquet",
    "hf://datasets/a/b@main/x.parquet",
    "tokens drawn / tokens it has, and/or 1/2/3, `weight/<domain>`, km/h",
    '{"eos_token": "</s>", "chat_template": "[INST] {{ x }} [/INST]"}',
    "[regmix](https://arxiv.org/abs/2407.01492)\n</details>\n![a](effects.png)",
    "torch 2.13.0+cu130, NVIDIA H100 80GB HBM3, 4e-4, 12:30",
]


@pytest.mark.parametrize("words", HARMLESS)
def test_words_that_are_for_everybody_pass(words):
    require_public_words(words, "it")


@pytest.mark.parametrize("file", sorted(RECIPES.rglob("*.yaml")), ids=lambda file: file.parent.name)
def test_the_recipes_of_this_repository_could_be_published(file):
    require_public_words(file.read_text(), str(file))


@pytest.mark.parametrize("place", ["path: {}", 'data_files: "{}"', "- {}", "[a]({}) is", '{{"x": "{}"}}'])
@pytest.mark.parametrize("words", PRIVATE)
def test_private_words_are_found_wherever_they_stand(words, place):
    if words.startswith("/letters") and place.startswith("[a]"):
        pytest.skip("in running text one part after a slash is no path")
    with pytest.raises(HubError, match="nothing was published") as caught:
        require_public_words(place.format(words.replace("\\", "\\\\") if "x" in place[:5] else words), "it")
    assert PRIVATE[words] in str(caught.value)


def test_the_names_of_this_machine_and_of_the_hub_it_uses_are_found(hub, standin, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "gpu-node-17")
    with pytest.raises(HubError, match="the name of this machine, 'gpu-node-17'"):
        require_public_words("logs of gpu-node-17", "it")
    with pytest.raises(HubError, match="the address of"):
        require_public_words(f"see {standin.url.removeprefix('http://')}", "it")


@pytest.mark.parametrize("words", ["/home/me/letters", "https://example.org/l?token=abc", "TOKEN"])
def test_nothing_at_all_is_published_of_a_study_with_private_words(
    hub, standin, new_study, stages, words, tokens
):
    words = f"https://host.org/{tokens['writer']}/letters" if words == "TOKEN" else words
    study = new_study(f"train.training_args.logging_dir={words}")
    study.finish(train.STAGE)
    with pytest.raises(HubError, match="nothing was published") as caught:
        push_study(study, stages)
    assert standin.store.repos == {}
    assert tokens["writer"] not in str(caught.value)
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize("part", ["runs", "model", "mixture"])
def test_results_and_models_are_looked_at_too(hub, standin, new_study, stages, part):
    study = new_study()
    if part == "model":
        config = study.models / "chosen" / "config.json"
        write_json(config, {**read_json(config), "_name_or_path": "/scratch/me/small"})
    else:
        file = {"runs": study.proxies, "mixture": study.models}[part] / "results.parquet"
        write_parquet(file, read_parquet(file).assign(versions="torch 2 from file:///opt/wheels/torch.whl"))
        for stage in stages:
            if study.marker(stage).exists():
                study.finish(stage)
    with pytest.raises(HubError, match="a path of this machine"):
        push_study(study, stages)
    assert standin.store.repos == {}


def test_a_folder_is_never_called_a_data_set_on_the_hub(
    hub, standin, new_study, stages, monkeypatch, tmp_path
):
    """Neither is one that is gone, nor a repository that only its owner sees."""
    for name, private in (("my-org/books", False), ("my-org/programs", True)):
        hub.find_or_create(Repository("dataset", f"me/{name.split('/')[1]}"), private=private)
        repo = standin.store.repos.pop(f"me/{name.split('/')[1]}")
        standin.store.repos[name] = repo
    push_study(new_study(), stages)
    card = standin.repo("me/small-runs").file("v1", "README.md").decode()
    metadata = card.split("---")[1]
    assert "source_datasets:\n- my-org/books\n" in metadata
    assert "programs" not in metadata
    assert "files of its publisher (`my-org/programs`)" in card
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-org" / "books").mkdir(parents=True)
    push_study(new_study(folder="again"), stages)
    assert "my-org" not in standin.repo("me/small-runs").file("v2", "README.md").decode().split("---")[1]
