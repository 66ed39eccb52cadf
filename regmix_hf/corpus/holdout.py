"""Which documents are held out: decided by a hash of their text, so that copies never sit on both sides."""

from __future__ import annotations

import hashlib
import heapq
from dataclasses import dataclass
from typing import Any

import numpy as np

from regmix_hf.files import hash_value

#: Hashes are integers below this.
HASH_END = 1 << 63


def document_hash(text: bytes) -> int:
    """63 bits of BLAKE2b of a document's UTF-8 bytes. Without salt: a text has one hash in every domain."""
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def hash_below(fraction: float) -> int:
    """The hash that a share `fraction` of all documents lies below."""
    return int(fraction * HASH_END)


class LowestHashes:
    """The distinct documents of lowest hash that together reach a number of tokens: a uniform sample.

    What is kept does not depend on the order in which documents are offered.

    Args:
        num_tokens: As few documents are kept as reach this; all of them while they do not.
    """

    def __init__(self, num_tokens: int):
        self._goal = num_tokens
        self._largest: list[int] = []  # a heap of negated hashes
        self._tokens: dict[int, int] = {}
        self.num_tokens = 0

    @property
    def bound(self) -> int:
        """Documents whose hash is not below this are not kept, now and later."""
        return -self._largest[0] if self.num_tokens >= self._goal else HASH_END

    @property
    def hashes(self) -> list[int]:
        """Hashes of the documents kept, lowest first."""
        return sorted(self._tokens)

    def offer(self, document: int, num_tokens: int) -> bool:
        """Consider the document with the hash `document`; tell whether it is kept (a copy is not)."""
        if document >= self.bound or document in self._tokens:
            return False
        self._tokens[document] = num_tokens
        heapq.heappush(self._largest, -document)
        self.num_tokens += num_tokens
        while self.num_tokens - self._tokens[-self._largest[0]] >= self._goal:
            self.num_tokens -= self._tokens.pop(-heapq.heappop(self._largest))
        return document in self._tokens


@dataclass(frozen=True)
class HoldoutRule:
    """Which documents of a split go where.

    Attributes:
        below: Documents whose hash is below this are held out, all others are trained on.
        excluded: Hashes of documents that are validation elsewhere; never trained on. Sorted uint64.
        max_tokens: Validation tokens wanted. Held-out documents beyond are used for nothing.
    """

    below: int
    excluded: np.ndarray
    max_tokens: int

    def trains_on(self, hashes: np.ndarray) -> np.ndarray:
        """Tell of each hash whether its document is trained on."""
        trained: np.ndarray = (hashes >= np.uint64(self.below)) & ~np.isin(hashes, self.excluded)
        return trained

    @property
    def identity(self) -> Any:
        """What the outcome of a reading depends on."""
        return [self.below, hash_value(self.excluded.tolist()), self.max_tokens]


def hold_out_all(max_tokens: int) -> HoldoutRule:
    """The rule of a split that is all validation."""
    return HoldoutRule(HASH_END, np.empty(0, np.uint64), max_tokens)
