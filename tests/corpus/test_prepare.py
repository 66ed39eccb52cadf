"""Text becomes blocks: nothing is lost, nothing is invented, and nothing is done twice."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regmix_hf.corpus.corpus import Corpus
from regmix_hf.corpus.holdout import document_hash, hash_below
from regmix_hf.corpus.prepare import prepare_corpus
from regmix_hf.errors import DataError, RecipeError, StudyError
from regmix_hf.recipe import Recipe
from regmix_hf.study.corpus_facts import CorpusFacts
from tests.held_out import held_out_texts

MakeRecipe = Callable[..., Recipe]
MakeDomain = Callable[..., dict[str, Any]]
Sentences = Callable[..., list[str]]


def blocks_of(corpus: Corpus, domain: str, split: Any = "train") -> np.ndarray:
    return np.array(corpus.blocks(domain, split)["input_ids"])


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file of a finished corpus that others read."""
    patterns = ("*.arrow", "validation.jsonl", "corpus.json", "tokenizer.json")
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for pattern in patterns
        for path in folder.rglob(pattern)
    }


def as_tokens(corpus: Corpus, texts: list[str]) -> list[int]:
    tokenizer = corpus.tokenizer()
    return [
        token
        for text in texts
        for token in [*tokenizer.encode(text, add_special_tokens=False), corpus.facts.eos_token_id]
    ]


def test_counts_are_those_of_the_documents(
    tmp_path: Path, make_recipe: MakeRecipe, jsonl_domain: MakeDomain, sentences: Sentences
) -> None:
    texts = sentences(200)
    facts = prepare_corpus(make_recipe({"a": jsonl_domain("a", texts)}), tmp_path / "corpus")
    held_out = [text for text in texts if document_hash(text.encode()) < hash_below(0.2)]
    trained = [text for text in texts if text not in held_out]
    for split, documents in ((facts.domains["a"].train, trained), (facts.domains["a"].validation, held_out)):
        assert split is not None
        num_bytes = sum(len(text) for text in documents)
        assert (split.num_documents, split.num_bytes) == (len(documents), num_bytes)
        assert split.num_tokens == num_bytes + len(documents)  # a token is a byte here, and EOS is one more
        assert split.num_blocks == split.num_tokens // 32
    assert 20 < len(held_out) < 60
    letters = Counter("".join(text + "\0" for text in held_out))  # every document ends with one EOS
    shares = np.array(list(letters.values())) / letters.total()
    assert facts.token_entropy == {"a": pytest.approx(-(shares * np.log(shares)).sum())}
    assert facts.domains["a"].train.token_entropy is None
    assert CorpusFacts.load(tmp_path / "corpus") == facts


def test_blocks_are_the_packed_documents_in_another_order(
    tmp_path: Path, make_recipe: MakeRecipe, jsonl_domain: MakeDomain, sentences: Sentences
) -> None:
    texts = sentences(700, words=5)  # more rows than are taken at once
    prepare_corpus(make_recipe({"a": jsonl_domain("a", texts)}), tmp_path)
    corpus = Corpus(tmp_path)
    trained = [text for text in texts if document_hash(text.encode()) >= hash_below(0.2)]
    tokens = as_tokens(corpus, trained)
    packed = np.array(tokens[: len(tokens) // 32 * 32]).reshape(-1, 32)
    blocks = blocks_of(corpus, "a")
    assert not np.array_equal(blocks, packed)
    assert sorted(map(tuple, blocks)) == sorted(map(tuple, packed))


def test_held_out_documents_and_blocks_agree(
    tmp_path: Path, make_recipe: MakeRecipe, jsonl_domain: MakeDomain, sentences: Sentences
) -> None:
    texts = sentences(300, prefix="ça ")
    prepare_corpus(make_recipe({"a": jsonl_domain("a", texts)}), tmp_path)
    corpus = Corpus(tmp_path)
    held_out = held_out_texts(tmp_path, "a")
    assert set(held_out) == {text for text in texts if document_hash(text.encode()) < hash_below(0.2)}
    tokens = as_tokens(corpus, held_out)
    packed = np.array(tokens[: len(tokens) // 32 * 32]).reshape(-1, 32)
    blocks = blocks_of(corpus, "a", "validation")
    assert sorted(map(tuple, blocks)) == sorted(map(tuple, packed))


def test_token_shares_are_kept_when_document_lengths_differ(
    tmp_path: Path, make_recipe: MakeRecipe, jsonl_domain: MakeDomain, sentences: Sentences
) -> None:
    domains = {
        "long": jsonl_domain("long", sentences(30, words=400)),
        "short": jsonl_domain("short", sentences(3000, words=4)),
    }
    facts = prepare_corpus(make_recipe(domains), tmp_path).domains
    for name in domains:
        split = facts[name].train
        assert split is not None
        assert 0 <= split.num_tokens - 32 * split.num_blocks < 32
        assert len(Corpus(tmp_path).blocks(name, "train")) == split.num_blocks


@pytest.mark.processes
def test_number_of_processes_changes_no_byte(
    tmp_path: Path, make_recipe: MakeRecipe, jsonl_domain: MakeDomain, sentences: Sentences
) -> None:
    domains = {
        "a": jsonl_domain("a", sentences(2000)),
        "b": jsonl_domain("b", sentences(40, words=2000), streaming=False),
    }
    for num_proc in (1, 2):
        recipe = make_recipe(domains, corpus={"num_proc": num_proc}, tokenizer={"train": {"vocab_size": 300}})
        prepare_corpus(recipe, tmp_path / str(num_proc))
    assert files_of(tmp_path / "1") == files_of(tmp_path / "2")
    assert len(files_of(tmp_path / "1")) == 8


def test_text_of_the_eos_token_in_a_document_is_text(
    tmp_path: Path, make_recipe: MakeRecipe, jsonl_domain: MakeDomain, sentences: Sentences
) -> None:
    texts = [f"{text} <|endoftext|><|endoftext|>" for text in sentences(100)]
    facts = prepare_corpus(make_recipe({"a": jsonl_domain("a", texts)}), tmp_path).domains["a"]
    corpus = Corpus(tmp_path)
    assert corpus.tokenizer().eos_token == "<|endoftext|>"
    blocks = blocks_of(corpus, "a")
    assert facts.train is not None
    assert (blocks == corpus.facts.eos_token_id).sum() <= facts.train.num_documents
    assert "<|endoftext|><|endoftext|>" in corpus.tokenizer().decode(blocks.ravel())


def test_ids_take_the_smallest_integer_type(
    tmp_path: Path, make_recipe: MakeRecipe, jsonl_domain: MakeDomain, sentences: Sentences
) -> None:
    recipe = make_recipe({"a": jsonl_domain("a", sentences(100))})
    prepare_corpus(recipe, tmp_path / "small")
    assert Corpus(tmp_path / "small").blocks("a", "train").features["input_ids"].feature.dtype == "uint16"
    assert Corpus(tmp_path / "small").blocks("a", "train").features["input_ids"].length == 32
    shutil.copytree(tmp_path / "small" / "tokenizer", tmp_path / "tokenizer")
    tokenizer = json.loads((tmp_path / "tokenizer" / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"].update({f"never {i}": 257 + i for i in range(1 << 16)})
    (tmp_path / "tokenizer" / "tokenizer.json").write_text(json.dumps(tokenizer))
    prepare_corpus(recipe.model_copy(update={"tokenizer": str(tmp_path / "tokenizer")}), tmp_path / "large")
    corpus = Corpus(tmp_path / "large")
    assert corpus.blocks("a", "train").features["input_ids"].feature.dtype == "uint32"
    small, large = CorpusFacts.load(tmp_path / "small").domains, corpus.facts.domains
    assert small == large  # the hash of the content does not depend on the type on disk


def test_sha256_is_that_of_the_ids_as_int64(
    tmp_path: Path, make_recipe: MakeRecipe, jsonl_domain: MakeDomain, sentences: Sentences
) -> None:
    import hashlib

    facts = prepare_corpus(make_recipe({"a": jsonl_domain("a", sentences(100))}), tmp_path)
    ids = blocks_of(Corpus(tmp_path), "a").astype("<i8")
    assert facts.domains["a"].train is not None
    assert facts.domains["a"].train.sha256 == hashlib.sha256(ids.tobytes()).hexdigest()


def test_seed_orders_the_blocks(
    tmp_path: Path, make_recipe: MakeRecipe, jsonl_domain: MakeDomain, sentences: Sentences
) -> None:
    domains = {name: jsonl_domain("same", sentences(200)) for name in ("a", "b")}
    orders = {}
    for seed in (0, 1):
        prepare_corpus(make_recipe(domains, seed=seed), tmp_path / str(seed))
        orders.update({(seed, name): blocks_of(Corpus(tmp_path / str(seed)), name) for name in domains})
    rows = [sorted(map(tuple, blocks)) for blocks in orders.values()]
    assert all(other == rows[0] for other in rows)
    assert len({blocks.tobytes() for blocks in orders.values()}) == 4


def test_validation_only_domain_has_nothing_to_train_on(
    tmp_path: Path, make_recipe: MakeRecipe, jsonl_domain: MakeDomain, sentences: Sentences
) -> None:
    texts = sentences(50, prefix="b")
    domains = {"a": jsonl_domain("a", sentences(100)), "b": jsonl_domain("b", texts, validation_only=True)}
    facts = prepare_corpus(make_recipe(domains), tmp_path).domains["b"]
    assert facts.train is None
    assert facts.validation.num_documents == 50
    assert not (tmp_path / "b" / "train.arrow").exists()
    assert sorted(held_out_texts(tmp_path, "b")) == sorted(texts)
    with pytest.raises(StudyError, match="no train blocks of a domain 'b'"):
        Corpus(tmp_path).blocks("b", "train")


def test_second_call_does_nothing(
    tmp_path: Path, make_recipe: MakeRecipe, jsonl_domain: MakeDomain, sentences: Sentences
) -> None:
    recipe = make_recipe({"a": jsonl_domain("a", sentences(100))})
    facts = prepare_corpus(recipe, tmp_path / "corpus")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "corpus" / "a").iterdir()}
    assert prepare_corpus(recipe, tmp_path / "corpus") == facts
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "corpus" / "a").iterdir()} == before


@pytest.mark.parametrize(
    "change",
    [
        {"context_length": 16},
        {"seed": 5},
        {"corpus": {"num_proc": 1, "validation_fraction": 0.4}},
        {"corpus": {"num_proc": 1, "validation_fraction": 0.2, "max_validation_tokens": 64}},
        {"tokenizer": {"train": {"vocab_size": 290}}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_changed_recipe_gives_what_a_fresh_folder_gives(
    tmp_path: Path,
    make_recipe: MakeRecipe,
    jsonl_domain: MakeDomain,
    sentences: Sentences,
    change: dict[str, Any],
) -> None:
    domains = {"a": jsonl_domain("a", sentences(200)), "b": jsonl_domain("b", sentences(90, words=30))}
    prepare_corpus(make_recipe(domains), tmp_path / "changed")
    before = files_of(tmp_path / "changed")
    prepare_corpus(make_recipe(domains, **change), tmp_path / "changed")
    prepare_corpus(make_recipe(domains, **change), tmp_path / "fresh")
    assert files_of(tmp_path / "changed") == files_of(tmp_path / "fresh")
    assert files_of(tmp_path / "changed") != before


def test_only_the_domain_whose_source_changed_is_done_again(
    tmp_path: Path, make_recipe: MakeRecipe, jsonl_domain: MakeDomain, sentences: Sentences
) -> None:
    (tmp_path / "first").mkdir()
    tokenizer = make_recipe({"a": jsonl_domain("a", sentences(200))})
    prepare_corpus(tokenizer, tmp_path / "first")
    keys = {"tokenizer": str(tmp_path / "first" / "tokenizer")}
    domains = {"a": jsonl_domain("a", sentences(200)), "b": jsonl_domain("b", sentences(200))}
    prepare_corpus(make_recipe(domains, **keys), tmp_path / "corpus")
    times = {name: (tmp_path / "corpus" / name / "train.arrow").stat().st_mtime_ns for name in domains}
    domains["b"] = jsonl_domain("b", sentences(250))
    facts = prepare_corpus(make_recipe(domains, **keys), tmp_path / "corpus").domains["b"]
    assert facts.train is not None
    assert facts.train.num_documents + facts.validation.num_documents == 250
    now = {name: (tmp_path / "corpus" / name / "train.arrow").stat().st_mtime_ns for name in domains}
    assert now["a"] == times["a"]
    assert now["b"] != times["b"]


def test_domains_that_switch_between_split_and_carving_do_not_mix(
    tmp_path: Path,
    make_recipe: MakeRecipe,
    jsonl_domain: MakeDomain,
    write_jsonl: Callable[..., Path],
    sentences: Sentences,
) -> None:
    train = str(write_jsonl("train.jsonl", sentences(200)))
    other = str(write_jsonl("other.jsonl", sentences(80, prefix="v")))
    own = {
        "path": "json",
        "data_files": {"train": train, "validation": other},
        "validation_split": "validation",
    }
    carved = {"path": "json", "data_files": train}
    for number, domain in enumerate((own, carved, own, carved)):
        prepare_corpus(make_recipe({"a": domain}), tmp_path / "changed")
        prepare_corpus(make_recipe({"a": domain}), tmp_path / f"fresh-{number}")
        assert files_of(tmp_path / "changed") == files_of(tmp_path / f"fresh-{number}")


def test_unfinished_corpus_is_not_taken_for_one(
    tmp_path: Path, make_recipe: MakeRecipe, jsonl_domain: MakeDomain, sentences: Sentences
) -> None:
    domains = {"a": jsonl_domain("a", sentences(100)), "b": jsonl_domain("b", sentences(100))}
    prepare_corpus(make_recipe(domains), tmp_path)
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": "short"}) + "\n")
    with pytest.raises(DataError, match="domain 'b' is shorter than one block"):
        prepare_corpus(make_recipe(domains, context_length=64), tmp_path)
    with pytest.raises(StudyError, match="not there yet"):
        _ = Corpus(tmp_path).facts


def test_names_of_own_files_are_no_names_of_domains(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    with pytest.raises(RecipeError, match="`tokenizer`"):
        prepare_corpus(make_recipe({"tokenizer": {"path": "json"}}), tmp_path)


def test_validation_budget_holds_a_block(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    with pytest.raises(RecipeError, match="max_validation_tokens 31 is less than one block"):
        prepare_corpus(make_recipe({"a": {"path": "json"}}, corpus={"max_validation_tokens": 31}), tmp_path)
