"""What a failed request means to the person who made it, without the token in any word of it."""

from __future__ import annotations

import json

from huggingface_hub import get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx

from regmix_hf.errors import HubError, UnreachableError
from regmix_hf.hub.answers import AnswerError
from regmix_hf.hub.repository import Repository
from regmix_hf.hub.retries import asked_wait_s, causes

_LOG_IN = "run `hf auth login`, or set HF_TOKEN"
_AGAIN = "run the same command again: what is done is not done twice"
_LONGEST = 500


def explain(error: BaseException, repository: Repository, endpoint: str) -> HubError:
    """Turn what the client raised into one message and what to do.

    Raise the result `from None`: the client's own errors may repeat what a server said, and hold the request
    with its headers.
    """
    if isinstance(error, json.JSONDecodeError):
        message = f"{repository}: the Hub is out of order: its answer is no JSON."
        return UnreachableError(message, f"later, {_AGAIN}")
    if isinstance(error, AnswerError):
        return HubError(
            f"{repository}: what {endpoint} answers is not what a Hub does: {_said(error)}",
            "look whether HF_ENDPOINT is the address of a Hub, and whether there is a newer huggingface_hub",
        )
    if isinstance(error, ValueError):
        # The client itself says what is wrong, e.g. with the metadata of a card.
        return HubError(f"{repository}: {_said(error)}")
    for cause in causes(error):
        if isinstance(cause, OfflineModeIsEnabled):
            return HubError(f"{repository} cannot be reached: HF_HUB_OFFLINE is set.", "unset HF_HUB_OFFLINE")
        if isinstance(cause, HfHubHTTPError):
            return _explain_answer(cause, repository)
        if isinstance(cause, httpx.TransportError):
            return UnreachableError(
                f"{endpoint} cannot be reached: {_said(cause)}", f"when there is a network, {_AGAIN}"
            )
    return HubError(f"{repository}: {': '.join(_said(cause) for cause in causes(error))}")


def is_unknown_token(error: HfHubHTTPError) -> bool:
    """Whether the Hub refuses the token itself, e.g. because it has expired."""
    return error.response.status_code == 401 and get_token() is not None


def _explain_answer(error: HfHubHTTPError, repository: Repository) -> HubError:
    if isinstance(error, GatedRepoError):
        return HubError(
            f"{repository} is gated: its owner lets in whoever has accepted the terms.",
            f"accept them on its page while you are logged in, then {_LOG_IN}",
        )
    status = error.response.status_code
    said = _said(error.server_message or f"the Hub answered {status}")
    if is_unknown_token(error):
        return HubError(f"{repository}: the Hub does not take your token: {said}", _LOG_IN)
    if isinstance(error, RevisionNotFoundError):
        return HubError(
            f"{repository} has no such revision: {said}", "name a branch, a tag or a commit of it"
        )
    if isinstance(error, RemoteEntryNotFoundError):
        return HubError(f"{repository} has no such file: {said}")
    if isinstance(error, RepositoryNotFoundError):
        hint = _LOG_IN if get_token() is None else "if it is private, log in as somebody who may see it"
        return HubError(f"{repository} does not exist, or it is private and not yours to see.", hint)
    if status == 401:
        return HubError(f"{repository}: you are not logged in.", _LOG_IN)
    if status == 403:
        hint = f"use a token with write access to {repository.namespace!r}, or another namespace"
        return HubError(f"{repository}: no permission: {said}", hint)
    if status == 429:
        asked = asked_wait_s(error)
        when = "later" if asked is None else f"in {asked:.0f} s"
        return UnreachableError(
            f"{repository}: the Hub limits how much you may ask: {said}", f"{when}, {_AGAIN}"
        )
    if status in (409, 412):
        return HubError(f"{repository}: others change it all the time: {said}", f"later, {_AGAIN}")
    if status >= 500:
        return UnreachableError(
            f"{repository}: the Hub is out of order (status {status}).", f"later, {_AGAIN}"
        )
    return HubError(f"{repository}: the Hub refused (status {status}): {said}")


def _said(error: object) -> str:
    return without_token(str(error) or type(error).__name__)[:_LONGEST]


def without_token(text: str) -> str:
    """The text with the token of this session made unreadable, wherever it came from."""
    token = get_token()
    return text.replace(token, "<token>") if token else text
