"""`python without_locks.py RECIPE HOURS OVERRIDE...`: proxies where locks do not work and clocks err."""

import errno
import sys
import time
from dataclasses import dataclass

from regmix_hf.jobs import claims
from regmix_hf.jobs.devices import Slot
from regmix_hf.jobs.pool import Pool
from regmix_hf.jobs.proxies import ProxyWork
from regmix_hf.progress import Silent
from regmix_hf.recipe import load_recipe
from regmix_hf.stages import proxies
from regmix_hf.study import Study


def hamper(hours):
    """Take this process's locks away, shift its clock, and let leases be short."""
    right = time.time

    def refuse(file, operation):
        raise OSError(errno.ENOSYS, "Function not implemented")

    claims.fcntl.flock = refuse
    claims.LEASE_S = 1.5
    time.time = lambda: right() + 3600 * hours


@dataclass(frozen=True)
class Hampered(ProxyWork):
    hours: float = 0.0

    def open(self):
        hamper(self.hours)
        return super().open()


if __name__ == "__main__":
    recipe, hours, *overrides = sys.argv[1:]
    hamper(float(hours))
    import without_locks  # workers know the class by this name

    proxies.ProxyWork = lambda corpus: without_locks.Hampered(corpus, float(hours))
    study = Study(load_recipe(recipe, overrides))
    proxies.run(study, Silent(), Pool([Slot()], study.proxies))
