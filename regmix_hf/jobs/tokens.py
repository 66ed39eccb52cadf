"""How far a task is and who does it, told through a small file beside its results.

Workers, launched processes and other machines all write the same way, whoever shows the bar only reads, and
nobody ever waits: a process killed at any instant leaves nothing that another one could hang on.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from regmix_hf.jobs.claims import Claim
from regmix_hf.study.names import TOKENS

#: Tokens so far; process id, start in seconds since 1970, and the host's name; seconds up to the last count.
_COUNT, _DOER, _SECONDS = struct.Struct("<q"), struct.Struct("<qd64s"), struct.Struct("<d")
#: Seconds between two writes of the same run; steps may be far shorter.
_INTERVAL_S = 0.2


@dataclass(frozen=True)
class Doer:
    """Who began a task last, and how far it got.

    Attributes:
        host: Name of the machine.
        pid: Of the process there.
        since: When it began, in seconds since 1970 by that machine's clock.
        tokens_per_second: Since then, up to the last count.
    """

    host: str
    pid: int
    since: float
    tokens_per_second: float


class TokenCount:
    """Says how many tokens a run has trained on; call it with the count so far as often as you like."""

    def __init__(self, folder: Path):
        self._file = folder / TOKENS
        doer = _DOER.pack(os.getpid(), time.time(), socket.gethostname().encode()[:64])
        self._file.write_bytes(_COUNT.pack(0) + doer + _SECONDS.pack(0.0))
        self._begun_at = self._written_at = time.monotonic()

    def __call__(self, num_tokens: int) -> None:
        """Write the count, unless the last one is fresh enough."""
        now = time.monotonic()
        if now - self._written_at >= _INTERVAL_S:
            self._written_at = now
            with self._file.open("r+b") as file:  # in place: a reader never finds the file empty
                file.write(_COUNT.pack(num_tokens))
                file.seek(_DOER.size, os.SEEK_CUR)
                file.write(_SECONDS.pack(now - self._begun_at))


def counting(held: Claim) -> Callable[[int], None]:
    """What says how far the task of a claim is; where that was lost, it ends whoever does the task."""
    count = TokenCount(held.folder)

    def on_tokens(num_tokens: int) -> None:
        held.check()
        count(num_tokens)

    return on_tokens


def tokens_so_far(folder: Path) -> int:
    """Tokens that the run in `folder` was last heard to have trained on; 0 when it was never heard of."""
    file = folder / TOKENS
    content = file.read_bytes() if file.exists() else b""
    return int(_COUNT.unpack_from(content)[0]) if len(content) >= _COUNT.size else 0


def doer_of(folder: Path) -> Doer | None:
    """Tell who began the task in `folder` last; `None` when nobody has, or version 0.1 did."""
    file = folder / TOKENS
    content = file.read_bytes() if file.exists() else b""
    if len(content) != _COUNT.size + _DOER.size + _SECONDS.size:
        return None
    pid, since, host = _DOER.unpack_from(content, _COUNT.size)
    (seconds,) = _SECONDS.unpack_from(content, _COUNT.size + _DOER.size)
    seconds = max(seconds, _INTERVAL_S)  # by that machine's own clock: others may be hours off
    return Doer(host.rstrip(b"\0").decode(errors="replace"), pid, since, tokens_so_far(folder) / seconds)
