"""What each process has one of: connections and threads do not survive a fork, so a child makes its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """Holds one value per process, made when it is first asked for.

    After a fork the parent's value is forgotten, never closed: its sockets and threads are the parent's.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        """`make` is called once in every process that asks; what it raises is raised to who asked."""
        self._make = make
        self._begin()

    def _begin(self) -> None:
        # A lock that another thread held during the fork would never be released in the child: it gets a new one, too.
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._value: T | None = None

    def get(self) -> T:
        """Return this process's value."""
        if self._pid != os.getpid():
            self._begin()
        elif self._value is not None:  # the usual case needs no lock
            return self._value
        with self._lock:
            if self._value is None:
                self._value = self._make()
            return self._value

    def peek(self) -> T | None:
        """Return this process's value if it was made, else None. It takes no lock, so a finalizer may call it."""
        return self._value if self._pid == os.getpid() else None

    def take(self) -> T | None:
        """Return this process's value and forget it: the caller closes it. None if there is none."""
        if self._pid != os.getpid():
            return None
        with self._lock:
            value, self._value = self._value, None
            return value
