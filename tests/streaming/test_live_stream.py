"""Blocks made while training: the documents in order, the asked shares, the same from any position on."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regmix_hf.corpus.corpus import Corpus
from regmix_hf.corpus.holdout import document_hash
from regmix_hf.corpus.live_stream import LiveStream
from regmix_hf.corpus.prepare import prepare_corpus
from regmix_hf.corpus.rules import rules_of
from regmix_hf.corpus.stream import MixtureStream
from regmix_hf.errors import DataError
from regmix_hf.recipe import Recipe
from tests.held_out import held_out_texts

from .conftest import byte_recipe

pytestmark = pytest.mark.long

WEIGHTS = {"long": 0.6, "short": 0.3, "tiny": 0.1}


@pytest.fixture(scope="module", autouse=True)
def _small_windows() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("regmix_hf.corpus.live_blocks.WINDOW_BLOCKS", 8)
        patched.setattr("regmix_hf.corpus.lines.ROWS", 16)
        yield


@pytest.fixture(scope="module")
def texts(sentences: Callable[..., list[str]]) -> dict[str, list[str]]:
    return {
        "long": [text.upper() for text in sentences(400, "l", 200)],
        "short": [text.title() for text in sentences(3000, "s", 4)],
        "tiny": sentences(40, "t"),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where text and corpus are that all tests read."""
    return tmp_path_factory.mktemp("streamed")


@pytest.fixture(scope="module")
def recipe(folder: Path, as_lines: Callable[..., bytes], texts: dict[str, list[str]]) -> Recipe:
    for name, documents in texts.items():
        (folder / f"{name}.jsonl").write_bytes(as_lines(documents))
    return byte_recipe(
        folder,
        {
            name: {"path": "json", "data_files": str(folder / f"{name}.jsonl"), "streaming": True}
            for name in texts
        },
    )


@pytest.fixture(scope="module")
def corpus(folder: Path, recipe: Recipe) -> Corpus:
    prepare_corpus(recipe, folder / "corpus")
    return Corpus(folder / "corpus")


@pytest.fixture
def start(corpus: Corpus, recipe: Recipe) -> Iterator[Callable[..., LiveStream]]:
    streams = []

    def begin(num_blocks: int = 600, seed: int = 1, weights: dict[str, float] = WEIGHTS) -> LiveStream:
        streams.append(LiveStream(corpus, recipe.domains, weights, num_blocks, seed))
        return streams[-1]

    yield begin
    for stream in streams:
        stream.close()


def read(stream: LiveStream, positions: Sequence[int], step: int = 7) -> np.ndarray:
    batches = [positions[k : k + step] for k in range(0, len(positions), step)]
    none = np.empty((0, 32), np.int64)
    return np.concatenate([none, *(stream.__getitems__(batch) for batch in batches)])


def test_every_block_is_packed_from_the_documents_in_order(
    start: Callable[..., LiveStream], corpus: Corpus, recipe: Recipe, texts: dict[str, list[str]]
) -> None:
    blocks = read(start(num_blocks=100, weights={"long": 1.0}), range(100))
    rule = rules_of(corpus.folder, recipe.domains)["long"]
    tokenizer, tokens = corpus.tokenizer(), []
    for text in texts["long"]:
        if document_hash(text.encode()) >= rule.below:
            tokens += [*tokenizer.encode(text, add_special_tokens=False), corpus.facts.eos_token_id]
    packed = np.array(tokens[: 104 * 32]).reshape(13, 8, 32)
    windows = [blocks[k * 8 : k * 8 + 8] for k in range(12)]
    for window, expected in zip(windows, packed, strict=False):
        assert sorted(map(tuple, window)) == sorted(map(tuple, expected))
    assert any(not np.array_equal(*pair) for pair in zip(windows, packed, strict=False))


def test_nothing_validated_on_is_trained_on(
    start: Callable[..., LiveStream], corpus: Corpus, texts: dict[str, list[str]]
) -> None:
    held_out = {text for name in texts for text in held_out_texts(corpus.folder, name)}
    decoded = corpus.tokenizer().decode(read(start(2000), range(2000)).ravel())
    seen = set(decoded.split("<|endoftext|>"))
    trained = {text for name in texts for text in texts[name]} - held_out
    assert len(held_out) > 100
    assert not held_out & seen
    assert len(trained & seen) > 100


def test_realised_shares_are_the_weights(start: Callable[..., LiveStream], corpus: Corpus) -> None:
    stream = start(3000)
    tokenizer, counts = corpus.tokenizer(), dict.fromkeys(WEIGHTS, 0)
    for block in read(stream, range(3000), 50):
        letters = [letter for letter in tokenizer.decode(block, skip_special_tokens=True) if letter.isalpha()]
        share = sum(letter.isupper() for letter in letters) / len(letters)
        counts["long" if share == 1 else "tiny" if share == 0 else "short"] += 1
    for name, weight in WEIGHTS.items():
        assert counts[name] == round(3000 * stream.realized()[name])
        assert counts[name] / 3000 == pytest.approx(weight, abs=4 * (weight * (1 - weight) / 3000) ** 0.5)


def test_order_of_domains_is_that_of_blocks_on_disk(start: Callable[..., LiveStream], corpus: Corpus) -> None:
    live, prepared = start(500), MixtureStream(corpus, WEIGHTS, 500, 1)
    assert [live.realized(n) for n in range(1, 500)] == [prepared.realized(n) for n in range(1, 500)]


@pytest.fixture(scope="module")
def undisturbed(corpus: Corpus, recipe: Recipe) -> np.ndarray:
    """The blocks of a stream that was read in one go."""
    with closing(LiveStream(corpus, recipe.domains, WEIGHTS, 600, 1)) as stream:
        return read(stream, range(600))


@pytest.mark.parametrize("position", [0, 1, 63, 64, 250, 599])
def test_going_on_at_any_position_gives_the_same_blocks(
    start: Callable[..., LiveStream], undisturbed: np.ndarray, position: int
) -> None:
    stream = start()
    # Reading is ahead of what was trained on, as far as it likes.
    read(stream, range(min(position + 57, 600)))
    state = json.loads(json.dumps(stream.state(position)))
    resumed = start()
    resumed.restore(state)
    np.testing.assert_array_equal(read(resumed, range(position, 600), 11), undisturbed[position:])
    read(stream, range(min(position + 57, 600), 600))
    assert resumed.epochs() == stream.epochs()


def test_state_follows_from_the_position_alone(start: Callable[..., LiveStream]) -> None:
    near, far = start(), start()
    read(near, range(300))
    read(far, range(350))
    assert near.state(300) == far.state(300)
    again = start()
    again.restore(near.state(300))
    read(again, range(300, 420))
    assert again.state(400) == start_at(start, 400)


def start_at(start: Callable[..., LiveStream], position: int) -> dict[str, Any]:
    stream = start()
    read(stream, range(position))
    return stream.state(position)


def test_going_on_reads_one_window_of_a_domain_at_the_most(start: Callable[..., LiveStream]) -> None:
    stream = start()
    read(stream, range(600))
    places = {name: domain["place"] for name, domain in stream.state(600)["domains"].items()}
    assert places["short"]["position"][1] > 3000  # of the file's bytes
    assert places["long"]["position"][1] > 3000
    # Between two places where the source can go on lie 16 documents.
    assert places["short"]["skip_tokens"] < 16 * 30
    assert places["long"]["skip_tokens"] < 16 * 1200


def test_source_that_ends_begins_again_and_is_counted(
    start: Callable[..., LiveStream], corpus: Corpus, texts: dict[str, list[str]]
) -> None:
    stream = start(400, weights={"tiny": 1.0})
    read(stream, range(400))
    train = corpus.facts.domains["tiny"].train
    assert train is not None
    assert stream.epochs()["tiny"] == pytest.approx(400 * 32 / train.num_tokens)
    assert stream.epochs()["tiny"] > 4
    assert stream.state(400)["domains"]["tiny"]["place"]["num_passes"] == 4


def test_seed_changes_the_order(start: Callable[..., LiveStream], undisturbed: np.ndarray) -> None:
    assert np.array_equal(read(start(), range(600)), undisturbed)
    assert not np.array_equal(read(start(seed=2), range(600)), undisturbed)


def test_text_that_changed_is_not_gone_on_with(
    start: Callable[..., LiveStream], folder: Path, as_lines: Callable[..., bytes]
) -> None:
    stream, file = start(), folder / "tiny.jsonl"
    read(stream, range(50))
    state, before = stream.state(50), file.read_bytes()
    file.write_bytes(as_lines(["another text"] * 50))
    try:
        with pytest.raises(DataError, match="domain 'tiny': its text has changed"):
            start().restore(state)
    finally:
        file.write_bytes(before)
    start().restore(state)
