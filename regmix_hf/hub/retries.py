"""Which failures of a request pass by themselves, and how long to wait before the next try."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential
from tenacity.stop import stop_base

T = TypeVar("T")

#: What the client raises when a request fails, when a server answers nonsense, or when a local file fails.
CLIENT_ERRORS = (httpx.HTTPError, OSError, ValueError, RuntimeError)

_SECONDS = re.compile("[0-9]{1,9}")
_RESET = re.compile("(?:^|;) *t=([0-9]{1,9})(?![0-9])")
_PASSING_STATUS = {408, 425, 429}
_RACE_STATUS = {409, 412}


@dataclass(frozen=True)
class Patience:
    """How long to go on when requests fail.

    Attributes:
        attempts: Tries of one request in all, as long as it fails for a reason that passes (408, 425, 429,
            5xx, a broken connection). The client library tries some of its requests up to six times in each.
        races: How often somebody else may commit first before giving up.
        max_wait_s: The longest wait between two tries, seconds; if the Hub asks for a longer one, that is an
            error.
    """

    attempts: int = 6
    races: int = 200
    max_wait_s: float = 330.0


class RaceError(Exception):
    """Somebody else changed the repository between our look and our change."""


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from. The client wraps failures of an upload or a download."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__


def status_of(error: BaseException) -> int | None:
    """The HTTP status behind an error, `None` when there was no answer."""
    for cause in causes(error):
        if isinstance(cause, HfHubHTTPError):
            return cause.response.status_code
    return None


def is_passing(error: BaseException) -> bool:
    """Whether the same request may succeed a little later. It may also have been carried out already."""
    status = status_of(error)
    if status is not None:
        return status >= 500 or status in _PASSING_STATUS
    for cause in causes(error):
        if isinstance(cause, OfflineModeIsEnabled | httpx.UnsupportedProtocol | httpx.ProxyError):
            return False
        # A gateway that is down answers in HTML, which the client takes for JSON.
        if isinstance(cause, httpx.TransportError | json.JSONDecodeError):
            return True
    return False


def is_race(error: BaseException) -> bool:
    """Whether somebody else was first, says the Hub."""
    return isinstance(error, RaceError) or status_of(error) in _RACE_STATUS


def asked_wait_s(error: BaseException) -> float | None:
    """The seconds the Hub asked to wait for, if it did, by `Retry-After` or by `t=` in `RateLimit`."""
    for cause in causes(error):
        if isinstance(cause, HfHubHTTPError):
            headers = cause.response.headers
            asked = str(headers.get("retry-after", "")).strip()
            if _SECONDS.fullmatch(asked):
                return float(asked)
            if asked:
                return _seconds_until(asked)
            if cause.response.status_code == 429:
                reset = _RESET.search(str(headers.get("ratelimit", "")))
                return float(reset[1]) if reset else None
    return None


def _seconds_until(date: str) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return None
    return max(0.0, (moment - datetime.now(moment.tzinfo or UTC)).total_seconds())


def repeating(
    call: Callable[[], T], patience: Patience, say: Callable[[str], None], *, races: bool = False
) -> T:
    """Call until it succeeds, fails for good, or patience ends; the last error is raised as it came.

    Args:
        call: What to do. It is called again as a whole, so it has to look first what was done already.
        patience: How often and how long.
        say: Gets one line for every wait.
        races: Call again, too, when somebody else was first.
    """

    def again(error: BaseException) -> bool:
        asked = asked_wait_s(error)
        if asked is not None and asked > patience.max_wait_s:
            return False
        return is_passing(error) or (races and is_race(error))

    def tell(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if error is not None and not is_race(error) and state.next_action is not None:
            reason = status_of(error) or type(error).__name__
            wait_s = state.next_action.sleep
            say(f"The Hub did not answer as it should ({reason}); next try in {wait_s:.0f} s.")

    retrying = Retrying(
        retry=retry_if_exception(again),
        stop=_OutOfPatience(patience),
        wait=_Wait(),
        before_sleep=tell,
        reraise=True,
    )
    return retrying(call)


class _OutOfPatience(stop_base):
    """Counts lost races apart from failures: each lost race means that somebody else got on."""

    def __init__(self, patience: Patience):
        self._left = {True: patience.races, False: patience.attempts}

    def __call__(self, retry_state: RetryCallState) -> bool:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        race = error is not None and is_race(error)
        self._left[race] -= 1
        return self._left[race] <= 0


class _Wait(wait_random_exponential):
    """What the Hub asks for, else a random share of a doubling time, which is short after a lost race."""

    def __init__(self) -> None:
        super().__init__(multiplier=1.0, max=30.0)
        self._after_race = wait_random_exponential(multiplier=0.1, max=2.0)

    def __call__(self, retry_state: RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        if error is not None and is_race(error):
            return self._after_race(retry_state)
        asked = asked_wait_s(error) if error is not None else None
        if asked is None:
            return super().__call__(retry_state)
        # Whoever was told to wait was told so together with others.
        return asked + random.uniform(0.0, 1.0)
