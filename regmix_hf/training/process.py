"""Settings of a process that trains: what the system and the interpreter would otherwise do over and over."""

from __future__ import annotations

import ctypes
import functools
import gc
import sys

#: `M_TRIM_THRESHOLD` and `M_MMAP_MAX` of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


@functools.cache  # once: what a run leaves behind must stay collectable
def settle_process() -> None:
    """Make steps and the starts of runs cheaper, for as long as this process lives. Changes no number.

    glibc keeps what is freed for the next step: the logits of a small model are tens of megabytes in every
    step, which it would map and unmap while the system clears every page anew, about a quarter of a step's
    time on a CPU (does nothing where the C library is another). And what is alive now, half a million objects
    of imported modules, is never searched for garbage again, as `Trainer` has it done before every run.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_MMAP_MAX, 0)
            mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    gc.freeze()
