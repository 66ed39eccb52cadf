"""`accelerate launch` as a place to run jobs: started, watched, ended with its parent, failures explained."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, TypeAlias

from regmix_hf.errors import TrainingError
from regmix_hf.jobs.accelerate_config import config_flags
from regmix_hf.jobs.devices import Slot, cuda_devices, num_cores, unlaunched
from regmix_hf.jobs.finals import FinalWork, fitted
from regmix_hf.jobs.pool import ended, last_lines
from regmix_hf.jobs.results import result_of, status_of
from regmix_hf.jobs.tasks import Task
from regmix_hf.jobs.tokens import tokens_so_far
from regmix_hf.progress import Bar, Progress
from regmix_hf.readable import count_of
from regmix_hf.recipe import Train
from regmix_hf.training.device import uses_cpu

#: Set for a launched process whose standard input stays open for as long as its parent lives.
ENDS_WITH_STDIN = "REGMIX_ENDS_WITH_STDIN"
_LOOK_INTERVAL_S = 0.3
#: Seconds a launch gets to end once its standard input is closed.
_GRACE_S = 10.0


@dataclass(frozen=True)
class Launch:
    """One call of `accelerate launch`.

    Attributes:
        flags: Of `accelerate launch` itself.
        module: What every rank runs.
        arguments: Of the module.
        environment: Of the launcher and all ranks.
        log: What all of them print.
    """

    flags: tuple[str, ...]
    module: str
    arguments: tuple[str, ...]
    environment: dict[str, str]
    log: Path

    @property
    def command(self) -> list[str]:
        """The command line."""
        launcher = [sys.executable, "-m", "accelerate.commands.launch", "--quiet"]
        return [*launcher, *self.flags, "-m", self.module, *self.arguments]


class Launched(Protocol):
    """A launch under way."""

    def poll(self) -> int | None:
        """Return the exit code, `None` while it runs."""

    def stop(self) -> None:
        """End it, if it still runs, with all its ranks."""


#: Starts a launch and returns at once; tests put their own in the place of `AccelerateLaunch.start`.
Launcher: TypeAlias = Callable[[Launch], Launched]


class AccelerateLaunch:
    """A launch in processes of its own, which end when this process does, however it ends."""

    def __init__(self, process: subprocess.Popen[bytes]):
        self._process = process

    @classmethod
    def start(cls, launch: Launch) -> Self:
        """Start `launch`; its ranks inherit a standard input that closes when this process dies."""
        launch.log.parent.mkdir(parents=True, exist_ok=True)
        with launch.log.open("w") as log:
            process = subprocess.Popen(
                launch.command,
                env={**launch.environment, ENDS_WITH_STDIN: "1"},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        return cls(process)

    def poll(self) -> int | None:
        """Return the exit code, `None` while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Close the ranks' standard input, which ends them, and see the launcher out."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@dataclass(frozen=True)
class Launches:
    """Launches of `accelerate` on this machine; a `regmix_hf.jobs.place.Place` for final runs.

    Attributes:
        train: The recipe's section, which says how many there are and how they are laid out.
        logs: Folder for what they print.
        start: What starts one.
        stays: Whether they stay until others have ended the runs that they are at.
    """

    train: Train
    logs: Path
    start: Launcher = AccelerateLaunch.start
    stays: bool = True

    def run(self, tasks: Sequence[Task[Any]], work: FinalWork, progress: Progress) -> Counter[str]:
        """Do all tasks that have no result yet (see `Place.run`).

        A run that did not fit into memory is tried again with fewer blocks at once.

        Raises:
            TrainingError: A launch failed; what it said is in the message. Finished runs stay.
        """
        while open_ := [task for task in tasks if result_of(task) is None]:
            before = {task.name: fitted(task).micro_batch for task in open_}
            try:
                self._launch(tasks, len(open_), work, progress)
                break
            except TrainingError:
                sizes = {task.name: (before[task.name], fitted(task).micro_batch) for task in open_}
                halved = {name: pair for name, pair in sizes.items() if pair[1] < pair[0]}
                if not halved:
                    raise
                for name, (many, few) in halved.items():
                    progress.note(f"{name}: {many} blocks at once did not fit into memory; trying {few}")
        return Counter(status for task in tasks if (status := status_of(task)))

    def _launch(self, tasks: Sequence[Task[Any]], num_open: int, work: FinalWork, progress: Progress) -> None:
        module, *arguments = work.command
        layout = layouts(self.train, num_open)
        if self.stays or len(layout) > 1:  # of several side by side each does the runs of one that dies
            arguments.append("executor.wait=true")
        here = f"{socket.gethostname()}-{os.getpid()}"  # no other machine or process names a log so
        launches = [
            Launch(flags, module, tuple(arguments), environment, self.logs / f"launch-{here}-{k}.log")
            for k, (flags, environment) in enumerate(layout)
        ]
        watch(launches, tasks, start=self.start, progress=progress)
        for launch in launches:  # they ended well
            launch.log.unlink(missing_ok=True)


def layouts(train: Train, num_runs: int) -> list[tuple[tuple[str, ...], dict[str, str]]]:
    """Decide how many launches there are side by side, with which flags, in which environment each.

    With an `accelerate_config` there is one, as it says. On GPUs there is one as accelerate decides, by
    default over all of them, or `num_workers` that share them out. On a CPU there are as many as
    `num_workers`, cores and runs allow, of one thread each: for small models that is faster than threads, and
    the numbers stay the same everywhere.

    Raises:
        TrainingError: The `accelerate_config` is not there, or asks for GPUs that are not.
    """
    if train.accelerate_config is not None:
        return [(config_flags(train.accelerate_config), unlaunched(os.environ))]
    devices = [] if uses_cpu(train.training_args) else cuda_devices()
    if not devices:
        count = min(train.num_workers or num_cores(), num_runs)
        flags = ("--cpu", "--num_processes", "1", "--num_machines", "1", "--mixed_precision", "no")
        return [((*flags, "--dynamo_backend", "no"), Slot().environment())] * count
    count = min(train.num_workers or 1, len(devices), num_runs)
    if count == 1:
        return [((), unlaunched(os.environ))]
    return [_share(devices[k::count]) for k in range(count)]


def _share(devices: list[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Flags and environment of a launch on some of the GPUs, beside other launches."""
    several = ("--multi_gpu",) if len(devices) > 1 else ()
    flags = (*several, "--num_processes", str(len(devices)), "--main_process_port", "0")
    return flags, {**unlaunched(os.environ), "CUDA_VISIBLE_DEVICES": ",".join(devices)}


def watch(
    launches: Sequence[Launch], tasks: Sequence[Task[Any]], *, start: Launcher, progress: Progress
) -> None:
    """Start `launches`, show how far `tasks` are, return when all launches have ended well.

    Tasks that have no result then are left to others.

    Raises:
        TrainingError: A launch failed and left a task without result; the message holds what it said last.
    """
    remaining = [task for task in tasks if result_of(task) is None]
    total = sum(task.num_tokens for task in remaining)
    with (
        ExitStack() as stack,
        progress.bar(count_of(len(remaining), "run"), total=total, unit="tokens") as bar,
    ):
        started = []
        for launch in launches:
            launched = start(launch)
            stack.callback(launched.stop)
            started.append(launched)
        while any(launched.poll() is None for launched in started):
            _show(bar, remaining)
            time.sleep(_LOOK_INTERVAL_S)
        _show(bar, remaining)
    if any(result_of(task) is None for task in tasks):
        for launch, launched in zip(launches, started, strict=True):
            if code := launched.poll():
                raise TrainingError(
                    f"a final run stopped {ended(code)}: {_said(launch.log)}", f"all of it is in {launch.log}"
                )


def _show(bar: Bar, tasks: Sequence[Task[Any]]) -> None:
    """Show tokens trained on so far, and the runs that are done."""
    done = {task.name: task.num_tokens for task in tasks if result_of(task) is not None}
    running = [min(tokens_so_far(t.folder), t.num_tokens) for t in tasks if t.name not in done]
    bar.update(sum(done.values()) + sum(running), detail=f"done: {', '.join(done)}" if done else "")


def _said(log: Path) -> str:
    """What the launched process said was wrong: its own message, else the end of its log."""
    lines = log.read_text(errors="replace").splitlines()
    starts = [k for k, line in enumerate(lines) if line.startswith("regmix: ")]
    if not starts:
        return "\n" + last_lines(log)
    first = starts[-1]
    message = [lines[first].removeprefix("regmix: ")]
    for line in lines[first + 1 :]:
        if not line.startswith("  "):
            break
        message.append(line)
    return "\n".join(message)
