"""Generators from a seed and a key: apart from each other, and those that old studies were made with."""

import hashlib

import numpy as np
import pytest

from regmix_hf.seeds import CANDIDATES, CHOICE, FIT, RUNS, SHUFFLE, WEIGHTS, WINDOW, generator, seed_of


def draws(rng):
    return rng.integers(2**62, size=4).tolist()


def test_equal_keys_draw_the_same_and_others_something_else():
    keys = [("split", 1), ("split", 2), ("folds", 1), ("folds", "web"), ("folds", "code"), (FIT,), (RUNS, 1)]
    drawn = [draws(generator(7, *key)) for key in keys] + [draws(generator(8, "split", 1))]
    assert draws(generator(7, "split", 1)) == drawn[0]
    assert len({tuple(row) for row in drawn}) == len(drawn)


def test_a_seed_has_the_bits_that_are_asked_for():
    long = [seed_of(7, "trees", number, bits=64) for number in range(50)]
    assert [seed_of(7, "trees", number) for number in range(50)] == [seed % 2**32 for seed in long]
    assert max(long) > 2**63
    assert len(set(long)) == 50


@pytest.mark.parametrize(
    ("key", "before"),
    [
        (WEIGHTS, np.random.SeedSequence(3, spawn_key=tuple(b"weights"))),
        (CANDIDATES, np.random.SeedSequence(3, spawn_key=tuple(b"candidates"))),
        ((CHOICE, 9), np.random.SeedSequence([3, 0x6368_6F69, 9])),
        ((RUNS, 1), np.random.SeedSequence([3, 0x7275_6E73, 1])),
        ((FIT,), np.random.SeedSequence([3, 4])),
    ],
)
def test_studies_of_version_0_1_go_on_with_the_draws_they_began_with(key, before):
    assert draws(generator(3, *key)) == draws(np.random.default_rng(before))
    assert seed_of(3, *key, bits=64) == before.generate_state(1, np.uint64)[0]


@pytest.mark.parametrize(("purpose", "number"), [(SHUFFLE, 0x7368_7566), (WINDOW, 0x7769_6E64)])
def test_a_domain_in_a_key_is_the_start_of_its_names_hash_as_before(purpose, number):
    name = int.from_bytes(hashlib.sha256(b"pile_cc").digest()[:8], "little")
    before = np.random.default_rng(np.random.SeedSequence([3, number, name, 2]))
    assert draws(generator(3, purpose, "pile_cc", 2)) == draws(before)
