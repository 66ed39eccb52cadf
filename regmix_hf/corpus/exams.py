"""What models are asked for the metrics of lm-eval: all choices of every question, on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from regmix_hf.corpus.answers import Answers
from regmix_hf.errors import StudyError
from regmix_hf.files import hash_value, read_json, write_json
from regmix_hf.study import names
from regmix_hf.study.corpus_facts import ExamFacts, MemberFacts


@dataclass(frozen=True, eq=False)
class Exam:
    """All that is asked about one task or group.

    Attributes:
        asked: Every choice of every document, in its words the documents: what follows one context.
        documents: For each document, member by member, `num_asked` and what lm-eval judges by: `choices` and
            `gold` of multiple choice, `text` of whole texts.
        metrics: Metric -> whether a group counts its members by their documents.
        members: The tasks of a group, or the task alone.
    """

    asked: Answers
    documents: tuple[dict[str, Any], ...]
    metrics: dict[str, bool]
    members: tuple[MemberFacts, ...]

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where the choices of every document begin, and where the last end, `(documents + 1,)`."""
        return np.cumsum([0, *(document["num_asked"] for document in self.documents)])

    @property
    def sha256(self) -> str:
        """Hash of all of it."""
        members = [member.model_dump() for member in self.members]
        return hash_value([self.asked.sha256, list(self.documents), self.metrics, members])

    def facts(self, *, num_left_out: int, num_cut: int) -> ExamFacts:
        """What `corpus.json` says of it."""
        counted = self.asked.facts(num_left_out=num_left_out, num_cut=num_cut).model_dump()
        said = {"num_documents": len(self.documents), "sha256": self.sha256}
        return ExamFacts(**{**counted, **said}, metrics=self.metrics, members=list(self.members))

    def save(self, corpus: Path, task: str) -> None:
        """Write it into the folder of a corpus."""
        self.asked.write(corpus / names.METRICS / f"{task}.parquet")
        write_json(corpus / names.METRICS / f"{task}.json", list(self.documents))

    @classmethod
    def load(cls, corpus: Path, task: str, facts: ExamFacts) -> Self:
        """Read it from the folder of a corpus.

        Raises:
            StudyError: It is not there, or another than was prepared.
        """
        files = [corpus / names.METRICS / f"{task}.{ending}" for ending in ("parquet", "json")]
        for file in files:
            if not file.exists():
                raise StudyError(f"{file} is not there.", "run `regmix prepare`")
        asked, documents = Answers.read(files[0]), read_json(files[1])
        exam = cls(asked, tuple(documents), facts.metrics, tuple(facts.members))
        if exam.sha256 != facts.sha256:
            raise StudyError(f"{files[0]} holds other questions than were prepared.", "run `regmix prepare`")
        return exam
