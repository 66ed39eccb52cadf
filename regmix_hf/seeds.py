"""Chance: every random choice has a generator that comes from a seed and a key of its own.

Choices with different keys never draw from one stream, so adding one changes no other. A key is words and
whole numbers that say what is drawn, the purpose first: `generator(seed, "folds", target)`. Keys of one
purpose have one length, for a 0 at the end of a short one adds nothing.
"""

from __future__ import annotations

import hashlib

import numpy as np

#: Purposes that version 0.1 wrote as numbers; studies that it made go on with the draws they began with.
RUNS, CHOICE, SHUFFLE, WINDOW = (int.from_bytes(word, "big") for word in (b"runs", b"choi", b"shuf", b"wind"))
FIT = 4
WEIGHTS, CANDIDATES = ((0, 0, 0, *word) for word in (b"weights", b"candidates"))


def generator(seed: int, *key: int | str) -> np.random.Generator:
    """Return the generator of one random choice.

    Args:
        seed: The recipe's seed, or a run's.
        key: What is drawn; numbers from 0.

    >>> bool(generator(7, "split", 3).random() == generator(7, "split", 3).random())
    True
    >>> bool(generator(7, "split", 3).random() == generator(7, "split", 4).random())
    False
    """
    return np.random.default_rng(_sequence(seed, key))


def seed_of(seed: int, *key: int | str, bits: int = 32) -> int:
    """Return a seed for something that takes a number: `bits` (32 or 64) random bits.

    >>> seed_of(7, "trees") < 2**32 <= seed_of(7, "trees", bits=64)
    True
    """
    first, second = _sequence(seed, key).generate_state(2).tolist()
    return int(first if bits == 32 else first | second << 32)


def _sequence(seed: int, key: tuple[int | str, ...]) -> np.random.SeedSequence:
    return np.random.SeedSequence([seed, *(_number(part) for part in key)])


def _number(part: int | str) -> int:
    if isinstance(part, str):
        return int.from_bytes(hashlib.sha256(part.encode()).digest()[:8], "little")
    return part
