"""What models are asked about tasks of lm-eval: the right answer of every document, after its context.

lm-eval makes the requests, with the solved examples that a task says, and its own model class cuts them into
tokens; only the right answer of each document is kept. It is found once for a study, not by every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from regmix_hf.corpus.answers import Answers, collected
from regmix_hf.errors import DataError
from regmix_hf.evaluation.scores import quiet
from regmix_hf.evaluation.tasks import TaskSet
from regmix_hf.study.corpus_facts import TaskFacts

_ROLLING = "loglikelihood_rolling"
#: The choices of one question are its first requests; others score choices without the question.
_CHOICES = "multiple_choice"


@dataclass(frozen=True)
class Question:
    """One document of a task.

    Attributes:
        context: What stands before the answer; `None` where a task scores whole texts.
        answer: As it follows the context, with the space or line between.
        num_bytes: Of the answer itself, in UTF-8.
    """

    context: str | None
    answer: str
    num_bytes: int


@dataclass(frozen=True)
class Questions:
    """The documents of one entry of `proxy.tasks`.

    Attributes:
        asked: Those with a right answer that is a text.
        num_left_out: Those without.
    """

    asked: tuple[Question, ...]
    num_left_out: int


def questions_of(name: str, tasks: TaskSet, *, limit: int | None, seed: int) -> Questions:
    """Let lm-eval make the requests of a task or group, and keep the right answers.

    Of each task the first `limit` documents, or all; the seed decides which solved examples are shown.

    Raises:
        DataError: Not one document has a text for its right answer.
    """
    tasks.show_examples(None, seed)
    found: list[Question | None] = []
    wrong: list[Any] = []
    for task in tasks.loaded["tasks"].values():
        with quiet():
            task.build_all_requests(limit=limit)
        for document in requests_of(task):
            question = _question(task, document)
            found.append(question)
            if question is None and not wrong:
                wrong.append(task.doc_to_target(document[0].doc))
    asked = tuple(question for question in found if question is not None)
    if not asked:
        raise DataError(
            f"proxy.tasks: {name!r} has no document whose right answer is a text; that of its first is "
            f"{wrong[0]!r}.",
            "leave it out, or name a task with answers that can be scored",
        )
    return Questions(asked, len(found) - len(asked))


def requests_of(task: Any) -> list[list[Any]]:
    """The requests of every document, choice by choice."""
    by_document: dict[int, list[Any]] = {}
    for request in task.instances:
        by_document.setdefault(request.doc_id, []).append(request)
    return [sorted(requests, key=lambda one: int(one.idx)) for requests in by_document.values()]


def _question(task: Any, requests: Sequence[Any]) -> Question | None:
    request = requests[0]
    if task.OUTPUT_TYPE == _ROLLING:
        (text,) = request.args[:1]
        is_text = isinstance(text, str) and text != ""
        return Question(None, text, len(text.encode())) if is_text else None
    answer: Any = task.doc_to_target(request.doc)
    if task.OUTPUT_TYPE == _CHOICES:
        if not hasattr(task, "doc_to_choice"):  # a class of the task's own: its choices have no common form
            return None
        choices = task.doc_to_choice(request.doc)
        right = _first(task.doc_to_text(request.doc) if task.multiple_input else answer)
        place = choices.index(right) if right in choices else right
        if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < len(choices):
            return None
        request = next(one for one in requests if one.idx == place)
        answer = answer if task.multiple_input else choices[place]
    answer = _first(answer)
    if not isinstance(answer, str) or not answer:
        return None
    if task.OUTPUT_TYPE == "generate_until":
        return Question(request.args[0], f"{task.config.target_delimiter}{answer}", len(answer.encode()))
    context, continuation = request.args[:2]
    return Question(context, continuation, len(answer.encode()))


def _first(answer: Any) -> Any:
    """The first of several right answers."""
    return answer[0] if isinstance(answer, list | tuple) and answer else answer


class Window(NamedTuple):
    """What a model is asked at once.

    Attributes:
        tokens: Of a context and an answer; what a model does not read is cut off at the beginning.
        length: Of the answer, in tokens.
        is_cut: Whether something is.
    """

    tokens: list[int]
    length: int
    is_cut: bool


def prepare_answers(questions: Questions, name: str, encoder: Any, corpus: Path) -> TaskFacts:
    """Cut questions into tokens and write them into the folder of a corpus.

    Raises:
        DataError: Every answer alone is longer than a model reads.
    """
    requests: list[tuple[int, Sequence[int], int]] = []
    num_bytes: list[int] = []
    num_cut = 0
    for question in questions.asked:
        windows = encoder.windows(question.context, question.answer)
        if not windows or max(one.length for one in windows) > encoder.context_length:
            continue
        requests += [(len(num_bytes), one.tokens, one.length) for one in windows]
        num_cut += sum(one.is_cut for one in windows)
        num_bytes.append(question.num_bytes)
    if not requests:
        raise DataError(
            f"proxy.tasks: every right answer of {name!r} is longer than context_length "
            f"{encoder.context_length}.",
            "leave the task out, or raise context_length",
        )
    answers: Answers = collected(requests, num_bytes)
    answers.save(corpus, name)
    left_out = questions.num_left_out + len(questions.asked) - len(num_bytes)
    return answers.facts(num_left_out=left_out, num_cut=num_cut)


def encoder_of(tokenizer: PreTrainedTokenizerBase, context_length: int, eos_token_id: int) -> Any:
    """Return what cuts contexts and answers into tokens as lm-eval's models do: its method `windows`.

    A model reads `context_length` tokens; before a text without a context stands `eos_token_id`.
    """
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import TemplateLM
    from lm_eval.models.huggingface import HFLM

    class Encoder(HFLM):
        """lm-eval's own model class without a model: it keeps what it would have been asked."""

        def __init__(self) -> None:
            TemplateLM.__init__(self)  # not that of `HFLM`, which loads a model
            self.tokenizer, self.add_bos_token = tokenizer, False
            self.custom_prefix_token_id, self._max_length = eos_token_id, context_length
            self.batch_size_per_gpu, self.enable_thinking = 1, None
            self.context_length = context_length
            self._asked: list[Window] = []

        def windows(self, context: str | None, answer: str) -> list[Window]:
            """More than one where a text is longer than a model reads."""
            self._asked = []
            arguments = (answer,) if context is None else (context, answer)
            kind = _ROLLING if context is None else "loglikelihood"
            request = Instance(request_type=kind, doc={}, arguments=arguments, idx=0)
            getattr(self, kind)([request], disable_tqdm=True)
            return self._asked

        def _loglikelihood_tokens(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
            most = context_length + 1
            for _name, context, answer in requests:
                tokens = [*context, *answer]
                self._asked.append(Window(tokens[-most:], len(answer), len(tokens) > most))
            return [(0.0, False)] * len(requests)

    return Encoder()
