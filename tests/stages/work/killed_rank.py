"""The proxies of a launch whose first rank is never done, until its second is killed and all begin again."""

import os
import signal
import threading
import time

from regmix_hf.cli.app import run
from regmix_hf.jobs import pool
from regmix_hf.jobs.proxies import ProxyWork
from regmix_hf.proxies import STOPPED, launched
from regmix_hf.stages import proxies


class Endless(ProxyWork):
    """Begins to train, and stays at it for as long as its worker lives."""

    def open(self):
        do = super().open()
        return lambda spec, room, on_tokens: do(spec, room, lambda num_tokens: threading.Event().wait())


def die(self, tasks, *_):
    """Wait until another rank is at one of these, then end as a process does that is killed."""
    while not any((task.folder / ".tokens").exists() for task in tasks):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        from tests.stages.work import killed_rank  # workers know the class by this name

        proxies.ProxyWork = killed_rank.Endless
        if os.environ["RANK"] == "1":
            pool.Pool.run = die
    raise SystemExit(run(launched, STOPPED))
