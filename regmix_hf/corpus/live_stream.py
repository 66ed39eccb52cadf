"""The blocks of one run straight from the text: read, tokenized and packed while the model trains."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regmix_hf.corpus.encode import DocumentEncoder
from regmix_hf.corpus.live_blocks import LiveBlocks
from regmix_hf.corpus.live_tokens import LiveTokens, Place
from regmix_hf.corpus.opening import open_source
from regmix_hf.corpus.rules import rules_of
from regmix_hf.corpus.source import Source
from regmix_hf.corpus.stream import BlockStream
from regmix_hf.errors import DataError
from regmix_hf.files import hash_value

if TYPE_CHECKING:
    from regmix_hf.corpus.corpus import Corpus
    from regmix_hf.recipe import Domain

#: Threads that read and tokenize; each works on one domain at a time.
_MAX_THREADS = 4
#: Numbers of one domain's blocks lie below this, those of the next above it.
_MAX_BLOCKS = 1 << 40


class LiveStream(BlockStream):
    """Like `MixtureStream`, but a domain's blocks are packed from its source as they are needed.

    The domain of every block is drawn in the same way, so token shares are the weights within binomial noise.
    A domain's documents come in the order of its source, without those that the corpus validates on; blocks
    are shuffled within windows. A source that ends begins again. What is in memory is two windows of every
    domain, whatever its size; nothing is on disk.

    Blocks can only be read in their order; any position is reached by `restore` with the `state` of that
    position, which reads one window of every domain again at the most. The state follows from the position
    alone, however far reading is ahead of it.

    Args:
        corpus: Whose tokenizer and validation this goes with.
        sources: The recipe's domains, all of them.
        weights: Share of training tokens per domain; sources of domains of weight 0 are never opened.
        num_blocks: Blocks of the run.
        seed: Of the run.

    Raises:
        MixtureError: The weights are no mixture of the corpus's domains, or one above 0 is of a domain that
            is only validated on.
    """

    def __init__(
        self,
        corpus: Corpus,
        sources: Mapping[str, Domain],
        weights: Mapping[str, float],
        num_blocks: int,
        seed: int,
    ):
        super().__init__(corpus, weights)
        self._corpus, self._words, self._seed = corpus, sources, seed
        starts = _MAX_BLOCKS * np.arange(len(self.domains))
        self._interleave(
            starts + _MAX_BLOCKS, [_Numbers(start) for start in starts.tolist()], num_blocks, seed
        )
        self._lock = threading.Lock()  # a thread may read ahead while another asks for the state
        self._executor = ThreadPoolExecutor(min(_MAX_THREADS, len(self.domains)), "live-stream")
        self._is_reading = False

    def __getitems__(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the blocks at `indices` as int64 of shape `(len(indices), context_length)`.

        Raises:
            DataError: A source cannot be read, or has nothing to train on.
        """
        values = self._order[np.asarray(indices, dtype=np.int64)]
        batch = np.empty((len(values), self._corpus.facts.context_length), np.int64)
        with self._lock:
            self._start()
            domains, numbers = np.divmod(values, _MAX_BLOCKS)
            for domain in np.unique(domains).tolist():
                places = np.flatnonzero(domains == domain)
                places = places[np.argsort(numbers[places])]
                batch[places] = self._blocks[domain].read(numbers[places])
        return batch

    def state(self, position: int) -> dict[str, Any]:
        """Return what `restore` needs to go on at `position`; blocks before it must have been read.

        Returns:
            JSON-like: for every domain where its current window begins, and what its source was.
        """
        domains: dict[str, Any] = {}
        with self._lock:
            self._start()
            counts = self._counts(position)
            for name, source, blocks, count in zip(
                self.domains, self._sources, self._blocks, counts, strict=True
            ):
                window, place = blocks.place(count)
                identity = hash_value(source.identity)
                domains[name] = {"source": identity, "window": window, "place": vars(place)}
        return {"position": position, "domains": domains}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken.

        Raises:
            DataError: The text is not what it was then.
        """
        with self._lock:
            self._is_reading = True
            for name, source, blocks in zip(self.domains, self._sources, self._blocks, strict=True):
                then = state["domains"][name]
                if then["source"] != hash_value(source.identity):
                    raise DataError(
                        f"domain {name!r}: its text has changed since the checkpoint was written.",
                        "pin its `revision`, or remove the folder `checkpoints` to begin again",
                    )
                blocks.begin(then["window"], Place(**then["place"]))

    def epochs(self, num_blocks: int | None = None) -> dict[str, float]:
        """Times every domain is read in the first `num_blocks` blocks, those read last: by its true size.

        A source's size is known once it was read to its end; before, it is what the corpus says.
        """
        if not self._is_reading:
            return super().epochs(num_blocks)
        counts = self._counts(num_blocks)
        with self._lock:
            places = [blocks.place(count)[1] for blocks, count in zip(self._blocks, counts, strict=True)]
        known = np.array([place.pass_tokens for place in places])
        sizes = np.where(known > 0, known / self._corpus.facts.context_length, self._sizes)
        return dict(zip(self.domains, (counts / sizes).tolist(), strict=True))

    def close(self) -> None:
        """Stop reading."""
        with self._lock:
            if self._is_reading:
                for blocks in self._blocks:
                    blocks.close()
            self._executor.shutdown()

    def _start(self) -> None:
        if not self._is_reading:
            self._is_reading = True
            for blocks in self._blocks:
                blocks.begin(0, Place())

    @cached_property
    def _sources(self) -> list[Source]:
        return [open_source(name, self._words[name], "train") for name in self.domains]

    @cached_property
    def _blocks(self) -> list[LiveBlocks]:
        facts = self._corpus.facts
        file = self._corpus.folder / "tokenizer" / "tokenizer.json"
        encoder = DocumentEncoder(file, facts.eos_token_id, facts.vocab_size)
        rules = rules_of(self._corpus.folder, self._words)
        return [
            LiveBlocks(
                name,
                partial(LiveTokens, name, source, encoder, rules[name]),
                facts.context_length,
                self._seed,
                self._executor,
            )
            for name, source in zip(self.domains, self._sources, strict=True)
        ]


class _Numbers:
    """The blocks of one domain in the order in which they will be packed: `start`, `start + 1`, ..."""

    def __init__(self, start: int):
        self._start = start

    def read(self, position: int, count: int) -> NDArray[np.int64]:
        return self._start + position + np.arange(count)
