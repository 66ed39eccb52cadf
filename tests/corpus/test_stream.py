"""The order of a run's blocks: shares, epochs, seeds, positions, and what reaches the trainer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regmix_hf.corpus.corpus import Corpus
from regmix_hf.corpus.stream import MixtureStream
from regmix_hf.errors import MixtureError

CONTEXT_LENGTH = 8
SIZES = {"a": 50, "b": 20, "c": 5}


def numbered(domain: int, count: int) -> np.ndarray:
    """Blocks that say where they come from: the domain, then the row, in every token."""
    rows = np.arange(count)[:, None] + 1000 * domain
    return np.repeat(rows, CONTEXT_LENGTH, axis=1)


@pytest.fixture(scope="module")
def corpus(write_corpus, tmp_path_factory):
    domains = {name: (numbered(k, size), numbered(k, 1)) for k, (name, size) in enumerate(SIZES.items())}
    return Corpus(
        write_corpus(tmp_path_factory.mktemp("corpus"), 4000, {**domains, "judge": (None, numbered(3, 1))})
    )


def order(stream: MixtureStream) -> list[int]:
    """First token of every block: which block of which domain it is."""
    return stream.__getitems__(range(len(stream)))[:, 0].tolist()


def test_blocks_are_whole_and_int64(corpus):
    stream = MixtureStream(corpus, {"a": 0.5, "b": 0.5}, 30, seed=1)
    batch = stream.__getitems__([3, 0, 29])
    assert batch.dtype == np.int64
    assert batch.shape == (3, CONTEXT_LENGTH)
    assert (batch == batch[:, :1]).all()
    assert (stream[29] == batch[2]).all()


def test_a_position_is_the_same_block_whatever_was_read_before(corpus):
    stream = MixtureStream(corpus, {"a": 0.2, "b": 0.3, "c": 0.5}, 100, seed=1)
    whole = order(stream)
    again = MixtureStream(corpus, {"a": 0.2, "b": 0.3, "c": 0.5}, 100, seed=1)
    assert again.__getitems__(range(60, 100))[:, 0].tolist() == whole[60:]


def test_realised_shares_are_the_weights_within_binomial_noise(corpus):
    weights = {"a": 0.05, "b": 0.25, "c": 0.7}
    num_blocks = 40_000
    stream = MixtureStream(corpus, weights, num_blocks, seed=3)
    counts = np.bincount(np.array(order(stream)) // 1000, minlength=3)
    for k, (name, weight) in enumerate(weights.items()):
        noise = np.sqrt(weight * (1 - weight) / num_blocks)
        assert stream.realized()[name] == counts[k] / num_blocks
        assert abs(counts[k] / num_blocks - weight) < 4 * noise


def test_every_epoch_reads_each_block_once_in_another_order(corpus):
    stream = MixtureStream(corpus, {"c": 1.0}, 20, seed=1)
    epochs = np.array(order(stream)).reshape(4, 5)
    assert (np.sort(epochs, axis=1) == np.arange(2000, 2005)).all()
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 4
    assert stream.epochs() == {"c": 4.0}
    assert stream.epochs(5) == {"c": 1.0}


def test_a_part_of_each_domain_is_read_again_and_again_and_its_epochs_are_of_that_part(corpus):
    whole = MixtureStream(corpus, {"a": 0.75, "b": 0.25}, 80, seed=1)
    stream = MixtureStream(corpus, {"a": 0.75, "b": 0.25}, 80, seed=1, part={"a": 10, "b": 4, "c": 1})
    drawn = np.array(order(stream))
    assert (drawn // 1000 == np.array(order(whole)) // 1000).all()
    for k, size in ((0, 10), (1, 4)):
        rows = drawn[drawn // 1000 == k] % 1000
        assert set(rows.tolist()) == set(range(size))
        counts = np.bincount(rows, minlength=size)
        assert counts.max() - counts.min() <= 1
        assert stream.epochs()["ab"[k]] == len(rows) / size
    assert stream.realized() == whole.realized()


@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.lists(st.integers(1, 9), min_size=3, max_size=3))
def test_no_block_is_read_again_before_all_of_its_domain_were(corpus, seed, num_blocks, parts):
    weights = {name: part / sum(parts) for name, part in zip(SIZES, parts, strict=True)}
    stream = MixtureStream(corpus, weights, num_blocks, seed)
    drawn = np.array(order(stream))
    assert len(drawn) == num_blocks
    for k, size in enumerate(SIZES.values()):
        rows = drawn[drawn // 1000 == k] % 1000
        for start in range(0, len(rows), size):
            epoch = rows[start : start + size]
            assert len(set(epoch.tolist())) == len(epoch)


def test_equal_seeds_are_equal_and_others_are_not(corpus):
    weights = {"a": 0.5, "b": 0.5}
    first, same, other = (order(MixtureStream(corpus, weights, 60, seed=s)) for s in (1, 1, 2))
    assert first == same
    assert first != other


def test_two_seeds_draw_other_domains_and_not_only_other_blocks(corpus):
    weights = {"a": 0.5, "b": 0.5}
    first, other = (np.array(order(MixtureStream(corpus, weights, 60, seed=s))) // 1000 for s in (1, 2))
    assert (first != other).any()


def test_the_order_of_names_does_not_matter(corpus):
    forward = MixtureStream(corpus, {"a": 0.3, "b": 0.7}, 60, seed=1)
    backward = MixtureStream(corpus, {"b": 0.7, "a": 0.3}, 60, seed=1)
    assert order(forward) == order(backward)


def test_a_domain_of_weight_0_is_as_good_as_absent(corpus):
    with_zero = MixtureStream(corpus, {"a": 0.4, "b": 0.6, "c": 0.0, "judge": 0.0}, 60, seed=1)
    assert order(with_zero) == order(MixtureStream(corpus, {"a": 0.4, "b": 0.6}, 60, seed=1))
    assert with_zero.domains == ("a", "b")


def test_a_domain_too_rare_to_be_drawn_is_realised_as_0(corpus):
    stream = MixtureStream(corpus, {"a": 1 - 1e-9, "b": 1e-9}, 40, seed=1)
    assert stream.realized() == {"a": 1.0, "b": 0.0}


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ({"a": 0.5, "d": 0.5}, "'d' is no domain"),
        ({"a": 0.5, "b": 0.2}, "sum to 0.7"),
        ({"a": 1.5, "b": -0.5}, "-0.5"),
        ({"a": 0.5, "judge": 0.5}, "'judge' .* validation-only"),
    ],
)
def test_weights_that_are_no_mixture_of_the_corpus(corpus, weights, says):
    with pytest.raises(MixtureError, match=says):
        MixtureStream(corpus, weights, 10, seed=1)


def test_a_run_longer_than_one_segment_goes_on_where_each_domain_was(corpus, monkeypatch):
    monkeypatch.setattr("regmix_hf.corpus.stream._SEGMENT_BLOCKS", 7)
    stream = MixtureStream(corpus, {"c": 1.0}, 20, seed=1)
    epochs = np.array(order(stream)).reshape(4, 5)
    assert (np.sort(epochs, axis=1) == np.arange(2000, 2005)).all()
    mixed = MixtureStream(corpus, {"a": 0.5, "b": 0.5}, 600, seed=1)
    assert abs(mixed.realized()["a"] - 0.5) < 4 * np.sqrt(0.25 / 600)


def test_epochs_of_a_domain_that_was_read_in_part_are_those_of_its_source(corpus) -> None:
    whole = MixtureStream(corpus, {"c": 1.0}, 20, seed=1).epochs()["c"]
    facts = corpus.facts
    train = facts.domains["c"].train
    part = facts.domains["c"].model_copy(update={"part_of": 10 * train.num_blocks * facts.context_length})
    larger = Corpus(corpus.folder)
    larger.__dict__["facts"] = facts.model_copy(update={"domains": {**facts.domains, "c": part}})
    assert MixtureStream(larger, {"c": 1.0}, 20, seed=1).epochs()["c"] == pytest.approx(whole / 10)
