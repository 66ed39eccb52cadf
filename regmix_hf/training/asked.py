"""All that the models of a study are asked about tasks, and what comes of it, by column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from regmix_hf.quantities import BPB
from regmix_hf.training.answers import AnswerSet, Measure
from regmix_hf.training.examinee import Examinee
from regmix_hf.training.exams import ExamSet

if TYPE_CHECKING:
    from regmix_hf.corpus.corpus import Corpus


class Asked:
    """Right answers and exams of a corpus.

    Attributes:
        answers: The right answers.

    Raises:
        StudyError: They are not there, or others than were prepared.
    """

    def __init__(self, corpus: Corpus):
        self.answers, self._exams = AnswerSet(corpus), ExamSet(corpus)

    def scores(self, of: Examinee) -> Mapping[str, Measure]:
        """Ask all of it, see `Requests.scores`: `bpb/<task>` and `<task>/<metric>`."""
        bits = {f"{BPB}{task}": one for task, one in self.answers.scores(of).items()}
        return {**bits, **self._exams.scores(of)}
