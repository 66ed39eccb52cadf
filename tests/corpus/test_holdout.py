"""A document is validation or training, never both, whatever its copies, its order and its domain."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regmix_hf.corpus.encode import DocumentEncoder, EncoderPool, Piece
from regmix_hf.corpus.holdout import HASH_END, LowestHashes, document_hash, hash_below
from regmix_hf.corpus.prepare import prepare_corpus
from regmix_hf.corpus.reading import HoldoutRule, Reading
from regmix_hf.progress import Silent
from regmix_hf.recipe import Recipe
from tests.held_out import held_out_texts

EOS = 0


class ListSource:
    """A source that holds its pieces."""

    identity = "list"

    def __init__(self, texts: list[str], size: int):
        self._pieces = [texts[i : i + size] for i in range(0, len(texts), size)]
        self.num_rows = len(texts)

    def pieces(self, position: int | None) -> Iterator[Piece]:
        for number, texts in enumerate(self._pieces[position or 0 :], start=(position or 0) + 1):
            yield Piece(texts, len(texts), number)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> DocumentEncoder:
    """Tokens are bytes."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocab = {
        "<eos>": EOS,
        **{letter: i + 1 for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))},
    }
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(file))
    return DocumentEncoder(file, EOS, len(vocab))


def read(folder: Path, encoder: DocumentEncoder, source: Any, rule: HoldoutRule) -> Reading:
    reading = Reading(folder, source.identity, rule, encoder.type)
    with Silent().bar("", total=1, unit="") as bar:
        return reading.read(source, EncoderPool(encoder, None, 1), bar)


def trained_documents(reading: Reading) -> list[tuple[int, ...]]:
    """The training text cut at EOS."""
    tokens = reading.train_tokens()
    ends = np.flatnonzero(tokens == EOS) + 1
    return [tuple(part[:-1]) for part in np.split(tokens, ends)[:-1]]


TEXTS = st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=12), min_size=1, max_size=60)


@given(
    texts=TEXTS,
    copies=st.lists(st.integers(0, 59), max_size=40),
    fraction=st.sampled_from([0.05, 0.3, 0.7]),
    max_tokens=st.integers(1, 200),
    size=st.integers(1, 20),
)
def test_no_copy_of_a_validation_document_is_trained_on(
    tmp_path_factory: pytest.TempPathFactory,
    encoder: DocumentEncoder,
    texts: list[str],
    copies: list[int],
    fraction: float,
    max_tokens: int,
    size: int,
) -> None:
    texts = texts + [texts[i % len(texts)] for i in copies]
    rule = HoldoutRule(hash_below(fraction), np.empty(0, np.uint64), max_tokens)
    reading = read(tmp_path_factory.mktemp("reading"), encoder, ListSource(texts, size), rule)
    held_out = [text for text, _, _ in reading.held_out()]
    candidates = {text for text in texts if document_hash(text.encode()) < hash_below(fraction)}
    trained = trained_documents(reading)
    assert trained == [tuple(encoder.ids(text)) for text in texts if text not in candidates]
    assert len(set(held_out)) == len(held_out)
    assert set(held_out) <= candidates
    assert reading.counts.num_documents == len(trained)
    for text, num_bytes, tokens in reading.held_out():
        assert num_bytes == len(text.encode())
        assert tokens.tolist() == [*encoder.ids(text), EOS]


@given(
    documents=st.dictionaries(st.integers(0, HASH_END - 1), st.integers(1, 50), max_size=40),
    num_tokens=st.integers(1, 300),
    order=st.randoms(use_true_random=False),
)
def test_lowest_hashes_are_kept_until_they_reach_the_number(
    documents: dict[int, int], num_tokens: int, order: Any
) -> None:
    offered = [*documents, *documents]
    order.shuffle(offered)
    lowest = LowestHashes(num_tokens)
    for document in offered:
        lowest.offer(document, documents[document])
    expected, total = [], 0
    for document in sorted(documents):
        if total >= num_tokens:
            break
        expected.append(document)
        total += documents[document]
    assert lowest.hashes == expected
    assert lowest.num_tokens == total
    assert lowest.bound == (expected[-1] if total >= num_tokens else HASH_END)


def test_excluded_documents_are_not_trained_on(tmp_path: Path, encoder: DocumentEncoder) -> None:
    texts = [f"document {i}" for i in range(100)]
    excluded = sorted(document_hash(text.encode()) for text in texts[::3])
    rule = HoldoutRule(0, np.array(excluded, dtype=np.uint64), 100)
    reading = read(tmp_path / "reading", encoder, ListSource(texts, 7), rule)
    assert trained_documents(reading) == [tuple(encoder.ids(t)) for i, t in enumerate(texts) if i % 3]


@pytest.mark.parametrize("stop", range(9))
def test_reading_that_stopped_anywhere_goes_on_to_the_same_end(
    tmp_path: Path, encoder: DocumentEncoder, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    class StopError(Exception):
        pass

    class StoppingSource(ListSource):
        def pieces(self, position: int | None) -> Iterator[Piece]:
            for number, piece in enumerate(super().pieces(position)):
                if number == stop:
                    raise StopError
                yield piece

    monkeypatch.setattr("regmix_hf.corpus.reading.COMMIT_BYTES", 250)  # every second or third piece
    texts = [f"document {i}" for i in range(100)]
    rule = HoldoutRule(hash_below(0.3), np.empty(0, np.uint64), 120)
    with pytest.raises(StopError):
        read(tmp_path / "stopped", encoder, StoppingSource(texts, 10), rule)
    state = tmp_path / "stopped" / "state.json"
    assert state.exists() == (stop >= 3)
    again = read(tmp_path / "stopped", encoder, ListSource(texts, 10), rule)
    whole = read(tmp_path / "whole", encoder, ListSource(texts, 10), rule)
    assert again.train_tokens().tobytes() == whole.train_tokens().tobytes()
    assert [text for text, _, _ in again.held_out()] == [text for text, _, _ in whole.held_out()]
    assert again.counts == whole.counts


def test_reading_of_another_source_starts_anew(tmp_path: Path, encoder: DocumentEncoder) -> None:
    rule = HoldoutRule(0, np.empty(0, np.uint64), 100)
    read(tmp_path / "reading", encoder, ListSource(["old"] * 5, 2), rule)
    other = ListSource(["new"] * 3, 2)
    other.identity = "other"
    assert (
        trained_documents(read(tmp_path / "reading", encoder, other, rule)) == [tuple(encoder.ids("new"))] * 3
    )


def test_small_domain_holds_out_its_lowest_hash(
    tmp_path: Path, make_recipe: Callable[..., Recipe], jsonl_domain: Callable[..., dict[str, Any]]
) -> None:
    texts = [f"{i} " + "x" * 40 for i in range(4)]
    recipe = make_recipe({"a": jsonl_domain("a", texts)}, corpus={"num_proc": 1, "validation_fraction": 1e-6})
    facts = prepare_corpus(recipe, tmp_path).domains["a"]
    lowest = min(texts, key=lambda text: document_hash(text.encode()))
    assert held_out_texts(tmp_path, "a") == [lowest]
    assert facts.train is not None
    assert facts.train.num_documents == 3


def test_small_domain_holds_out_enough_for_a_block(
    tmp_path: Path, make_recipe: Callable[..., Recipe], jsonl_domain: Callable[..., dict[str, Any]]
) -> None:
    texts = [f"number {i:03}" for i in range(40)]  # 11 tokens each, a block has 32
    recipe = make_recipe({"a": jsonl_domain("a", texts)}, corpus={"num_proc": 1, "validation_fraction": 1e-6})
    facts = prepare_corpus(recipe, tmp_path).domains["a"]
    assert (facts.validation.num_documents, facts.validation.num_blocks) == (3, 1)
    assert facts.train is not None
    assert facts.train.num_documents == 37


def test_validation_is_capped_and_the_rest_of_it_is_not_trained_on(
    tmp_path: Path, make_recipe: Callable[..., Recipe], jsonl_domain: Callable[..., dict[str, Any]]
) -> None:
    texts = [f"number {i:03}" for i in range(500)]
    facts = {}
    for cap in (1_000_000, 320):
        corpus = {"num_proc": 1, "validation_fraction": 0.5, "max_validation_tokens": cap}
        recipe = make_recipe({"a": jsonl_domain("a", texts)}, corpus=corpus)
        facts[cap] = prepare_corpus(recipe, tmp_path / str(cap)).domains["a"]
    assert facts[320].train == facts[1_000_000].train
    assert facts[320].validation.num_blocks == 10
    assert facts[320].validation.num_documents == 30  # 330 tokens are the fewest that reach 320
    assert facts[320].validation.num_tokens == 320
    lowest = held_out_texts(tmp_path / "1000000", "a")[:30]
    assert held_out_texts(tmp_path / "320", "a") == [*lowest[:-1], "n"]


def test_long_validation_document_is_cut_at_the_cap(
    tmp_path: Path, make_recipe: Callable[..., Recipe], jsonl_domain: Callable[..., dict[str, Any]]
) -> None:
    texts = [f"{i} " + "word " * 400 for i in range(10)]
    corpus = {"num_proc": 1, "max_validation_tokens": 64}
    recipe = make_recipe({"a": jsonl_domain("a", texts)}, corpus=corpus)
    validation = prepare_corpus(recipe, tmp_path).domains["a"].validation
    assert (validation.num_documents, validation.num_blocks) == (1, 2)
    assert (validation.num_tokens, validation.num_bytes) == (64, 64)
    assert [len(text) for text in held_out_texts(tmp_path, "a")] == [64]


def test_document_that_is_cut_in_validation_is_not_trained_on_elsewhere(
    tmp_path: Path,
    make_recipe: Callable[..., Recipe],
    jsonl_domain: Callable[..., dict[str, Any]],
    sentences: Callable[..., list[str]],
) -> None:
    long = ["ä" + " word" * 400]
    domains = {
        "a": jsonl_domain("a", sentences(50) + long),
        "b": jsonl_domain("b", long, validation_only=True),
    }
    recipe = make_recipe(domains, corpus={"num_proc": 1, "max_validation_tokens": 65})
    for _ in range(2):  # once read, once from what was written down
        facts = prepare_corpus(recipe, tmp_path / "corpus").domains
        assert facts["b"].validation.num_tokens == 65
        assert facts["a"].train is not None
        assert facts["a"].train.num_documents + facts["a"].validation.num_documents == 50
        (tmp_path / "corpus" / "a" / "train.json").unlink()


def test_validation_of_one_domain_is_not_trained_on_in_another(
    tmp_path: Path,
    make_recipe: Callable[..., Recipe],
    jsonl_domain: Callable[..., dict[str, Any]],
    write_jsonl: Callable[..., Path],
    sentences: Callable[..., list[str]],
) -> None:
    shared = sentences(300)
    train = str(write_jsonl("own-train.jsonl", shared + sentences(50, prefix="own")))
    valid = str(write_jsonl("own-valid.jsonl", shared[:40]))
    domains = {
        "own": {
            "path": "json",
            "data_files": {"train": train, "validation": valid},
            "validation_split": "validation",
        },
        "only": jsonl_domain("only", shared[40:60], validation_only=True),
        "carved": jsonl_domain("carved", shared),
        "small": jsonl_domain("small", shared[100:103]),
    }
    corpus = {"num_proc": 1, "validation_fraction": 0.01}
    facts = prepare_corpus(make_recipe(domains, corpus=corpus), tmp_path / "corpus").domains
    held_out = {name: set(held_out_texts(tmp_path / "corpus", name)) for name in domains}
    assert held_out["own"] == set(shared[:40])
    assert held_out["only"] == set(shared[40:60])
    assert len(held_out["small"]) == 1  # its smallness alone made it validation
    told = held_out["own"] | held_out["only"] | held_out["small"]
    assert facts["own"].train is not None
    assert facts["own"].train.num_documents == 350 - len(told)
    carved = {text for text in shared if document_hash(text.encode()) < hash_below(0.01)}
    assert carved
    assert facts["carved"].train is not None
    assert facts["carved"].train.num_documents == 300 - len(told | carved)
