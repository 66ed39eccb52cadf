"""Read one split of one domain into token files that survive a kill at any moment."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from regmix_hf.corpus.encode import Encoded, EncoderPool, Piece
from regmix_hf.corpus.holdout import HoldoutRule, LowestHashes
from regmix_hf.corpus.markers import said_by
from regmix_hf.corpus.source import Source
from regmix_hf.files import hash_value, write_json
from regmix_hf.progress import Bar

#: Text that is read again at most after a kill, in bytes.
COMMIT_BYTES = 1 << 24

_INDEX = np.dtype([("hash", "<u8"), ("num_tokens", "<i8"), ("num_bytes", "<i8"), ("line_bytes", "<i8")])


@dataclass(frozen=True)
class Budget:
    """How much of a split is enough: reading ends with the document that reaches both.

    Attributes:
        train_tokens: Tokens to train on.
        validation_tokens: Tokens held out.
    """

    train_tokens: int
    validation_tokens: int


@dataclass
class Counts:
    """Running counts of one reading; the documents, bytes and tokens are those to train on.

    Attributes:
        num_texts: Documents of all kinds.
        num_characters: Of all documents.
        left_out: Why how many rows gave no document.
    """

    num_rows: int = 0
    num_texts: int = 0
    num_characters: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    num_documents: int = 0
    num_bytes: int = 0
    num_tokens: int = 0
    num_candidates: int = 0


@dataclass
class _State:
    """What `state.json` says beside the identity."""

    position: Any
    done: bool
    counts: Counts
    to_the_end: bool = False


class Reading:
    """The documents of one split, as far as they have been read, in a folder of their own.

    Training tokens are appended to one file; documents that may become validation to three others (tokens,
    text, index). `state.json` says how much of these files counts and where the source goes on; it is
    replaced after the files have been written, and what lies beyond it is cut off when reading goes on.

    Args:
        folder: Of this reading alone.
        identity: JSON-like; a folder written under another identity is emptied.
        rule: Where documents go.
        dtype: Integer type of token ids.
        budget: What is read; `None`: everything.

    Attributes:
        done: Whether it has ended.
        to_the_end: Whether it ended because the source did.
    """

    def __init__(
        self,
        folder: Path,
        identity: Any,
        rule: HoldoutRule,
        dtype: np.dtype[Any],
        budget: Budget | None = None,
    ):
        self._folder, self._rule, self._type, self._budget = folder, rule, dtype, budget
        self._identity = hash_value([identity, rule.identity, dtype.name, budget and vars(budget)])
        self._names = ("train.tokens", "held-out.tokens", "held-out.jsonl", "held-out.index")
        self.counts, self.position, self.done, self.to_the_end = Counts(), None, False, False
        self._lowest = LowestHashes(rule.max_tokens)
        if not self._restore():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)

    def read(self, source: Source, pool: EncoderPool, bar: Bar) -> Self:
        """Read `source` to its end, or until it is enough, from where an earlier reading stopped.

        Raises:
            DataError: The source cannot be read; what was read stays.
        """
        if not self.done:
            read_together([self], source.pieces(self.position), pool, bar)
        return self

    @contextmanager
    def appending(self) -> Iterator[None]:
        """Keep the files open, for `add`, `commit` and `end`."""
        with ExitStack() as stack:
            paths = [self._folder / name for name in self._names]
            self._files = [stack.enter_context(path.open("ab")) for path in paths]
            yield

    def add(self, piece: Piece, encoded: Encoded) -> None:
        """Add documents; it is done when they are enough."""
        self._add_what_is_wanted(piece, encoded)
        if self._is_enough():
            self.end()
        elif piece.position is not None:
            self.position = piece.position

    def commit(self) -> None:
        """Write down that what was added counts; only after a piece that has a position."""
        for file in self._files:
            file.flush()
        state = {"identity": self._identity, "position": self.position, "done": self.done}
        if self.done:
            state["to_the_end"] = self.to_the_end
        write_json(self._folder / "state.json", {**state, "counts": vars(self.counts)})

    def end(self) -> None:
        """Write down that there is no more, or that no more is wanted."""
        self.done, self.to_the_end = True, not self._is_enough()
        self.commit()

    def train_tokens(self) -> np.ndarray:
        """Token ids of the training documents in a row, EOS after each, through a memory map."""
        return _memory_map(self._folder / "train.tokens", self._type, self.counts.num_tokens)

    def held_out(self) -> Iterator[tuple[str, int, np.ndarray]]:
        """Text, bytes of UTF-8 and token ids of every document to validate on, lowest hash first."""
        index = self._index()
        starts = np.cumsum(index["num_tokens"]) - index["num_tokens"]
        lines = np.cumsum(index["line_bytes"]) - index["line_bytes"]
        tokens = _memory_map(self._folder / "held-out.tokens", self._type, int(index["num_tokens"].sum()))
        row_of = {int(document): row for row, document in enumerate(index["hash"])}
        with (self._folder / "held-out.jsonl").open("rb") as file:
            for document in self._lowest.hashes:
                row = row_of[document]
                file.seek(lines[row])
                text = json.loads(file.read(index["line_bytes"][row]))["text"]
                yield text, int(index["num_bytes"][row]), tokens[starts[row] :][: index["num_tokens"][row]]

    def _is_enough(self) -> bool:
        return (
            self._budget is not None
            and self.counts.num_tokens >= self._budget.train_tokens
            and self._lowest.num_tokens >= self._budget.validation_tokens
        )

    def _add_what_is_wanted(self, piece: Piece, encoded: Encoded) -> None:
        """Add a piece, or of the last one the documents that are needed, wherever pieces were cut."""
        if self._budget is None or self.counts.num_tokens + len(encoded.ids) < self._budget.train_tokens:
            self._add(piece, encoded)
            return
        for text, document in zip(piece.texts, encoded.documents(), strict=True):
            self._add(Piece([text], 0, None), document)
            if self._is_enough():
                return
        self._add_rows(piece)

    def _add(self, piece: Piece, encoded: Encoded) -> None:
        files = self._files
        candidates = encoded.hashes < np.uint64(self._rule.below)
        to_train = self._rule.trains_on(encoded.hashes)
        files[0].write(encoded.ids[np.repeat(to_train, encoded.num_tokens)].tobytes())
        self._add_rows(piece)
        self.counts.num_texts += len(piece.texts)
        self.counts.num_characters += sum(map(len, piece.texts))
        self.counts.num_documents += int(to_train.sum())
        self.counts.num_bytes += int(encoded.num_bytes[to_train].sum())
        self.counts.num_tokens += int(encoded.num_tokens[to_train].sum())
        starts = np.cumsum(encoded.num_tokens) - encoded.num_tokens
        for row in np.flatnonzero(candidates & (encoded.hashes < np.uint64(self._lowest.bound))):
            document, num_tokens = int(encoded.hashes[row]), int(encoded.num_tokens[row])
            if self._lowest.offer(document, num_tokens):
                line = json.dumps({"text": piece.texts[row]}, ensure_ascii=False).encode() + b"\n"
                entry = np.array([(document, num_tokens, encoded.num_bytes[row], len(line))], dtype=_INDEX)
                files[1].write(encoded.ids[starts[row] :][:num_tokens].tobytes())
                files[2].write(line)
                files[3].write(entry.tobytes())
                self.counts.num_candidates += 1

    def _add_rows(self, piece: Piece) -> None:
        self.counts.num_rows += piece.num_rows
        for reason, number in piece.left_out.items():
            self.counts.left_out[reason] = self.counts.left_out.get(reason, 0) + number

    def _restore(self) -> bool:
        """Take up the state on disk; tell whether it belongs to this reading and is whole."""
        file = self._folder / "state.json"
        paths = [self._folder / name for name in self._names]
        state = said_by(file, self._identity, _State)
        if state is None or not all(path.is_file() for path in paths):
            return False
        self.counts = state.counts
        index = self._index()
        sizes = (
            self.counts.num_tokens * self._type.itemsize,
            int(index["num_tokens"].sum()) * self._type.itemsize,
            int(index["line_bytes"].sum()),
            self.counts.num_candidates * _INDEX.itemsize,
        )
        if any(path.stat().st_size < size for path, size in zip(paths, sizes, strict=True)):
            self.counts = Counts()  # the machine, not only the process, went down
            return False
        for path, size in zip(paths, sizes, strict=True):
            os.truncate(path, size)
        for entry in index:
            self._lowest.offer(int(entry["hash"]), int(entry["num_tokens"]))
        self.position, self.done, self.to_the_end = state.position, state.done, state.to_the_end
        return True

    def _index(self) -> np.ndarray:
        return np.fromfile(self._folder / "held-out.index", dtype=_INDEX, count=self.counts.num_candidates)


def read_together(readings: Sequence[Reading], pieces: Generator[Piece], pool: EncoderPool, bar: Bar) -> None:
    """Read to the end, or until each has enough; after a kill all go on from about the same place.

    Args:
        readings: None of them done.
        pieces: What each goes on with, in its order; `Piece.source` says whose a piece is.
        pool: Encodes.
        bar: Told how many rows were read.

    Raises:
        DataError: The source cannot be read; what was read stays.
    """
    with ExitStack() as stack:
        for reading in readings:
            stack.enter_context(reading.appending())
        stack.enter_context(closing(pieces))
        uncommitted = 0
        for piece, encoded in stack.enter_context(closing(pool.encode(pieces))):
            reading = readings[piece.source]
            if reading.done:  # the piece was on its way when there was enough
                continue
            reading.add(piece, encoded)
            if all(other.done for other in readings):
                return
            uncommitted += int(encoded.num_bytes.sum())
            if piece.position is not None:  # each piece of a source but the last is followed by its next
                bar.update(max(other.counts.num_rows for other in readings))
                if uncommitted >= COMMIT_BYTES:
                    _commit(readings)
                    uncommitted = 0
        for reading in readings:
            if not reading.done:
                reading.end()


def _commit(readings: Sequence[Reading]) -> None:
    for reading in readings:
        if not reading.done:
            reading.commit()


def _memory_map(path: Path, dtype: np.dtype[Any], size: int) -> np.ndarray:
    if size == 0:
        return np.empty(0, dtype)  # an empty file cannot be mapped
    return np.memmap(path, dtype=dtype, mode="r", shape=(size,))
