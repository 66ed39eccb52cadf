"""Who does what: a task belongs to whoever holds the claim in its folder, and a dead holder holds nothing.

A claim is a lease: a file that only one process can make, which its holder changes again and again. Whoever
sees it unchanged for longer than `LEASE_S`, by a clock of his own, may take the next one, so clocks need not
agree. Where the file system has locks that keep others out (which is tried), the holder also has one, and on
the holder's own machine its death is known at once. A lease that was lost is never taken back: whoever stood
still for too long finds a later one when it looks, and leaves its work to that one's holder.
"""

from __future__ import annotations

import fcntl
import secrets
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from pathlib import Path

from regmix_hf.errors import TrainingError
from regmix_hf.study.names import LEASE, LOCK, ROOM

#: Seconds after which a lease that nobody changes has lost its holder.
LEASE_S = 60.0
_BEATS_PER_LEASE = 6
_RELEASED = "released"


class LostClaimError(TrainingError):
    """A claim went to somebody else, because its holder stood still for longer than a lease lasts."""


@dataclass(frozen=True)
class Lease:
    """The newest lease in a folder, as it is at this moment.

    Attributes:
        file: Its number is one more than that of the lease before it.
        content: Machine, holder and beat, in words; empty while it is being written.
    """

    file: Path
    content: str

    @classmethod
    def newest(cls, folder: Path) -> Lease | None:
        """Read the lease with the highest number; `None` when there never was one."""
        while True:
            file = max(folder.glob(f"{LEASE}-*"), default=None)
            if file is None:
                return None
            with suppress(FileNotFoundError):  # a newer one was made meanwhile, and this one cleared away
                return cls(file, file.read_text())

    @property
    def is_released(self) -> bool:
        """Whether its holder is done."""
        return self.content.endswith(_RELEASED)

    @property
    def is_of_here(self) -> bool:
        """Whether its holder runs, or ran, on this machine since that was started."""
        return self.content.split(" ")[0] == _machine()

    @property
    def number(self) -> int:
        """How many leases there were in its folder, this one included."""
        return int(self.file.name.rpartition("-")[2])


class Claim:
    """A claim that is held, until it is released or lost.

    Attributes:
        folder: What is claimed.
        number: Of the lease.
    """

    def __init__(self, lease: Lease, lock: ExitStack):
        self.folder, self.number = lease.file.parent, lease.number
        self._lease, self._lock = lease, lock
        self._ended, self._found_lost = threading.Event(), threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._heart.start()

    @property
    def is_lost(self) -> bool:
        """Whether somebody else holds it by now."""
        now = Lease.newest(self.folder)
        return now is None or now.file != self._lease.file or not now.content.startswith(self._lease.content)

    def check(self) -> None:
        """Make sure that it was still held at the last beat; costs nothing.

        Raises:
            LostClaimError: It was not.
        """
        if self._found_lost.is_set():
            raise LostClaimError(
                f"{self.folder} was left to somebody else: this process had stood still for more than "
                f"{LEASE_S:g} s.",
                "nothing is lost: run the same command again",
            )

    def check_now(self) -> None:
        """Make sure that it is held at this moment.

        Raises:
            LostClaimError: It is not.
        """
        if self.is_lost:
            self._found_lost.set()
        self.check()

    def room(self) -> Path:
        """Make a folder for this holder alone, or take over that of the one before with what is in it.

        It is taken by renaming it: what the one before has not brought out of it by then, it never will.
        """
        room, older = self.folder / f"{ROOM}-{self.number:06d}", sorted(self.folder.glob(f"{ROOM}-*"))
        if older:
            with suppress(FileNotFoundError):  # its holder is clearing up
                older.pop().rename(room)
        for one in older:
            shutil.rmtree(one, ignore_errors=True)
        room.mkdir(exist_ok=True)
        return room

    def release(self) -> None:
        """Let it go."""
        self._ended.set()
        self._heart.join()
        if not self.is_lost:
            self._write(_RELEASED)
        self._lock.close()

    def _beat(self) -> None:
        count = 0
        while not self._ended.wait(LEASE_S / _BEATS_PER_LEASE):
            with suppress(OSError):  # of a file system that is away for a moment: the next beat may succeed
                if self.is_lost:
                    self._found_lost.set()
                    return
                count += 1
                self._write(f"{count:08d}")

    def _write(self, beat: str) -> None:
        with self._lease.file.open("r+") as file:  # in place and of one length: nobody reads half of it
            file.write(f"{self._lease.content}{beat}")


def take(folder: Path, dead: str | None = None) -> Claim | None:
    """Try to claim `folder`; never waits.

    Args:
        folder: Of a task, or of whatever else one at a time may do; made when missing.
        dead: The content of a lease whose holder is known to be dead (`Watch.look` tells).

    Returns:
        The claim, to be released; `None` when somebody else holds it, or may yet.
    """
    folder.mkdir(parents=True, exist_ok=True)
    has_locks = locks_work(folder.parent)
    with ExitStack() as stack:
        if has_locks and not _lock(folder, stack):
            return None
        last = Lease.newest(folder)
        if last and not (last.is_released or last.content == dead or (has_locks and last.is_of_here)):
            return None
        number = last.number + 1 if last else 1
        lease = Lease(folder / f"{LEASE}-{number:06d}", f"{_machine()} {secrets.token_hex(8)} ")
        try:
            with lease.file.open("x") as file:
                file.write(f"{lease.content}{0:08d}")
        except FileExistsError:
            return None
        if last:
            last.file.unlink(missing_ok=True)
        return Claim(lease, stack.pop_all())


@contextmanager
def claim(folder: Path, dead: str | None = None) -> Iterator[Claim | None]:
    """Try to claim the task in `folder` while the context lasts, as `take` does."""
    held = take(folder, dead)
    try:
        yield held
    finally:
        if held is not None:
            held.release()


class Standing(Enum):
    """How a claim stands, for one who looks from outside."""

    FREE = "nobody holds it"
    ALIVE = "its holder was seen to live"
    UNSURE = "its holder was not seen for long enough"


@dataclass
class Watch:
    """What one process has seen of the claims of others."""

    #: Folder -> content of the lease, since when it is so, and whether it was another one before.
    _seen: dict[Path, tuple[str, float, bool]] = field(default_factory=dict)

    def look(self, folder: Path) -> tuple[Standing, str | None]:
        """Tell how the claim on `folder` stands, and the lease of a dead holder, for `take`."""
        last = Lease.newest(folder) if folder.exists() else None
        if last is None or last.is_released:
            self._seen.pop(folder, None)
            return Standing.FREE, None
        if last.is_of_here and locks_work(folder.parent):
            with ExitStack() as stack:
                if _lock(folder, stack):
                    return Standing.FREE, None
        now = time.monotonic()
        content, since, is_alive = self._seen.get(folder, (last.content, now, False))
        if content != last.content:
            since, is_alive = now, True
        self._seen[folder] = last.content, since, is_alive
        if now - since > LEASE_S:
            return Standing.FREE, last.content
        return (Standing.ALIVE if is_alive else Standing.UNSURE), None

    @contextmanager
    def claim(self, folder: Path) -> Iterator[Claim | None]:
        """Like `claim`, for one who has to wait until it is known whether a holder lives."""
        standing, dead = self.look(folder)
        while standing is Standing.UNSURE:
            time.sleep(LEASE_S / _BEATS_PER_LEASE / 4)
            standing, dead = self.look(folder)
        with claim(folder, dead) as held:
            yield held


@cache
def locks_work(folder: Path) -> bool:
    """Try whether a lock on a file in `folder` keeps a second one out."""
    with (
        tempfile.NamedTemporaryFile(dir=folder, prefix=f"{LOCK}-") as first,
        Path(first.name).open() as second,
    ):
        try:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        return False


def _lock(folder: Path, stack: ExitStack) -> bool:
    """Lock `folder` until `stack` is closed, or this process dies; tell whether it was free."""
    file = stack.enter_context((folder / LOCK).open("a"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@cache
def _machine() -> str:
    """Name this machine since its start: what holds a lock on another one may be seen here or not."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return boot.read_text().strip() if boot.exists() else f"{uuid.getnode():x}"
