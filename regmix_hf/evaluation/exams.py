"""Exams: all that models are asked so that metrics of a task of lm-eval can be computed, made once a study.

lm-eval makes the requests and judges what comes of them. What needs a model to write something, or code of
the task's own to be judged, is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regmix_hf.corpus.answers import collected
from regmix_hf.corpus.exams import Exam
from regmix_hf.errors import DataError, RecipeError
from regmix_hf.evaluation.answers import requests_of
from regmix_hf.evaluation.metrics import KEY, check_config
from regmix_hf.evaluation.scores import quiet
from regmix_hf.evaluation.tasks import TaskSet
from regmix_hf.study.corpus_facts import ExamFacts, MemberFacts
from regmix_hf.training.exams import judged


@dataclass(frozen=True)
class Paper:
    """One document of a task.

    Attributes:
        asked: Context and what follows it, of every choice; the context is `None` where whole texts are
            scored.
        judged_by: `choices` and `gold` of multiple choice, `text` of whole texts.
    """

    asked: tuple[tuple[str | None, str], ...]
    judged_by: Mapping[str, Any]


@dataclass(frozen=True)
class Papers:
    """The documents of a task or group, member by member.

    Attributes:
        members: Of each its documents, and how it judges.
        metrics: Metric -> whether a group counts its members by their documents.
    """

    members: tuple[tuple[MemberFacts, tuple[Paper, ...]], ...]
    metrics: Mapping[str, bool]


def papers_of(name: str, metrics: Collection[str], tasks: TaskSet, *, limit: int | None, seed: int) -> Papers:
    """Let lm-eval make the requests of a task or group.

    Of each task the first `limit` documents, or all; the seed decides which solved examples are shown.

    Raises:
        RecipeError: lm-eval has no such metric of it, or proxies cannot be judged by it.
    """
    tasks.show_examples(None, seed)
    by_size = dict.fromkeys(metrics, True)
    group = tasks.loaded.get("groups", {}).get(name)
    if group is not None:
        check_config(name, metrics, {**(group.to_dict() or {}), "group": name})
        listed = {one.metric: one for one in group.aggregate_metric_list}
        by_size = {metric: bool(listed[metric].weight_by_size) for metric in metrics}
    elif name not in tasks.loaded["tasks"]:
        known = ", ".join(list(tasks.loaded["tasks"])[:3])
        raise RecipeError(
            f"{KEY}: {name!r} stands for several tasks, and lm-eval measures nothing of all of them.",
            f"name the tasks themselves: {known}, ...",
        )
    members = []
    for member, task in tasks.loaded["tasks"].items():
        check_config(member, metrics, _config_of(task))
        with quiet():
            task.build_all_requests(limit=limit)
        papers = tuple(_paper(task, requests, "acc_mutual_info" in metrics) for requests in requests_of(task))
        aggregations = {metric: _aggregation(task, member, metric) for metric in metrics}
        facts = MemberFacts(kind=task.OUTPUT_TYPE, aggregations=aggregations, num_documents=len(papers))
        members.append((facts, papers))
    return Papers(tuple(members), by_size)


def _config_of(task: Any) -> dict[str, Any]:
    from lm_eval.api.task import ConfigurableTask

    keys = ("output_type", "metric_list", "process_results", "filter_list")
    if getattr(type(task), "process_results", None) is not ConfigurableTask.process_results:
        return {"class": type(task).__name__}
    return {key: task.get_config(key) for key in keys}


def _paper(task: Any, requests: Sequence[Any], with_bare_choices: bool) -> Paper:
    document = requests[0].doc
    if task.OUTPUT_TYPE == "loglikelihood_rolling":
        texts = [(None, str(request.args[0])) for request in requests]
        return Paper(tuple(texts), {"text": task.doc_to_target(document)})
    pairs = [(str(request.args[0]), str(request.args[1])) for request in requests]
    if task.OUTPUT_TYPE == "loglikelihood":
        return Paper(tuple(pairs), {})
    choices = list(task.doc_to_choice(document))
    gold = task.doc_to_text(document) if task.multiple_input else task.doc_to_target(document)
    # The bare choices come last, and are asked for one metric only.
    asked = pairs if with_bare_choices else pairs[: len(choices)]
    return Paper(tuple(asked), {"choices": choices, "gold": gold})


def _aggregation(task: Any, name: str, metric: str) -> str:
    """What lm-eval calls the function that makes one number of all documents'."""
    from lm_eval.api.registry import AGGREGATION_REGISTRY

    used = task.aggregation()[metric]
    for known, function in AGGREGATION_REGISTRY.items():
        if function is used:
            return str(known)
    raise RecipeError(
        f"{KEY}: {metric!r} of {name!r} is put together by code of the task's own, which proxies do not run.",
        f"proxy.tasks: [{name}] scores its right answers instead, as bpb/{name}",
    )


def _check_judged(exam: Exam, name: str) -> None:
    """Let it be judged once, by what no model said: what fails here would fail at the end of every proxy."""
    nats = np.linspace(1.0, 2.0, len(exam.asked.num_bytes))
    try:
        judged(exam, nats, nats > 0)
    except (ArithmeticError, AssertionError, LookupError, TypeError, ValueError) as error:
        raise DataError(
            f"{KEY}: lm-eval cannot compute {', '.join(exam.metrics)} of the documents of {name!r}: {error}",
            "leave out the metric that these documents do not suit",
        ) from error


def prepare_exam(papers: Papers, name: str, encoder: Any, corpus: Path) -> ExamFacts:
    """Cut an exam into tokens and write it into the folder of a corpus.

    A document with a choice that is longer than a model reads is left out.

    Raises:
        DataError: Nothing is left of a task, or lm-eval cannot compute a metric of these documents.
    """
    requests: list[tuple[int, Sequence[int], int]] = []
    num_bytes: list[int] = []
    documents: list[dict[str, Any]] = []
    members: list[MemberFacts] = []
    num_cut = 0
    for member, all_papers in papers.members:
        before = len(documents)
        for paper in all_papers:
            choices = [encoder.windows(*pair) for pair in paper.asked]
            every = [one for windows in choices for one in windows]
            if not all(choices) or max(one.length for one in every) > encoder.context_length:
                continue
            for (_, text), windows in zip(paper.asked, choices, strict=True):
                requests += [(len(num_bytes), one.tokens, one.length) for one in windows]
                num_bytes.append(len(text.encode()))
            num_cut += any(one.is_cut for one in every)
            documents.append({"num_asked": len(choices), **paper.judged_by})
        if len(documents) == before:
            raise DataError(
                f"{KEY}: every document of {name!r} has a choice longer than context_length "
                f"{encoder.context_length}.",
                "leave the metric out, or raise context_length",
            )
        members.append(member.model_copy(update={"num_documents": len(documents) - before}))
    exam = Exam(collected(requests, num_bytes), tuple(documents), dict(papers.metrics), tuple(members))
    _check_judged(exam, name)
    exam.save(corpus, name)
    left_out = sum(member.num_documents for member, _ in papers.members) - len(documents)
    return exam.facts(num_left_out=left_out, num_cut=num_cut)
