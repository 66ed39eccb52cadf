"""How far a run is, told through a file of eight bytes beside its results.

Workers, launched processes and other machines all write the same way, whoever shows the bar only reads, and
nobody ever waits: a process killed at any instant leaves nothing that another one could hang on.
"""

from __future__ import annotations

import struct
import time
from pathlib import Path

_COUNT = struct.Struct("<q")
#: Seconds between two writes of the same run; steps may be far shorter.
_INTERVAL_S = 0.2


class TokenCount:
    """Says how many tokens a run has trained on; call it with the count so far as often as you like."""

    def __init__(self, folder: Path):
        self._file = folder / ".tokens"
        self._file.write_bytes(_COUNT.pack(0))
        self._written_at = time.monotonic()

    def __call__(self, num_tokens: int) -> None:
        """Write the count, unless the last one is fresh enough."""
        now = time.monotonic()
        if now - self._written_at >= _INTERVAL_S:
            self._written_at = now
            with self._file.open("r+b") as file:  # in place: a reader never finds the file empty
                file.write(_COUNT.pack(num_tokens))


def tokens_so_far(folder: Path) -> int:
    """Tokens that the run in `folder` was last heard to have trained on; 0 when it was never heard of."""
    file = folder / ".tokens"
    content = file.read_bytes() if file.exists() else b""
    return int(_COUNT.unpack(content)[0]) if len(content) == _COUNT.size else 0
