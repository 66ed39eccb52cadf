"""The processes of one launch, seen from inside: they do one task after the other, all of them together."""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from regmix_hf.errors import TrainingError
from regmix_hf.jobs.claims import Claim, Standing, Watch, claim
from regmix_hf.jobs.finals import FinalWork, did_not_fit, fitted, make_ready
from regmix_hf.jobs.results import result_of
from regmix_hf.jobs.tasks import OutOfMemoryError, Task
from regmix_hf.jobs.tokens import counting
from regmix_hf.study.names import MICRO_BATCH
from regmix_hf.training.spec import RunSpec

if TYPE_CHECKING:
    import psutil

_T = TypeVar("_T")
#: Seconds between two looks at runs that others have claimed, and at whether the launcher lives.
_LOOK_INTERVAL_S = 1.0


class Ranks:
    """The processes of one launch. The first one decides; the others do as they are told.

    Args:
        use_cpu: As in the training arguments.
        timeout_s: How long a rank waits for the others.
    """

    def __init__(self, *, use_cpu: bool, timeout_s: float):
        self.is_first = True
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self._are_several = self.count > 1
        if self._are_several:
            import torch
            from accelerate import PartialState

            cpu = use_cpu or not torch.accelerator.is_available()  # as the trainer will decide
            state = PartialState(cpu=cpu, timeout=timedelta(seconds=timeout_s))
            self.is_first = state.is_main_process

    def tell(self, value: _T) -> _T:
        """Return the first rank's `value`, in every rank; all of them must call this."""
        if not self._are_several:
            return value
        from accelerate.utils import broadcast_object_list

        box = [value]
        broadcast_object_list(box)
        return box[0]

    def part(self) -> None:
        """End the group, once every rank is here: threads of it that are left at exit abort the process."""
        if self._are_several:
            from accelerate import PartialState

            state = PartialState()
            state.wait_for_everyone()
            state.destroy_process_group()


def do_together(tasks: Sequence[Task[RunSpec]], work: FinalWork, ranks: Ranks, *, stays: bool) -> None:
    """Do the tasks that have no result yet and that nobody else has claimed.

    Args:
        tasks: Final runs; every rank calls this with the same ones.
        work: How they are done.
        ranks: Of this launch.
        stays: Whether they stay until all have a result, or leave the living alone with what they are at.

    Raises:
        TrainingError: A model cannot be built or trained as asked, or does not fit into memory.
    """
    do, by_name, watch = work.open(), {task.name: task for task in tasks}, Watch()
    while names := ranks.tell([task.name for task in tasks if result_of(task) is None]):
        choice = _claim_first([by_name[name] for name in names], watch) if ranks.is_first else nullcontext()
        with choice as held:
            name = ranks.tell(held.folder.name if held else None)
            if name is None:
                looks = (watch.look(by_name[name].folder)[0] for name in names)
                if ranks.tell(not stays and all(standing is Standing.ALIVE for standing in looks)):
                    return
                time.sleep(_LOOK_INTERVAL_S)
                continue
            task = by_name[name]
            spec = ranks.tell(fitted(task))
            try:
                # The first rank alone says how far the run is.
                do(spec, task.folder, counting(held) if held else lambda num_tokens: None)
            except OutOfMemoryError as error:
                raise did_not_fit(task, spec, ranks.count, str(error)) from error
            if ranks.is_first:
                if result_of(task) is None:
                    raise TrainingError(f"the run {name} ended without a result in {task.folder}.")
                (task.folder / MICRO_BATCH).unlink(missing_ok=True)


@contextmanager
def _claim_first(tasks: Sequence[Task[RunSpec]], watch: Watch) -> Iterator[Claim | None]:
    """Claim the first of these runs that is free, ready its folder, and yield the claim, or `None`."""
    for task in tasks:
        _, dead = watch.look(task.folder)
        with claim(task.folder, dead) as held:
            if held and result_of(task) is None:
                make_ready(task)
                yield held
                return
    yield None


def end_with_stdin() -> None:
    """End this process at once when its standard input is closed: whoever launched it is gone."""

    def watch() -> None:
        sys.stdin.buffer.read()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def end_with_launcher() -> None:
    """End this process at once when the launcher that started it is gone, killed or not."""
    launcher = os.getppid()

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(_LOOK_INTERVAL_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def do_others_go_on() -> bool:
    """Whether another rank of this launch lives and is not lost; for a rank that is, and ends right after.

    Lost ranks sign one list, in turn: of those that are all lost the last finds nobody.
    """
    import psutil

    me, launcher = psutil.Process(), psutil.Process(os.getppid())
    name = f"regmix-launch-{os.getuid()}-{launcher.pid}-{launcher.create_time():.0f}.lost"
    with (Path(tempfile.gettempdir()) / name).open("a+") as signed:
        fcntl.flock(signed, fcntl.LOCK_EX)
        signed.seek(0)
        lost = {int(line) for line in signed} | {me.pid}
        signed.write(f"{me.pid}\n")
    return any(
        other.pid not in lost
        and other.status() != psutil.STATUS_ZOMBIE
        and _command(other) == _command(me)  # a launcher may have other children
        for other in launcher.children()
    )


def _command(process: psutil.Process) -> tuple[str, list[str]]:
    """What a process runs: the same for all ranks of a launch."""
    return process.name(), process.cmdline()
