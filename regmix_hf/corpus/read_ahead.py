"""Do the next step of an iteration, a download say, while the last one's outcome is used."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def one_ahead(items: Iterator[T], stop: Callable[[], None]) -> Generator[T]:
    """Yield `items`, each drawn by a thread while the one before it is used.

    Args:
        items: Drawn by one thread only, one at a time.
        stop: Makes a step that is under way end soon; called when the iteration ends, however it does.
    """
    end = object()

    def draw() -> T | object:
        return next(items, end)

    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as thread:
        try:
            coming = thread.submit(draw)
            while (item := coming.result()) is not end:
                coming = thread.submit(draw)
                yield item  # type: ignore[misc]
        finally:
            stop()
