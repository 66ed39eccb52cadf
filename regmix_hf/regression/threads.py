"""One BLAS thread where many small matrices are worked on side by side, for they are too small to share."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import scipy.linalg  # noqa: F401 (loads SciPy's BLAS beside NumPy's, so that both are found below)
from threadpoolctl import ThreadpoolController


def one_blas_thread() -> AbstractContextManager[Any]:
    """Return a context in which BLAS uses one thread."""
    return _libraries().limit(limits=1, user_api="blas")


@cache
def _libraries() -> ThreadpoolController:
    """Find the libraries once: reading the map of the process takes longer than a small fit."""
    return ThreadpoolController()
