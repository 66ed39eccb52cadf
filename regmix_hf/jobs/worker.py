"""A worker process: does one task after the other for the pool that started it, and dies with it.

Started as `python -m regmix_hf.jobs.worker FD`, where `FD` is one end of a `multiprocessing.Pipe`. An
exception ends it too: after some errors of a GPU all that follows in the same process fails.
"""

from __future__ import annotations

import errno
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from regmix_hf.errors import RegmixError
from regmix_hf.jobs.claims import Claim, LostClaimError, claim
from regmix_hf.jobs.messages import Assignment, Elsewhere, Message, Raised, Ready, Refused, Settled
from regmix_hf.jobs.results import bring, is_done_in, status_of
from regmix_hf.jobs.tasks import Do, OutOfMemoryError, Task, Work
from regmix_hf.jobs.tokens import counting
from regmix_hf.study.names import LOG


def main(file_descriptor: int) -> None:
    """Serve the pool at the other end of the pipe until it closes it or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the pool decides
    connection: Connection = Connection(file_descriptor)
    work: Work[Any] = connection.recv()
    inbox: queue.SimpleQueue[Assignment] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, inbox), daemon=True).start()
    try:
        do = work.open()
    except RegmixError as error:
        connection.send(Refused(error))
        return
    connection.send(Ready())
    while True:
        message = _serve(inbox.get(), do)
        connection.send(message)
        if isinstance(message, Raised):
            os._exit(1)


def _listen(connection: Connection, inbox: queue.SimpleQueue[Assignment]) -> None:
    """Take tasks from the pool; when it is gone, end this process at once, whatever it is doing."""
    while True:
        try:
            inbox.put(connection.recv())
        except (EOFError, OSError):
            os._exit(0)


def _serve(assignment: Assignment, do: Do[Any]) -> Message:
    task = assignment.task
    try:
        with claim(task.folder, assignment.dead) as held:
            if held is None:
                return Elsewhere()
            status = status_of(task)  # it may have been done between the pool's look and the claim
            return Settled(status) if status else _attempt(task, do, held)
    except LostClaimError:
        return Elsewhere()
    except (RegmixError, OSError) as error:
        return Refused(error)


def _attempt(task: Task[Any], do: Do[Any], held: Claim) -> Message:
    """Do the task and say how it ended; what it prints is kept beside its result when it did not end well.

    Raises:
        RegmixError: Something the user must mend; it would fail every other task too.
        LostClaimError: Somebody else has it by now.
        OSError: The disk is full.
    """
    log, room, on_tokens = task.folder / LOG, held.room(), counting(held)
    try:
        with _printing_into(log):
            try:
                if not is_done_in(room, task):  # by one who died before it was recorded
                    do(task.spec, room, on_tokens)
                status = bring(task, room, held)
            except Exception:
                traceback.print_exc()
                raise
        if status is None:
            raise RuntimeError("it ended without a result")
    except RegmixError:
        raise
    except Exception as error:
        held.check_now()  # else whoever has it by now has taken what it needed
        if is_full_disk(error, task.folder):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(task.folder)) from error
        return Raised(f"{type(error).__name__}: {error}", isinstance(error, OutOfMemoryError))
    log.unlink(missing_ok=True)
    return Settled(status)


@contextmanager
def _printing_into(log: Path) -> Iterator[None]:
    """Put what this process and its children print at the end of `log` while the context lasts."""
    streams = (sys.stdout, sys.stderr)
    before = [os.dup(stream.fileno()) for stream in streams]
    with log.open("ab") as file:
        for stream in streams:
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    try:
        yield
    finally:
        for stream, descriptor in zip(streams, before, strict=True):
            stream.flush()
            os.dup2(descriptor, stream.fileno())
            os.close(descriptor)


def is_full_disk(error: BaseException | None, folder: Path) -> bool:
    """Tell whether the disk of `folder` is full: libraries wrap the operating system's error in their own."""
    full = (errno.ENOSPC, errno.EDQUOT)
    while error is not None:
        if (isinstance(error, OSError) and error.errno in full) or os.strerror(errno.ENOSPC) in str(error):
            return True
        error = error.__cause__ or error.__context__
    return os.statvfs(folder).f_bavail == 0


if __name__ == "__main__":
    main(int(sys.argv[1]))
