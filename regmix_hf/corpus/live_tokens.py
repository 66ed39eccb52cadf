"""The training tokens of one domain in a row, pass after pass over its source, from any place on."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from regmix_hf.corpus.encode import DocumentEncoder
from regmix_hf.corpus.holdout import HoldoutRule
from regmix_hf.corpus.source import Source
from regmix_hf.errors import DataError


@dataclass(frozen=True)
class Place:
    """A token of the row: all that is needed to go on from it.

    Attributes:
        position: Of the source, at or before the token; `None`: its start.
        tokens_before: Tokens of this pass before `position`.
        skip_tokens: Tokens between `position` and the token.
        num_passes: Times the source was read to its end before.
        pass_tokens: Tokens of one pass; 0 before the first has ended.
    """

    position: Any = None
    tokens_before: int = 0
    skip_tokens: int = 0
    num_passes: int = 0
    pass_tokens: int = 0


class LiveTokens:
    """Tokens of the documents that may be trained on, EOS after each; a source that ends begins again.

    Args:
        name: The domain, for complaints.
        source: Its training text.
        encoder: Tokenizes.
        rule: What of the text is not trained on.
        place: The first token that is taken.
    """

    def __init__(self, name: str, source: Source, encoder: DocumentEncoder, rule: HoldoutRule, place: Place):
        self._name, self._source, self._encoder, self._rule = name, source, encoder, rule
        start = replace(place, skip_tokens=0)
        #: Tokens read and tokens taken, both since the place where reading began.
        self._num_read, self._num_taken = 0, place.skip_tokens
        self._marks = deque([(0, start)])
        self._unused, self._unused_from = np.empty(0, encoder.type), 0
        self._arrays = self._read(start)

    @property
    def place(self) -> Place:
        """Where the next token is."""
        while len(self._marks) > 1 and self._marks[1][0] <= self._num_taken:
            self._marks.popleft()
        start, place = self._marks[0]
        return replace(place, skip_tokens=self._num_taken - start)

    def take(self, count: int) -> np.ndarray:
        """Return the next `count` tokens.

        Raises:
            DataError: The source cannot be read, or has nothing to train on.
        """
        arrays = [self._unused]
        while self._num_read < self._num_taken + count:
            arrays.append(next(self._arrays))
        tokens = np.concatenate(arrays)
        first = self._num_taken - self._unused_from
        self._num_taken += count
        self._unused, self._unused_from = tokens[first + count :], self._num_taken
        return tokens[first : first + count]

    def close(self) -> None:
        """Stop reading."""
        self._arrays.close()

    def _read(self, start: Place) -> Generator[np.ndarray]:
        place = start
        while True:
            tokens = place.tokens_before
            with closing(self._source.pieces(place.position)) as pieces:
                for piece in pieces:
                    encoded = self._encoder.encode(piece.texts)
                    kept = encoded.ids[np.repeat(self._rule.trains_on(encoded.hashes), encoded.num_tokens)]
                    tokens, self._num_read = tokens + len(kept), self._num_read + len(kept)
                    if piece.position is not None:
                        mark = replace(place, position=piece.position, tokens_before=tokens)
                        self._marks.append((self._num_read, mark))
                    yield kept
            if tokens == 0:
                raise DataError(f"domain {self._name!r}: its source has no text to train on (any more).")
            place = Place(num_passes=place.num_passes + 1, pass_tokens=tokens)
            self._marks.append((self._num_read, place))
