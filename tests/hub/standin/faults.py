"""What goes wrong between a client and the stand-in Hub, by script or at random from a seed."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto

import numpy as np


class Moment(StrEnum):
    """When a fault strikes, and what it does."""

    #: The request is answered with an error, and nothing is done.
    REFUSED = auto()
    #: The connection breaks while the request's body is on its way, and nothing is done.
    DROPPED_UPLOAD = auto()
    #: The work is done and the connection breaks before the first byte of the answer.
    LOST_REPLY = auto()
    #: The work is done and the connection breaks in the middle of the answer's body.
    DROPPED_BODY = auto()
    #: The work is done and answered; something else happens before it, see `Fault.action`.
    BEFORE = auto()
    #: The same, after the work and before the answer.
    AFTER = auto()


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong with one request."""

    moment: Moment
    status: int = 0
    retry_after: str | int | None = None
    message: str = "injected fault"
    action: Callable[[], None] | None = None

    @classmethod
    def refused(
        cls, status: int, *, retry_after: str | int | None = None, message: str = "injected fault"
    ) -> Fault:
        """Answer with an error."""
        return cls(Moment.REFUSED, status, retry_after, message)

    @property
    def name(self) -> str:
        """How tests call it."""
        return str(self.status) if self.moment is Moment.REFUSED else str(self.moment)


#: Everything that may happen to any request. Waits are short so that many of them fit into a test.
ALL = (
    Fault.refused(401),
    Fault.refused(403),
    Fault.refused(404),
    Fault.refused(409),
    Fault.refused(412),
    Fault.refused(429, retry_after=0),
    Fault.refused(500),
    Fault.refused(503),
    Fault(Moment.DROPPED_UPLOAD),
    Fault(Moment.LOST_REPLY),
    Fault(Moment.DROPPED_BODY),
)


@dataclass
class _Script:
    pattern: re.Pattern[str]
    fault: Fault
    skip: int
    times: int


@dataclass
class _Chance:
    rng: np.random.Generator
    rate: float
    faults: Sequence[Fault]


@dataclass
class Faults:
    """The plan: which of the coming requests meet which fault."""

    _scripts: list[_Script] = field(default_factory=list)
    _chance: _Chance | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def script(self, request: str, fault: Fault, *, skip: int = 0, times: int = 1) -> None:
        """Let `times` requests after the first `skip` meet `fault`.

        Args:
            request: Regular expression searched in `METHOD /path`, e.g. `POST .*/commit/`.
        """
        self._scripts.append(_Script(re.compile(request), fault, skip, times))

    def at_random(self, seed: int, rate: float, faults: Sequence[Fault] = ALL) -> None:
        """Let every request meet one of `faults` with probability `rate`."""
        self._chance = _Chance(np.random.default_rng(seed), rate, faults)

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        self._scripts.clear()
        self._chance = None

    @property
    def pending(self) -> bool:
        """Whether a scripted fault has not struck yet."""
        return any(script.times > 0 for script in self._scripts)

    def draw(self, request: str) -> Fault | None:
        """Say what goes wrong with this request."""
        with self._lock:
            for script in self._scripts:
                if script.times == 0 or not script.pattern.search(request):
                    continue
                if script.skip > 0:
                    script.skip -= 1
                    continue
                script.times -= 1
                return script.fault
            chance = self._chance
            if chance is not None and chance.rng.random() < chance.rate:
                return chance.faults[int(chance.rng.integers(len(chance.faults)))]
        return None
