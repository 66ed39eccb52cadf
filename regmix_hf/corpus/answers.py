"""Right answers of a task as token ids, each after its context: what models are asked to score, on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from regmix_hf.errors import StudyError
from regmix_hf.files import read_parquet, write_parquet
from regmix_hf.study import names
from regmix_hf.study.corpus_facts import TaskFacts

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Answers:
    """The requests of one task. A text longer than a model takes is several requests of one document.

    Attributes:
        documents: Number of the document of every request, `(requests,)`; ascending from 0.
        tokens: Context and answer of every request, at most one token more than a block.
        num_scored: How many tokens at the end of each are the answer, `(requests,)`.
        num_bytes: Bytes of every document's answer in UTF-8, `(documents,)`.
    """

    documents: Integers
    tokens: tuple[Integers, ...]
    num_scored: Integers
    num_bytes: Integers

    @property
    def sha256(self) -> str:
        """Hash of all of it."""
        digest = hashlib.sha256()
        for part in (self.documents, self.num_scored, self.num_bytes, *self.tokens):
            digest.update(len(part).to_bytes(8, "little") + part.astype("<i8").tobytes())
        return digest.hexdigest()

    def facts(self, *, num_left_out: int, num_cut: int) -> TaskFacts:
        """What `corpus.json` says of them."""
        return TaskFacts(
            num_documents=len(self.num_bytes),
            num_left_out=num_left_out,
            num_cut=num_cut,
            num_bytes=int(self.num_bytes.sum()),
            num_tokens=sum(map(len, self.tokens)),
            sha256=self.sha256,
        )

    def save(self, corpus: Path, task: str) -> None:
        """Write them into the folder of a corpus."""
        self.write(answers_file(corpus, task))

    def write(self, file: Path) -> None:
        """Write them into a file."""
        first = np.diff(self.documents, prepend=-1) > 0
        table = {
            "document": self.documents,
            "tokens": list(self.tokens),
            "num_scored": self.num_scored,
            "num_bytes": np.where(first, self.num_bytes[self.documents], 0),
        }
        write_parquet(file, pd.DataFrame(table))

    @classmethod
    def load(cls, corpus: Path, task: str, facts: TaskFacts) -> Self:
        """Read them from the folder of a corpus.

        Raises:
            StudyError: They are not there, or others than were prepared.
        """
        file = answers_file(corpus, task)
        if not file.exists():
            raise StudyError(f"{file} is not there.", "run `regmix prepare`")
        read = cls.read(file)
        if read.sha256 != facts.sha256:
            raise StudyError(f"{file} holds other answers than were prepared.", "run `regmix prepare`")
        return read

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read what `write` wrote."""
        table = read_parquet(file)
        documents = table["document"].to_numpy(np.int64)
        return cls(
            documents,
            tuple(np.array(tokens, dtype=np.int64) for tokens in table["tokens"]),
            table["num_scored"].to_numpy(np.int64),
            np.bincount(documents, table["num_bytes"]).astype(np.int64),
        )


def answers_file(corpus: Path, task: str) -> Path:
    """Where the answers of a task lie in the folder of a corpus."""
    return corpus / names.TASKS / f"{task}.parquet"


def collected(requests: Sequence[tuple[int, Sequence[int], int]], num_bytes: Sequence[int]) -> Answers:
    """Make one of requests (number of the document, tokens, how many at the end are scored)."""
    return Answers(
        np.array([document for document, _, _ in requests], dtype=np.int64),
        tuple(np.array(tokens, dtype=np.int64) for _, tokens, _ in requests),
        np.array([count for _, _, count in requests], dtype=np.int64),
        np.array(num_bytes, dtype=np.int64),
    )
