"""The blocks of one domain, packed while its text is read, in windows that are shuffled one by one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regmix_hf.corpus.live_tokens import LiveTokens, Place
from regmix_hf.seeds import WINDOW, generator

#: Blocks that are shuffled among each other, and that are read again at most when a run goes on.
WINDOW_BLOCKS = 256


@dataclass(frozen=True)
class _Window:
    """The blocks from `number * WINDOW_BLOCKS` on, shuffled, and where they were packed from and up to."""

    number: int
    blocks: np.ndarray
    start: Place
    end: Place


class LiveBlocks:
    """Blocks of one domain by their number in the run; whoever reads never goes back a window.

    While one window is used the next is made by another thread, and no more than these two are in memory.

    Args:
        name: The domain.
        read_from: Opens the domain's tokens at a place.
        context_length: Tokens of a block.
        seed: Of the run; orders the blocks of every window.
        executor: Its threads make the windows.
    """

    def __init__(
        self,
        name: str,
        read_from: Callable[[Place], LiveTokens],
        context_length: int,
        seed: int,
        executor: Executor,
    ):
        self._name = name
        self._read_from, self._length, self._seed, self._executor = read_from, context_length, seed, executor
        self._tokens: LiveTokens | None = None
        self._window: _Window | None = None
        self._coming: Future[_Window] | None = None
        #: Where windows began, as far back as the run may still be.
        self._places: dict[int, Place] = {}

    def begin(self, window: int, place: Place) -> None:
        """Begin with a window whose tokens start at `place`."""
        self.close()
        self._tokens = self._read_from(place)
        self._window, self._places = None, {window: place}
        self._coming = self._executor.submit(self._make, window)

    def read(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the blocks `numbers`, which must rise, as `(len(numbers), context_length)`.

        Raises:
            DataError: The source cannot be read, or has nothing to train on.
        """
        blocks = np.empty((len(numbers), self._length), np.int64)
        windows = numbers // WINDOW_BLOCKS
        for window in np.unique(windows).tolist():
            while self._window is None or self._window.number < window:
                self._next()
            if self._window.number > window:
                raise ValueError(f"window {window} is read after window {self._window.number}")
            wanted = windows == window
            blocks[wanted] = self._window.blocks[numbers[wanted] % WINDOW_BLOCKS]
        return blocks

    def place(self, number: int | np.integer) -> tuple[int, Place]:
        """Return the window of the block `number`, and where it begins; what was before is forgotten.

        All blocks before `number` must have been read.
        """
        window = int(number) // WINDOW_BLOCKS
        if window < min(self._places):
            raise ValueError(f"window {window} is asked for after window {min(self._places)}")
        while window not in self._places:
            self._next()
        self._places = {other: place for other, place in self._places.items() if other >= window}
        return window, self._places[window]

    def close(self) -> None:
        """Stop reading, once the window that is being made is."""
        if self._coming is not None and not self._coming.cancel():
            self._coming.exception()
        if self._tokens is not None:
            self._tokens.close()
        self._tokens = self._coming = None

    def _next(self) -> None:
        assert self._coming is not None
        window = self._coming.result()
        self._window = window
        self._places |= {window.number: window.start, window.number + 1: window.end}
        self._coming = self._executor.submit(self._make, window.number + 1)

    def _make(self, window: int) -> _Window:
        assert self._tokens is not None
        start = self._tokens.place
        blocks = self._tokens.take(WINDOW_BLOCKS * self._length).reshape(WINDOW_BLOCKS, self._length)
        order = generator(self._seed, WINDOW, self._name, window).permutation(WINDOW_BLOCKS)
        return _Window(window, blocks[order], start, self._tokens.place)
