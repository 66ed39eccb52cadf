"""Metrics of lm-eval, computed by lm-eval itself out of how likely a model finds what it is asked."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regmix_hf.corpus.exams import Exam
from regmix_hf.study.corpus_facts import MemberFacts
from regmix_hf.training.answers import Measure
from regmix_hf.training.examinee import Examinee
from regmix_hf.training.requests import Requests

if TYPE_CHECKING:
    from regmix_hf.corpus.corpus import Corpus


class ExamSet:
    """The exams of all tasks of a corpus that have one.

    Raises:
        StudyError: They are not there, or others than were prepared.
    """

    def __init__(self, corpus: Corpus):
        facts = corpus.facts
        self._exams: Mapping[str, Exam] = {
            task: Exam.load(corpus.folder, task, of) for task, of in facts.exams.items()
        }
        asked = [exam.asked for exam in self._exams.values()]
        self._requests = Requests(
            [tokens for one in asked for tokens in one.tokens],
            np.concatenate([np.empty(0, np.int64), *(one.num_scored for one in asked)]),
            facts.context_length,
        )

    def scores(self, of: Examinee) -> dict[str, Measure]:
        """Let a model sit all exams, see `Requests.scores`; `<task>/<metric>` -> what it comes to."""
        nats, is_written = self._requests.scores(of)
        ends = np.cumsum([len(exam.asked.tokens) for exam in self._exams.values()])[:-1]
        parts = zip(self._exams.items(), np.split(nats, ends), np.split(is_written, ends), strict=False)
        measures: dict[str, Measure] = {}
        for (task, exam), part, written in parts:
            asked = exam.asked.documents
            found = judged(
                exam, np.bincount(asked, part).astype(np.float64), np.bincount(asked, ~written) == 0
            )
            measures |= {f"{task}/{metric}": measure for metric, measure in found.items()}
        return measures


def judged(exam: Exam, nats: NDArray[np.float64], is_written: NDArray[np.bool_]) -> dict[str, Measure]:
    """Compute the metrics of an exam as lm-eval does, those of a group over its members.

    Args:
        exam: What was asked.
        nats: How improbable each choice is, `(choices,)`, in the order of `exam.asked`.
        is_written: Whether the model would have written it, each time taking the likeliest token.
    """
    starts = exam.starts
    replies = list(zip((-nats).tolist(), is_written.tolist(), strict=True))
    by_document = [replies[start:end] for start, end in itertools.pairwise(starts)]
    members: list[dict[str, Measure]] = []
    first = 0
    for member in exam.members:
        part = slice(first, first := first + member.num_documents)
        members.append(_of_task(member, exam.documents[part], by_document[part]))
    sizes = [member.num_documents for member in exam.members]
    return {
        metric: _of_group([one[metric] for one in members], sizes, by_size)
        for metric, by_size in exam.metrics.items()
    }


def _of_task(
    member: MemberFacts,
    documents: Sequence[Mapping[str, Any]],
    replies: Sequence[Sequence[tuple[float, bool]]],
) -> dict[str, Measure]:
    from lm_eval.api.metrics import mean_stderr
    from lm_eval.api.registry import get_aggregation

    task = _judge_class()(member)
    values: dict[str, list[Any]] = {metric: [] for metric in member.aggregations}
    for document, found in zip(documents, replies, strict=True):
        results = [nats for nats, _ in found] if member.kind == "loglikelihood_rolling" else found
        for metric, value in task.process_results(document, results).items():
            values[metric].append(value)
    measures = {}
    for metric, aggregation in member.aggregations.items():
        has_error = aggregation == "mean" and len(documents) > 1
        stderr = float(mean_stderr(values[metric])) if has_error else math.nan
        measures[metric] = Measure(_finite(get_aggregation(aggregation), values[metric]), stderr)
    return measures


def _finite(aggregation: Any, values: Sequence[Any]) -> float:
    """An aggregate; infinite where it is too large for a float, as a perplexity may be."""
    try:
        return float(aggregation(values))
    except OverflowError:
        return math.inf


def _of_group(members: Sequence[Measure], sizes: Sequence[int], by_size: bool) -> Measure:
    from lm_eval.api.metrics import aggregate_subtask_metrics, pooled_sample_stderr, unweighted_mean_stderr

    if len(members) == 1:
        return members[0]
    errors = [one.stderr for one in members]
    stderr = pooled_sample_stderr(errors, sizes) if by_size else unweighted_mean_stderr(errors)
    return Measure(float(aggregate_subtask_metrics([m.mean for m in members], sizes, by_size)), float(stderr))


@cache
def _judge_class() -> type[Any]:
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.config.task import TaskConfig

    class Judge(ConfigurableTask):
        """A task of lm-eval without its documents: it judges by what was kept of them."""

        def __init__(self, member: MemberFacts):  # not that of `ConfigurableTask`, which loads documents
            self._config = TaskConfig(output_type=member.kind)
            self.OUTPUT_TYPE = member.kind
            self._metric_fn_list = dict.fromkeys(member.aggregations)
            self.multiple_input = 0

        def process_results(self, doc: Mapping[str, Any], results: Sequence[Any]) -> Mapping[str, Any]:
            self.multiple_target = isinstance(doc.get("gold"), list)
            return dict(super().process_results(doc, results))

        def doc_to_choice(self, doc: Mapping[str, Any]) -> Any:
            return doc["choices"]

        def doc_to_target(self, doc: Mapping[str, Any]) -> Any:
            return doc.get("text", doc.get("gold"))

    return Judge
