"""Many small things side by side, with one BLAS thread each: their matrices are too small to share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, TypeVar

import joblib
import scipy.linalg  # noqa: F401 (loads SciPy's BLAS beside NumPy's, so that both are found below)
from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    work: Callable[[Item], Result], items: Iterable[Item], num_threads: int | None = None
) -> list[Result]:
    """Return what `work` makes of each of some items, in their order.

    Args:
        work: Called from several threads at once; for a single item from this one, because starting a thread
            takes longer than a small fit's step.
        items: What it is called with.
        num_threads: At most. `None`: one per core this process may use.
    """
    todo = list(items)
    if len(todo) < 2:
        return [work(item) for item in todo]
    with ThreadPoolExecutor(num_threads or joblib.cpu_count()) as pool:
        return list(pool.map(work, todo))


def one_blas_thread() -> AbstractContextManager[Any]:
    """Return a context in which BLAS uses one thread, in all of this process: no place for its threads."""
    return _libraries().limit(limits=1, user_api="blas")


@cache
def _libraries() -> ThreadpoolController:
    """Find the libraries once: reading the map of the process takes longer than a small fit."""
    return ThreadpoolController()
