"""The order in which one run reads its blocks, and the blocks themselves, by position."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
from datasets import Dataset, interleave_datasets
from numpy.typing import NDArray

from regmix_hf.errors import MixtureError
from regmix_hf.mixtures.mixture import check_mixture
from regmix_hf.seeds import CHOICE, SHUFFLE, generator, seed_of

if TYPE_CHECKING:
    from regmix_hf.corpus.corpus import Corpus
    from regmix_hf.study.corpus_facts import CorpusFacts

#: Blocks interleaved at once: bounds what `interleave_datasets` holds as Python integers (about 100 MB).
_SEGMENT_BLOCKS = 1 << 20
_ROWS_PER_READ = 1000


class BlockStream:
    """The order of one run: which domain gives each of its blocks, and which of its blocks that is.

    `datasets.interleave_datasets` draws the domain of every block with the weights as probabilities. Every
    block holds the same number of tokens, so the realised token shares are the weights within binomial noise.

    Args:
        corpus: What the domains hold.
        weights: Share of training tokens per domain; they sum to 1.
        part: Domain -> blocks of it that there are for this run; `None`: all.

    Attributes:
        domains: Those of weight above 0, by name.

    Raises:
        MixtureError: The weights are no mixture of the corpus's domains, or one above 0 is of a domain
            without a training block.
    """

    _order: NDArray[np.int64]
    _ends: NDArray[np.int64]

    def __init__(self, corpus: Corpus, weights: Mapping[str, float], part: Mapping[str, int] | None = None):
        mixture = check_mixture(weights, corpus.facts.domains)
        self.domains = tuple(sorted(name for name, weight in mixture.items() if weight > 0))
        for name in self.domains:
            split = corpus.facts.domains[name].train
            if split is None or split.num_blocks == 0:
                why = "is validation-only" if split is None else "has no whole block to train on"
                raise MixtureError(f"the mixture gives {name!r} a weight above 0, but the domain {why}.")
        self._probabilities = np.array([mixture[name] for name in self.domains], dtype=np.float64)
        self._sizes = np.array(
            [_available_blocks(corpus.facts, name) if part is None else part[name] for name in self.domains]
        )

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> NDArray[np.int64]:
        """Return block `index` as int64 of shape `(context_length,)`."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the blocks at `indices` as int64 of shape `(len(indices), context_length)`."""
        raise NotImplementedError

    def realized(self, num_blocks: int | None = None) -> dict[str, float]:
        """Share of every domain in the tokens of the first `num_blocks` blocks (default: of all)."""
        counts = self._counts(num_blocks)
        return dict(zip(self.domains, (counts / max(counts.sum(), 1)).tolist(), strict=True))

    def epochs(self, num_blocks: int | None = None) -> dict[str, float]:
        """Times every domain is read in the first `num_blocks` blocks: tokens drawn by tokens it has."""
        return dict(zip(self.domains, (self._counts(num_blocks) / self._sizes).tolist(), strict=True))

    def _interleave(
        self, ends: NDArray[np.int64], sources: Sequence[_Rows], num_blocks: int, seed: int
    ) -> None:
        """Draw the row of every block: those of each source lie below its end, not below the one before."""
        positions = np.zeros(len(sources), dtype=np.int64)
        order = np.empty(num_blocks, dtype=np.int64)
        for number, start in enumerate(range(0, num_blocks, _SEGMENT_BLOCKS)):
            segment = order[start : start + _SEGMENT_BLOCKS]
            choice_seed = seed_of(seed, CHOICE, number, bits=64)
            segment[:] = _segment(sources, positions, self._probabilities, len(segment), choice_seed)
            positions += np.bincount(np.searchsorted(ends, segment, side="right"), minlength=len(sources))
        self._ends, self._order = ends, order

    def _counts(self, num_blocks: int | None) -> NDArray[np.int64]:
        sources = np.searchsorted(self._ends, self._order[:num_blocks], side="right")
        return np.bincount(sources, minlength=len(self.domains))


def _available_blocks(facts: CorpusFacts, name: str) -> float:
    """Blocks that a domain has, those that were not read included."""
    domain = facts.domains[name]
    if domain.part_of is not None:
        return domain.part_of / facts.context_length
    return float(domain.train.num_blocks) if domain.train else 0.0


class MixtureStream(BlockStream):
    """The blocks of one run, in order: a map-style data set of `num_blocks` rows of token ids.

    A domain is read in a random order, a new one in each of as many epochs as it needs. Position `i` is the
    same block whatever was read before: a resumed run starts at its position without reading up to it.

    Args:
        corpus: Where the blocks are.
        weights: Share of training tokens per domain; domains of weight 0 are never opened.
        num_blocks: Blocks of the run.
        seed: Of the run. Same corpus content, weights, length and seed: same blocks in the same order,
            in whatever order the domains are named.
        part: Domain -> blocks that the run reads of it, epoch after epoch: the first ones, which are any of
            them, for blocks lie shuffled. `None`: all.

    Raises:
        MixtureError: As `BlockStream`.
    """

    def __init__(
        self,
        corpus: Corpus,
        weights: Mapping[str, float],
        num_blocks: int,
        seed: int,
        part: Mapping[str, int] | None = None,
    ):
        super().__init__(corpus, weights, part)
        self._rows = BlockRows([corpus.blocks(name, "train") for name in self.domains])
        starts = np.concatenate([[0], self._rows.ends[:-1]])
        stops = np.minimum(self._rows.ends, starts + np.ceil(self._sizes).astype(np.int64))
        places = zip(starts.tolist(), stops.tolist(), self.domains, strict=True)
        self._interleave(self._rows.ends, [_EndlessRows(*place, seed) for place in places], num_blocks, seed)

    def __getitems__(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the blocks at `indices` as int64 of shape `(len(indices), context_length)`."""
        return self._rows.read(self._order[np.asarray(indices, dtype=np.int64)])


class BlockRows:
    """Random access to the blocks of several memory-mapped data sets, numbered through from 0.

    Attributes:
        ends: One past the last row of each data set.
    """

    def __init__(self, blocks: Sequence[Dataset]):
        self._chunks = [chunk for dataset in blocks for chunk in _matrices(dataset)]
        self._starts = np.cumsum([0, *(len(chunk) for chunk in self._chunks[:-1])])
        self.ends: NDArray[np.int64] = np.cumsum([len(dataset) for dataset in blocks])

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Copy rows out of the map into one int64 matrix of shape `(len(rows), context_length)`."""
        chunks = np.searchsorted(self._starts, rows, side="right") - 1
        batch = np.empty((len(rows), self._chunks[0].shape[1]), dtype=np.int64)
        places = zip(batch, chunks.tolist(), (rows - self._starts[chunks]).tolist(), strict=True)
        for target, chunk, row in places:
            target[:] = self._chunks[chunk][row]
        return batch


def _matrices(dataset: Dataset) -> Iterator[NDArray[np.integer[Any]]]:
    """View the record batches of `input_ids` as matrices, without a copy."""
    column: pa.ChunkedArray = dataset.data.column("input_ids")
    for chunk in column.chunks:
        if len(chunk):
            yield chunk.flatten().to_numpy(zero_copy_only=True).reshape(len(chunk), -1)


class _Rows(Protocol):
    """Rows of one domain, as many as are asked for."""

    def read(self, position: int, count: int) -> NDArray[np.int64]:
        """Return `count` rows from `position` on."""


def _segment(
    sources: Sequence[_Rows],
    positions: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    length: int,
    seed: int,
) -> NDArray[np.int64]:
    """Draw `length` rows from sources that stand at `positions`."""
    expected = probabilities * length
    # Interleaving ends with the first source that is used up; with this much of each that is practically
    # never before `length`, and if it is, the same draws are made again from longer sources.
    spare = 8 * np.sqrt(expected) + 16
    while True:
        lengths = np.ceil(expected + spare).astype(np.int64).tolist()
        reads = zip(sources, positions.tolist(), lengths, strict=True)
        rows = [Dataset.from_dict({"row": source.read(position, count)}) for source, position, count in reads]
        mixed = interleave_datasets(rows, probabilities=probabilities.tolist(), seed=seed)
        if len(mixed) >= length:
            tables = mixed.take(length).with_format("arrow").iter(_ROWS_PER_READ)
            return np.concatenate([table.column("row").to_numpy() for table in tables])
        spare = 2 * spare


@dataclass(frozen=True)
class _EndlessRows:
    """The rows `start` to `stop` of one domain, epoch after epoch, each in an order of its own."""

    start: int
    stop: int
    domain: str
    seed: int

    def read(self, position: int, count: int) -> NDArray[np.int64]:
        """Return `count` rows from `position` on, counted from the start of the first epoch."""
        size = self.stop - self.start
        parts = []
        while count > 0:
            epoch, first = divmod(position, size)
            parts.append(self._epoch(epoch, first, min(first + count, size)))
            position, count = position + len(parts[-1]), count - len(parts[-1])
        return np.concatenate(parts)

    def _epoch(self, epoch: int, first: int, last: int) -> NDArray[np.int64]:
        """Rows `first` to `last` of one epoch.

        Blocks lie shuffled on disk: the first epoch reads them as they lie, from a random one on, which costs
        nothing for a domain of many millions of blocks and lets the disk read ahead.
        """
        rng = generator(self.seed, SHUFFLE, self.domain, epoch)
        size = self.stop - self.start
        if epoch == 0:
            return self.start + (rng.integers(size) + np.arange(first, last)) % size
        return self.start + rng.permutation(size)[first:last]
