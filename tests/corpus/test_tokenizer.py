"""The tokenizer is trained alike every time, or taken as it is; what cannot be had is said."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from regmix_hf.corpus.corpus import Corpus
from regmix_hf.corpus.encode import DocumentEncoder
from regmix_hf.corpus.prepare import prepare_corpus
from regmix_hf.corpus.tokenizer import LONG_WORD, _equal, _without_long_words
from regmix_hf.errors import DataError
from regmix_hf.progress import Bar, Silent
from regmix_hf.recipe import Recipe

MakeRecipe = Callable[..., Recipe]
MakeDomain = Callable[..., dict[str, Any]]


class Notes(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.bars: list[tuple[str, float, str, list[float]]] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    @contextmanager
    def bar(self, description: str, *, total: float, unit: str) -> Iterator[Bar]:
        done: list[float] = []
        self.bars.append((description, total, unit, done))

        class _Bar:
            def update(self, now: float, *, detail: str = "") -> None:
                done.append(now)

        yield _Bar()


def train(vocab_size: int) -> dict[str, Any]:
    return {"train": {"vocab_size": vocab_size}}


def test_trained_tokenizer_loses_nothing(
    tmp_path: Path, make_recipe: MakeRecipe, jsonl_domain: MakeDomain, sentences: Callable[..., list[str]]
) -> None:
    recipe = make_recipe({"a": jsonl_domain("a", sentences(200))}, tokenizer=train(300))
    facts = prepare_corpus(recipe, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    assert len(tokenizer) == facts.vocab_size == 300
    assert tokenizer.eos_token_id == facts.eos_token_id == 0
    for text in ("alpha beta", "  leading  spaces\n\n\ttabs", "Ünïcödé 日本語 \U0001f600", "<|endoftext|>"):
        ids = DocumentEncoder(tmp_path / "tokenizer" / "tokenizer.json", 0, 300).ids(text)
        assert tokenizer.decode(ids) == text
        assert 0 not in ids


def test_training_twice_gives_the_same_bytes(
    tmp_path: Path, make_recipe: MakeRecipe, jsonl_domain: MakeDomain, sentences: Callable[..., list[str]]
) -> None:
    domains = {"a": jsonl_domain("a", sentences(500)), "b": jsonl_domain("b", sentences(500, prefix="é"))}
    for folder in ("one", "two"):
        prepare_corpus(make_recipe(domains, tokenizer=train(400)), tmp_path / folder)
    one, two = (tmp_path / folder / "tokenizer" for folder in ("one", "two"))
    names = sorted(file.name for file in one.iterdir())
    assert "tokenizer.json" in names
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)


def test_every_domain_has_the_same_number_of_bytes() -> None:
    short, long = [b"ab", b"cde"], ["é".encode() * 6]
    repeated = list(_equal([short, long, []]))
    assert repeated[:5] == ["ab", "cde", "ab", "cde", "ab"]  # 12 bytes, as the longest has
    assert repeated[5:] == ["é" * 6]
    assert list(_equal([["é".encode()], [b"abc"]])) == ["é", "", "abc"]  # half a character is none


def test_short_domain_weighs_as_much_as_a_long_one(
    tmp_path: Path, make_recipe: MakeRecipe, jsonl_domain: MakeDomain
) -> None:
    domains = {
        "long": jsonl_domain("long", [f"long {i} " + "lorem ipsum " * 20 for i in range(200)]),
        "short": jsonl_domain("short", [f"short {i} " + "zyxwvut " * 20 for i in range(6)]),
    }
    prepare_corpus(make_recipe(domains, tokenizer=train(280)), tmp_path)
    assert "Ġzyxwvut" in Corpus(tmp_path).tokenizer().get_vocab()


def test_long_words_are_cut_and_nothing_else() -> None:
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain = ["short words only", "é" * LONG_WORD, "https://example.org/" + "path/" * 200]
    assert list(_without_long_words(iter(plain), words)) == plain
    text = "before " + "=" * 100_000 + " after\n" + " " * 5000 + "end" + "\0" * 3000
    parts = list(_without_long_words(iter([text]), words))
    assert "".join(parts) == text
    found = [word for part in parts for word, _ in words.pre_tokenize_str(part)]
    assert max(map(len, found)) <= LONG_WORD
    assert {"before", "Ġafter"} <= set(found)


def test_vocabulary_that_the_text_cannot_fill_is_said(
    tmp_path: Path, make_recipe: MakeRecipe, jsonl_domain: MakeDomain, sentences: Callable[..., list[str]]
) -> None:
    progress = Notes()
    recipe = make_recipe({"a": jsonl_domain("a", sentences(20))}, tokenizer=train(5000))
    facts = prepare_corpus(recipe, tmp_path, progress)
    assert facts.vocab_size < 1000
    assert progress.notes == [
        f"tokenizer: the text fills {facts.vocab_size} of the 5,000 tokens of train.vocab_size"
    ]


def test_progress_counts_documents(
    tmp_path: Path, make_recipe: MakeRecipe, jsonl_domain: MakeDomain, sentences: Callable[..., list[str]]
) -> None:
    progress = Notes()
    domains = {
        "a": jsonl_domain("a", sentences(600), streaming=False),
        "stream": jsonl_domain("stream", sentences(600)),
    }
    prepare_corpus(make_recipe(domains), tmp_path, progress)
    counts = {description: (total, unit, done) for description, total, unit, done in progress.bars}
    assert counts["train text of a"] == (float("inf"), "documents", [256, 512, 600])
    assert counts["train text of stream"] == (float("inf"), "documents", [256, 512, 600])


@pytest.fixture
def own_tokenizer(tmp_path: Path) -> Callable[..., Path]:
    """A folder with a word-level tokenizer that pads, cuts, normalises and adds a BOS by itself."""

    def save(**keys: Any) -> Path:
        vocab = {"<unk>": 0, "</s>": 1, "<s>": 2, "alpha": 3, "beta": 4}
        tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.enable_truncation(3)
        tokenizer.enable_padding(length=10)
        folder = tmp_path / "own"
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", **keys).save_pretrained(folder)
        return folder

    return save


def test_given_tokenizer_neither_cuts_nor_pads(
    tmp_path: Path, make_recipe: MakeRecipe, jsonl_domain: MakeDomain, own_tokenizer: Callable[..., Path]
) -> None:
    folder = own_tokenizer(eos_token="</s>", bos_token="<s>")
    texts = ["Alpha beta " * 10 + "x" * i for i in range(1, 9)]
    recipe = make_recipe({"a": jsonl_domain("a", texts)}, tokenizer=str(folder), context_length=8)
    facts = prepare_corpus(recipe, tmp_path / "corpus").domains["a"]
    assert facts.train is not None
    assert facts.train.num_tokens + facts.validation.num_tokens == 8 * (20 + 1 + 1)
    blocks = Corpus(tmp_path / "corpus").blocks("a", "train")["input_ids"]
    assert {token for block in blocks for token in block} == {0, 1, 3, 4}


def test_tokenizer_without_eos(
    tmp_path: Path, make_recipe: MakeRecipe, jsonl_domain: MakeDomain, own_tokenizer: Callable[..., Path]
) -> None:
    recipe = make_recipe({"a": jsonl_domain("a", ["alpha"])}, tokenizer=str(own_tokenizer()))
    with pytest.raises(DataError, match="has no EOS token"):
        prepare_corpus(recipe, tmp_path / "corpus")


def test_tokenizer_whose_eos_is_a_common_word(
    tmp_path: Path, make_recipe: MakeRecipe, jsonl_domain: MakeDomain, own_tokenizer: Callable[..., Path]
) -> None:
    folder = own_tokenizer(eos_token="beta")
    recipe = make_recipe({"a": jsonl_domain("a", ["alpha"])}, tokenizer=str(folder))
    with pytest.raises(DataError, match="reads the text 'beta' as its EOS token"):
        prepare_corpus(recipe, tmp_path / "corpus")


@pytest.mark.parametrize("name", ["nobody/nothing", "EleutherAI/gpt-neox-20b", "no-such-folder/tokenizer"])
def test_tokenizer_that_cannot_be_had_offline(
    tmp_path: Path,
    make_recipe: MakeRecipe,
    jsonl_domain: MakeDomain,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(DataError, match=f"tokenizer: '{name}' cannot be had") as caught:
        prepare_corpus(make_recipe({"a": jsonl_domain("a", ["alpha"])}, tokenizer=name), tmp_path / "corpus")
    assert "vocab_size" in str(caught.value.hint)


def test_broken_tokenizer_folder(tmp_path: Path, make_recipe: MakeRecipe, jsonl_domain: MakeDomain) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "tokenizer.json").write_text("{")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    with pytest.raises(DataError, match="cannot be had"):
        prepare_corpus(
            make_recipe({"a": jsonl_domain("a", ["alpha"])}, tokenizer=str(folder)), tmp_path / "corpus"
        )
