"""Python processes for those who are no children of this one: a shell's or a daemon's, asked for at a door.

What a test starts itself is forked from a parent with the imports done (`tests/preloaded.py`); what a
script for a batch queue starts would be a new interpreter. So the script runs this file in its place,
which asks the test for the process, waits for it and ends as it does. When it is killed, what it asked
for is killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Door:
    """Where processes are asked for.

    Attributes:
        path: Of the socket.
        started: Every process, with its environment.
    """

    path: Path
    started: list[tuple[dict[str, str], subprocess.Popen[bytes]]] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    @property
    def command(self) -> list[str]:
        """What stands in a script for the interpreter."""
        return [sys.executable, "-S", "-E", __file__, str(self.path)]

    def listen(self, door: socket.socket) -> None:
        """Serve whoever comes, until the door is shut."""
        with contextlib.suppress(OSError):
            while True:
                self.in_thread(self._serve, door.accept()[0])

    def in_thread(self, work: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=work, args=arguments))
        self._threads[-1].start()

    def join(self) -> None:
        """End what was started, and wait for it."""
        for _, process in self.started:
            _kill(process)
        for thread in self._threads:
            thread.join()

    def _serve(self, asking: socket.socket) -> None:
        with asking:
            content, files, _, _ = socket.recv_fds(asking, 1 << 20, 2)
            asked = json.loads(content)
            process = subprocess.Popen(
                [sys.executable, *asked["argv"]],
                env=asked["environment"],
                cwd=asked["cwd"],
                stdin=subprocess.DEVNULL,
                stdout=files[0],
                stderr=files[1],
                start_new_session=True,
            )
            for file in files:
                os.close(file)
            self.started.append((asked["environment"], process))
            self.in_thread(_tell_end, process, asking)
            asking.recv(1)  # nothing is ever said: it returns when one of the two has ended
            _kill(process)
            process.wait()


@contextlib.contextmanager
def open_door(path: Path) -> Iterator[Door]:
    """Serve at `path` while the context lasts."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        door = Door(path)
        door.in_thread(door.listen, listening)
        try:
            yield door
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            door.join()


def _tell_end(process: subprocess.Popen[bytes], asking: socket.socket) -> None:
    code = process.wait()
    with contextlib.suppress(OSError):  # who asked is gone
        asking.send(bytes([code % 256]))
        asking.shutdown(socket.SHUT_RDWR)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def ask(path: str, argv: list[str]) -> int:
    """Have a process started; return its exit code once it has ended."""
    with socket.socket(socket.AF_UNIX) as door:
        door.connect(path)
        asked = {"argv": argv, "cwd": str(Path.cwd()), "environment": dict(os.environ)}
        socket.send_fds(door, [json.dumps(asked).encode()], [1, 2])
        return (door.recv(1) or b"\x01")[0]


if __name__ == "__main__":
    raise SystemExit(ask(sys.argv[1], sys.argv[2:]))
