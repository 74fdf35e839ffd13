"""Wait until a condition is true instead of sleeping for a fixed time; do something while a test waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


def eventually(predicate: Callable[[], T], timeout: float = 10.0, every: float = 0.02) -> T:
    """Return the first true result of `predicate`; fail if there is none within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        result = predicate()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} seconds; the last result was {result!r}")
        time.sleep(every)


@contextmanager
def after(seconds: float, act: Callable[[], object]) -> Iterator[None]:
    """Do something on a thread of its own, some time after the block began; the block ends when it is done."""
    timer = threading.Timer(seconds, act)
    timer.start()
    try:
        yield
    finally:
        timer.join()
