"""One file, wherever it lies, read from any byte on through connections that break."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import fsspec
from huggingface_hub import constants
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_after_attempt,
    stop_when_event_set,
    wait_random_exponential,
)

from regmix_hf.hub.retries import asked_wait_s, causes, is_passing

T = TypeVar("T")

#: Unit of the waits between two tries, seconds; they double from it, at random, up to 60 units.
WAIT_UNIT_S = 1.0
#: A connection on which nothing has come for so long is given up, seconds.
_SILENCE_S = 30.0
#: Bytes read and thrown away at once, where a position cannot be sought.
_SKIP_BYTES = 1 << 20
_PASSING_STATUS = {408, 425, 429}


#: How often one read is tried in all, as long as it fails for a reason that passes, of a file that was read
#: before: about ten minutes of waiting, on top of what the client itself waits.
PATIENT = 20
#: The same for the first look at a file: its address may be wrong, and whoever wrote it waits.
BRIEF = 5
#: The same for finding out what files there are, which takes many requests.
OPENING = 6


def open_bytes(address: str, attempts: int = PATIENT) -> io.RawIOBase:
    """Open a local path, `hf://` address or URL for reading, unbuffered and seekable.

    Raises:
        OSError: There is no such local file.
    """
    if "://" not in address:
        return Path(address).open("rb", buffering=0)
    return PatientFile(address, attempts)


class PatientFile(io.RawIOBase):
    """A remote file whose reads are requests for ranges of bytes, tried again when they fail.

    Nothing that came is asked for again: a read that fails is repeated alone, over a new connection. Where
    the server knows no ranges, going to a byte means to read up to it, once after every failure.

    Args:
        address: `hf://` or a URL; addresses of files on the Hub may be either.
        attempts: How often a read is tried. Closing the file ends the tries.
    """

    def __init__(self, address: str, attempts: int):
        self._address = _on_the_hub(address)
        self._attempts = attempts
        self._position = 0
        self._file: Any = None
        self._has_ranges = True
        self._given_up = threading.Event()

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can be read from any byte on."""
        return True

    def tell(self) -> int:
        """Return the byte that is read next."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte; nothing is asked of the server."""
        if whence == io.SEEK_CUR:
            offset += self._position
        elif whence == io.SEEK_END:
            offset += self._tried(lambda: int(self._open().size))
        self._position = offset
        return offset

    def readinto(self, buffer: Any) -> int:
        """Read up to `len(buffer)` bytes; 0 at the end of the file.

        Raises:
            OSError: The file is not there, may not be read, or the server failed too often.
        """
        found = self._tried(lambda: self._fetch(len(buffer)))
        buffer[: len(found)] = found
        self._position += len(found)
        return len(found)

    def close(self) -> None:
        """Close the connection; a read that waits for its next try, in another thread, fails now."""
        self._given_up.set()
        self._drop()
        super().close()

    def _fetch(self, size: int) -> bytes:
        file = self._open()
        if file.size is None:
            return self._fetch_in_order(file, size)
        wanted = max(0, min(size, file.size - self._position))
        if wanted == 0:
            return b""
        file.seek(self._position)
        try:
            found: bytes = file.read(wanted)
        except ValueError as error:
            if "range requests" not in str(error):  # as `fsspec` says where the answer is the whole file
                raise
            self._has_ranges = False
            self._drop()
            return self._fetch(size)
        if len(found) < wanted:
            raise ConnectionError(f"{self._address}: {len(found)} of {wanted} bytes came")
        return found

    def _fetch_in_order(self, file: Any, size: int) -> bytes:
        if file.loc > self._position:
            self._drop()
            file = self._open()
        while file.loc < self._position:
            if not file.read(min(_SKIP_BYTES, self._position - file.loc)):
                return b""
        found: bytes = file.read(size)
        return found

    def _open(self) -> Any:
        if self._file is None:
            client = {"trust_env": True, "timeout": aiohttp.ClientTimeout(None, None, _SILENCE_S, _SILENCE_S)}
            options = {"client_kwargs": client} if self._address.startswith("http") else {}
            system, path = fsspec.url_to_fs(self._address, **options)
            if self._has_ranges:
                self._file = system.open(path, "rb", cache_type="none")
            else:
                self._file = system.open(path, "rb", block_size=0)
        return self._file

    def _drop(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _tried(self, call: Callable[[], T]) -> T:
        return tried(call, self._attempts, given_up=self._given_up, before_next=self._drop)


def tried(
    call: Callable[[], T],
    attempts: int,
    *,
    given_up: threading.Event | None = None,
    before_next: Callable[[], None] = lambda: None,
) -> T:
    """Call until it succeeds, fails for good, or was tried often enough; raise its last error.

    Args:
        call: What to do.
        attempts: How often.
        given_up: Ends the tries, from another thread.
        before_next: Called between two tries.
    """
    given_up = given_up or threading.Event()
    retrying = Retrying(
        retry=retry_if_exception(may_pass),
        stop=stop_after_attempt(attempts) | stop_when_event_set(given_up),
        wait=_Wait(),
        sleep=sleep_using_event(given_up),
        before_sleep=lambda _: before_next(),
        reraise=True,
    )
    return retrying(call)


def may_pass(error: BaseException) -> bool:
    """Whether the same read may succeed a little later."""
    for cause in causes(error):
        if isinstance(cause, aiohttp.ClientResponseError):
            return cause.status >= 500 or cause.status in _PASSING_STATUS
        if isinstance(cause, aiohttp.InvalidURL):
            return False
        if isinstance(cause, aiohttp.ClientError | TimeoutError | ConnectionError):
            return True
    return is_passing(error)


class _Wait(wait_random_exponential):
    """What the server asks for, at most 60 units, else a random share of a doubling time."""

    def __init__(self) -> None:
        super().__init__(multiplier=WAIT_UNIT_S, max=60 * WAIT_UNIT_S)

    def __call__(self, retry_state: RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        asked = next(_asked_waits(error), None) if error is not None else None
        return super().__call__(retry_state) if asked is None else min(asked, 60.0) * WAIT_UNIT_S


def _asked_waits(error: BaseException) -> Iterator[float]:
    if (asked := asked_wait_s(error)) is not None:
        yield asked
    for cause in causes(error):
        if isinstance(cause, aiohttp.ClientResponseError) and cause.headers is not None:
            after = cause.headers.get("Retry-After", "").strip()
            if after.isdigit():
                yield float(after)


def _on_the_hub(address: str) -> str:
    """Read a file of the Hub through its own file system, which knows who asks."""
    start = constants.ENDPOINT.rstrip("/") + "/"
    if address.startswith(start) and "/resolve/" in address:
        return "hf://" + address.removeprefix(start).replace("/resolve/", "@", 1)
    return address
