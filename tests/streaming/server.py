"""Files over plain HTTP on loopback, with faults at random from a seed, and a count of what was sent."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from ..loopback import LoopbackHandler, serving

#: What may go wrong with a request: an answer of this status, or what the word says.
ALL_FAULTS = (500, 503, 429, "drop", "hang up", "stall")
#: A stall ends with a broken connection, in case the client waits.
STALL_S = 1.0
PIECE_BYTES = 1 << 14
#: A line that is slow: the wait after each piece.
PIECE_PAUSE_S = 0.0


@dataclass
class Sent:
    """An answer: of which file, from which byte on, and how much of it was handed to the line so far."""

    path: str
    start: int
    num_bytes: int = 0


@dataclass
class FileServer:
    """A running server: what it has, what goes wrong, and its answers so far."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    #: Sent with every file.
    headers: dict[str, str] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)
    _rng: np.random.Generator | None = None
    _rate: float = 0.0
    _faults: Sequence[int | str] = ALL_FAULTS
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, name: str, content: bytes) -> str:
        """Serve a file; return its address."""
        self.files[f"/{name}"] = content
        return f"{self.url}/{name}"

    def fail(self, seed: int, rate: float, faults: Sequence[int | str] = ALL_FAULTS) -> None:
        """Let every request meet one of `faults` with probability `rate`."""
        self._rng, self._rate, self._faults = np.random.default_rng(seed), rate, faults

    def num_bytes(self, name: str = "") -> int:
        """Bytes of bodies sent so far, of all files whose name contains `name`."""
        return sum(sent.num_bytes for sent in list(self.sent) if name in sent.path)

    def draw(self) -> int | str | None:
        with self._lock:
            if self._rng is None or self._rng.random() >= self._rate:
                return None
            return self._faults[int(self._rng.integers(len(self._faults)))]


class _Handler(LoopbackHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server_state: FileServer

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server looks for
        state = self.server_state
        fault = state.draw()
        if fault == "hang up":
            return self.hang_up()
        if fault == "stall":
            time.sleep(STALL_S)
            return self.hang_up()
        if isinstance(fault, int):
            return self._answer(fault, b"", {"Retry-After": "0"})
        content = state.files.get(self.path)
        if content is None:
            return self._answer(404, b"", {})
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")) if state.ranges else None
        headers = {**state.headers, **({"Accept-Ranges": "bytes"} if state.ranges else {})}
        if asked is None:
            return self._answer(200, content, headers, broken=fault == "drop")
        start, end = int(asked[1]), min(int(asked[2] or len(content)) + 1, len(content))
        if start >= len(content):
            return self._answer(416, b"", headers)
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        return self._answer(206, content[start:end], headers, start=start, broken=fault == "drop")

    do_HEAD = do_GET  # noqa: N815

    def _answer(
        self, status: int, body: bytes, headers: dict[str, str], *, start: int = 0, broken: bool = False
    ) -> None:
        sent = Sent(self.path, start)
        self.server_state.sent.append(sent)  # before the client can know of the answer
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self._send(body[: len(body) // 2] if broken else body, sent)
        self.wfile.flush()
        if broken:
            self.hang_up()

    def _send(self, body: bytes, sent: Sent) -> None:
        """Send piece by piece, so that little is counted that a client who leaves never took."""
        for first in range(0, len(body), PIECE_BYTES):
            sent.num_bytes = min(first + PIECE_BYTES, len(body))  # before the client can have the piece
            self.wfile.write(body[first : first + PIECE_BYTES])
            if PIECE_PAUSE_S:
                time.sleep(PIECE_PAUSE_S)


@contextmanager
def serve_files() -> Iterator[FileServer]:
    """Run a server while the block lasts."""
    handler = type("Handler", (_Handler,), {})
    with serving(handler) as url:
        handler.server_state = state = FileServer(url)
        yield state
