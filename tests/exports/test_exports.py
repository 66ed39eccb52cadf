"""What is written for a trainer, read as the trainer does, gives the chosen shares of tokens."""

import json
import random
from collections import Counter
from dataclasses import replace
from io import StringIO

import pandas as pd
import pytest
from ruamel.yaml import YAML

from regmix_hf.errors import MixtureError
from regmix_hf.exports import TRAINERS, render_export
from regmix_hf.exports.mixture import parse_lengths, parse_samples
from regmix_hf.recipe import Domain

CHOSEN = {"books": 0.5, "web": 0.3, "tweets": 0.2}
DRAWS = 20_000


def only_file(mixture, to):
    (text,) = render_export(mixture, to).values()
    return text


def tree(mixture, to):
    return YAML(typ="safe").load(only_file(mixture, to))


def token_shares(drawn_with, tokens_of):
    """Shares of tokens when domains are drawn with these probabilities, as many tokens each time."""
    names = list(drawn_with)
    draws = Counter(random.Random(0).choices(names, weights=[drawn_with[name] for name in names], k=DRAWS))
    tokens = {name: draws[name] * tokens_of[name] for name in names}
    return {name: count / sum(tokens.values()) for name, count in tokens.items()}


def assert_chosen(shares, tokens_of):
    """Equal to the chosen shares within five standard deviations of what is drawn."""
    for name, share in token_shares(shares, tokens_of).items():
        drawn = shares[name] * DRAWS
        assert share == pytest.approx(CHOSEN[name], rel=5 * (3 / drawn) ** 0.5)


BLOCK = dict.fromkeys(CHOSEN, 16)


def megatron_shares(mixture):
    _, _, rest = only_file(mixture, "megatron-lm").partition("--data-path\n")
    words = rest.partition("--split")[0].split()
    return dict(zip(words[1::2], map(float, words[0::2]), strict=True))


def bridge_shares(mixture):
    places, weights = tree(mixture, "megatron-bridge")["dataset"]["blend"]
    return dict(zip(places, weights, strict=True))


def nanotron_shares(mixture):
    (stage,) = tree(mixture, "nanotron")["data_stages"]
    dataset = stage["data"]["dataset"]
    return dict(zip(dataset["dataset_folder"], dataset["dataset_weights"], strict=True))


def olmo_shares(mixture):
    return {s["source_name"]: s["target_ratio"] for s in tree(mixture, "olmo-core")["sources"]}


def streaming_shares(mixture, samples):
    streams = tree(replace(mixture, samples=samples), "streaming")["streams"]
    return {name: stream["proportion"] for name, stream in streams.items()}


def trl_shares(mixture):
    entries = tree(mixture, "trl")["datasets"]
    return {e["data_files"].removeprefix("data/").removesuffix(".jsonl"): e["fraction"] for e in entries}


def llamafactory_shares(mixture):
    files = render_export(mixture, "llamafactory")
    settings = YAML(typ="safe").load(files["llamafactory.yaml"])
    names = settings["dataset"].split(",")
    assert list(json.loads(files["dataset_info.json"])) == names
    return dict(zip(names, map(float, settings["interleave_probs"].split(",")), strict=True))


@pytest.mark.parametrize(
    "shares_of", [megatron_shares, bridge_shares, nanotron_shares, olmo_shares], ids=lambda f: f.__name__
)
def test_trainers_that_draw_blocks_get_the_chosen_shares(mixture, shares_of):
    shares = shares_of(mixture)
    assert shares == pytest.approx(CHOSEN, abs=1e-6)
    assert_chosen(shares, BLOCK)


@pytest.mark.parametrize("shares_of", [trl_shares, llamafactory_shares], ids=lambda f: f.__name__)
def test_trainers_that_draw_documents_get_shares_of_documents(mixture, shares_of):
    shares = shares_of(mixture)
    assert sum(shares.values()) == pytest.approx(1.0, abs=1e-5)
    assert shares["tweets"] > 0.8  # a hundredth of the length of a book, two fifths of its share
    assert_chosen(shares, mixture.tokens_per_document)


def test_what_a_sample_is_decides_what_streaming_is_told(mixture):
    assert_chosen(streaming_shares(mixture, "blocks"), BLOCK)
    assert_chosen(streaming_shares(mixture, "documents"), mixture.tokens_per_document)


def test_what_a_sample_is_is_asked_where_it_is_not_known(mixture):
    with pytest.raises(MixtureError, match="--samples blocks or --samples documents"):
        render_export(mixture, "streaming")


def test_axolotl_reads_as_many_documents_as_give_the_shares(mixture):
    entries = tree(mixture, "axolotl")["datasets"]
    tokens = Counter()
    for entry in entries:
        name = entry["path"].removeprefix("data/").removesuffix(".jsonl")
        count = int(entry["split"].removeprefix("train[:").removesuffix("]"))
        assert count <= mixture.num_documents[name]
        tokens[name] += count * mixture.tokens_per_document[name]
    assert dict(tokens) == {"books": 500_000, "web": 300_000, "tweets": 200_000}
    assert sum(entry["path"] == "data/web.jsonl" for entry in entries) == 6  # 600 documents of 100


def test_the_conversion_is_shown_with_its_numbers(mixture):
    assert "books   0.5000              5,000.0     0.0213" in only_file(mixture, "trl")


def test_trl_is_told_where_the_mixture_ends(mixture):
    # 100 documents of web are 12.9 % of all documents: 775 in all, of 215 tokens on average.
    assert "web ends the mixture after 166,667 tokens" in only_file(mixture, "trl")


def test_a_length_that_is_not_known_is_asked_for(mixture):
    unknown = replace(mixture, tokens_per_document={"books": 5000.0})
    with pytest.raises(MixtureError, match="give --tokens-per-document web=NUMBER"):
        render_export(unknown, "trl")


def test_olmo_core_may_repeat_as_often_as_the_run_did(mixture):
    sources = {s["source_name"]: s for s in tree(mixture, "olmo-core")["sources"]}
    assert sources["web"]["max_repetition_ratio"] == 6.0
    assert sources["books"]["max_repetition_ratio"] == 1.0


def test_a_location_names_where_tokenized_files_lie(mixture):
    placed = replace(mixture, location="/data/{domain}_text_document")
    assert "/data/web_text_document" in megatron_shares(placed)
    with pytest.raises(MixtureError, match="the same for every domain"):
        render_export(replace(mixture, location="/data"), "nanotron")


def test_the_table_holds_both_shares(mixture):
    table = pd.read_csv(StringIO(only_file(mixture, "csv"))).set_index("domain")
    assert table["weight"].to_dict() == CHOSEN
    assert table["share_of_documents"].to_dict() == pytest.approx(mixture.document_shares)


@pytest.mark.parametrize("to", TRAINERS)
def test_a_domain_without_a_share_is_in_no_export(mixture, to):
    files = render_export(replace(mixture, samples="blocks"), to)
    assert not any("unused" in text for text in files.values())


@pytest.mark.parametrize("to", TRAINERS)
def test_weights_alone_are_exported_or_what_is_missing_is_said(mixture, to):
    bare = replace(
        mixture, domains={}, tokens_per_document={}, num_documents={}, context_length=None, tokenizer=None
    )
    bare = replace(bare, num_train_tokens=None)
    if to in ("yaml", "json", "csv", "megatron-lm", "megatron-bridge", "olmo-core", "nanotron", "litgpt"):
        assert render_export(bare, to)
    else:
        with pytest.raises(MixtureError, match=r"give|say|export"):
            render_export(bare, to)


@pytest.mark.parametrize("to", ["trl", "axolotl", "llamafactory", "torchtitan"])
def test_a_part_of_a_data_set_is_not_exported_as_the_whole(mixture, to):
    picked = {**mixture.domains, "web": Domain(path="json", data_files="all.jsonl", filter={"kind": "web"})}
    with pytest.raises(MixtureError, match="filtered part"):
        render_export(replace(mixture, domains=picked), to)


def test_documents_are_told_as_they_were_counted(mixture, tmp_path):
    texts = {
        **mixture.domains,
        "books": Domain(path="text", data_files="data/books.jsonl"),
        "web": Domain(path="text", data_files="data/web.jsonl", sample_by="line"),
        "tweets": Domain(path="folder", data_files="data/tweets.jsonl", sample_by="paragraph"),
    }
    entries = tree(replace(mixture, domains=texts), "trl")["datasets"]
    assert [entry["sample_by"] for entry in entries] == ["document", "line", "paragraph"]
    (tmp_path / "a.txt").touch()
    folder = {"books": Domain(path=str(tmp_path)), "web": Domain(path="someone/web")}
    of_folder = replace(mixture, domains=folder)
    assert of_folder.load_arguments("books")["sample_by"] == "document"
    assert "sample_by" not in of_folder.load_arguments("web")


def test_text_that_only_this_package_reads_is_refused(mixture):
    built_in = {**mixture.domains, "web": Domain(path="python_environment", name="docstrings")}
    with pytest.raises(MixtureError, match="Python environment"):
        render_export(replace(mixture, domains=built_in), "trl")


def test_an_unknown_trainer_is_named_with_the_nearest(mixture):
    with pytest.raises(MixtureError, match="did you mean 'megatron-lm'"):
        render_export(mixture, "megatronlm")


@pytest.mark.parametrize("text", ["web", "web=", "web=-1", "web=0", "web=nan", "web=1=2"])
def test_lengths_that_are_none_are_refused(text):
    with pytest.raises(MixtureError, match="is no length"):
        parse_lengths([text])


def test_kinds_of_samples_that_are_none_are_refused():
    assert parse_samples("blocks") == "blocks"
    with pytest.raises(MixtureError, match="blocks or documents"):
        parse_samples("rows")


@pytest.mark.parametrize("to", ["datasets", "torchtitan", "litgpt"])
def test_programs_compile(mixture, to):
    compile(only_file(mixture, to), to, "exec")
