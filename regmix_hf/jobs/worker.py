"""A worker process: does one task after the other for the pool that started it, and dies with it.

Started as `python -m regmix_hf.jobs.worker FD`, where `FD` is one end of a `multiprocessing.Pipe`.
"""

from __future__ import annotations

import errno
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from regmix_hf.errors import RegmixError
from regmix_hf.jobs.claims import claim
from regmix_hf.jobs.tasks import Elsewhere, Message, Ready, Refused, Settled, Task, Work


def main(file_descriptor: int) -> None:
    """Serve the pool at the other end of the pipe until it closes it or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the pool decides
    connection: Connection = Connection(file_descriptor)
    work: Work = connection.recv()
    inbox: queue.SimpleQueue[Task] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, inbox), daemon=True).start()
    try:
        do = work.open()
    except RegmixError as error:
        connection.send(Refused(error))
        return
    connection.send(Ready())
    while True:
        connection.send(_serve(inbox.get(), work, do))


def _listen(connection: Connection, inbox: queue.SimpleQueue[Task]) -> None:
    """Take tasks from the pool; when it is gone, end this process at once, whatever it is doing."""
    while True:
        try:
            inbox.put(connection.recv())
        except (EOFError, OSError):
            os._exit(0)


def _serve(task: Task, work: Work, do: Callable[[Task], None]) -> Message:
    try:
        with claim(task.folder) as granted:
            if not granted:
                return Elsewhere()
            status = work.status(task)  # it may have been done between the pool's look and the claim
            return Settled(status or _attempt(task, work, do))
    except (RegmixError, OSError) as error:
        return Refused(error)


def _attempt(task: Task, work: Work, do: Callable[[Task], None]) -> str:
    """Do the task, or record why it failed; return how it ended.

    Raises:
        RegmixError: Something the user must mend; it would fail every other task too.
        OSError: The disk is full.
    """
    try:
        do(task)
        status = work.status(task)
        if status is None:
            raise RuntimeError("it ended without a result")
    except RegmixError:
        raise
    except Exception as error:
        traceback.print_exc()
        if is_full_disk(error, task.folder):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(task.folder)) from error
        work.fail(task, f"{type(error).__name__}: {error}")
        return "failed"
    return status


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
