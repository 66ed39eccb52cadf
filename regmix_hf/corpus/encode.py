"""Turn documents into token ids over several processes: in order, with a bounded number of them in flight."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from regmix_hf.corpus.holdout import document_hash
from regmix_hf.errors import DataError

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

#: Text that travels to a process at once, in characters. One longer document travels alone.
PIECE_CHARS = 1 << 19


@dataclass(frozen=True)
class Piece:
    """Some documents in a row.

    Attributes:
        texts: The documents.
        num_rows: Rows of the source they came from, those that were left out included.
        position: Where the source goes on after them; `None` if it can only go on after a later piece.
        source: Its number, where several are read together.
        left_out: Why how many of the rows give no document.
    """

    texts: list[str]
    num_rows: int
    position: Any
    source: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Encoded:
    """Token ids of some documents, and one number per document.

    Attributes:
        ids: Of all documents in a row, EOS after each; the corpus's integer type.
        num_tokens: Per document, EOS included.
        num_bytes: Per document, of its UTF-8.
        hashes: Per document, see `document_hash`; uint64.
    """

    ids: np.ndarray
    num_tokens: np.ndarray
    num_bytes: np.ndarray
    hashes: np.ndarray

    def documents(self) -> Iterator[Encoded]:
        """Each document alone."""
        ends = np.cumsum(self.num_tokens)
        for row, (end, size) in enumerate(zip(ends, self.num_tokens, strict=True)):
            one = slice(row, row + 1)
            yield Encoded(
                self.ids[end - size : end], self.num_tokens[one], self.num_bytes[one], self.hashes[one]
            )


class DocumentEncoder:
    """A tokenizer that appends EOS to every document, and never finds EOS inside one.

    Args:
        file: `tokenizer.json`.
        eos_token_id: The id after every document.
        vocab_size: Number of ids.
    """

    def __init__(self, file: Path, eos_token_id: int, vocab_size: int):
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(file))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        # The text of a special token, inside a document, is text.
        self._tokenizer.encode_special_tokens = True
        self._eos = eos_token_id
        #: The smallest unsigned integer of at least two bytes that holds every token id.
        self.type: np.dtype[Any] = np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)

    def ids(self, text: str) -> list[int]:
        """Token ids of `text` alone."""
        # One by one: a batch would start threads in every process. `fast` leaves out character offsets.
        return self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids

    def beginning(self, text: str, num_tokens: int) -> str:
        """The part of `text` that its first `num_tokens` tokens are made of."""
        offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets[:num_tokens]
        return text[: max((end for _, end in offsets), default=0)]

    def encode(self, texts: list[str]) -> Encoded:
        """Encode documents, each followed by EOS."""
        documents, num_bytes, hashes = [], [], []
        for text in texts:
            utf8 = text.encode()
            documents.append(np.array([*self.ids(text), self._eos], dtype=self.type))
            num_bytes.append(len(utf8))
            hashes.append(document_hash(utf8))
        return Encoded(
            ids=np.concatenate(documents) if documents else np.empty(0, self.type),
            num_tokens=np.array([len(document) for document in documents], dtype=np.int64),
            num_bytes=np.array(num_bytes, dtype=np.int64),
            hashes=np.array(hashes, dtype=np.uint64),
        )


def pieces(
    texts: list[str],
    num_rows: int,
    position: Any,
    source: int = 0,
    left_out: Mapping[str, int] = MappingProxyType({}),
) -> Iterator[Piece]:
    """Cut a batch of documents into pieces of about `PIECE_CHARS`; only the last has position and counts."""
    start = size = 0
    for end, text in enumerate(texts):
        if size and size + len(text) > PIECE_CHARS:
            yield Piece(texts[start:end], 0, None, source)
            start, size = end, 0
        size += len(text)
    yield Piece(texts[start:], num_rows, position, source, left_out)


class EncoderPool:
    """Processes that encode.

    Args:
        encoder: What each of them has. With one process, it is used in this one.
        executor: The processes, or `None`.
        num_proc: How many.
    """

    def __init__(self, encoder: DocumentEncoder, executor: ProcessPoolExecutor | None, num_proc: int):
        self.encoder = encoder
        self._executor = executor
        self._max_in_flight = 2 * num_proc + 1

    def encode(self, pieces: Iterable[Piece]) -> Generator[tuple[Piece, Encoded]]:
        """Encode pieces; they come out in the order they went in.

        Raises:
            DataError: A process died.
        """
        if self._executor is None:
            for piece in pieces:
                yield piece, self.encoder.encode(piece.texts)
            return
        in_flight: deque[tuple[Piece, Future[Encoded]]] = deque()
        for piece in pieces:
            in_flight.append((piece, self._executor.submit(_encode, piece.texts)))
            if len(in_flight) >= self._max_in_flight:
                yield self._result(*in_flight.popleft())
        while in_flight:
            yield self._result(*in_flight.popleft())

    def _result(self, piece: Piece, future: Future[Encoded]) -> tuple[Piece, Encoded]:
        try:
            return piece, future.result()
        except BrokenProcessPool:
            raise DataError(
                "a process that tokenizes was killed, most likely for want of memory.",
                "run again with fewer processes: corpus.num_proc=1; what is done is kept",
            ) from None


@contextmanager
def encoder_pool(
    file: Path, eos_token_id: int, vocab_size: int, num_proc: int | None
) -> Iterator[EncoderPool]:
    """Start `num_proc` processes (`None`: one per core this process may use) that encode alike."""
    number = num_proc or len(os.sched_getaffinity(0))
    encoder = DocumentEncoder(file, eos_token_id, vocab_size)
    if number == 1:
        yield EncoderPool(encoder, None, 1)
        return
    executor = ProcessPoolExecutor(
        number,
        # Not fork: this process may have threads, of datasets or torch.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(file, eos_token_id, vocab_size),
    )
    try:
        yield EncoderPool(encoder, executor, number)
    finally:
        executor.shutdown(cancel_futures=True)


_worker_encoder: DocumentEncoder


def _start_worker(file: Path, eos_token_id: int, vocab_size: int) -> None:
    global _worker_encoder
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the pool
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _worker_encoder = DocumentEncoder(file, eos_token_id, vocab_size)


def _end_with(parent: BaseProcess) -> None:
    """A killed parent closes no queue: without this its workers would wait for ever."""
    parent.join()
    os._exit(1)


def _encode(texts: list[str]) -> Encoded:
    return _worker_encoder.encode(texts)
