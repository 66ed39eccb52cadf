"""Answers of the Hub that are none: found where the client takes them apart, before they are believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

from huggingface_hub.errors import HFValidationError

from regmix_hf.hub.retries import causes, status_of

T = TypeVar("T")

#: What the client stumbles with over an answer of another shape than it knows.
_STUMBLES = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError)
#: Of these, what `explain` has words for.
_FORESEEN = (json.JSONDecodeError, HFValidationError)


class AnswerError(ValueError):
    """The Hub gave an answer that is not of the shape it should have."""


def understood(request: Callable[[], T]) -> T:
    """Let the client ask and take the answer apart.

    Raises:
        AnswerError: It cannot.
        CLIENT_ERRORS: The request failed, was refused, or its answer is no JSON, as behind a broken gateway.
    """
    try:
        return request()
    except (*_STUMBLES, RuntimeError) as error:
        # The client puts a failed upload into a RuntimeError, and into a ValueError what the Hub says
        # against a card, with the refusal as its cause.
        *_, first = causes(error)
        if status_of(error) is not None or isinstance(first, _FORESEEN) or not isinstance(first, _STUMBLES):
            raise
        raise AnswerError(f"{type(error).__name__}: {error}") from error


def of_type(value: object, type_: type[T], what: str) -> T:
    """A part of an answer, which the client hands on as it came.

    Raises:
        AnswerError: It is of another type.
    """
    if not isinstance(value, type_) or (isinstance(value, bool) and type_ is not bool):
        raise AnswerError(f"{what} is {value!r:.60}, which is no {type_.__name__}")
    return value
