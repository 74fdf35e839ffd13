"""How long to go on trying while Redis is unreachable, and how long to wait between two tries."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between tries: doubled from the first to the longest."""


class RetryBudget:
    """Counts from the first failure after the last success. It never waits by itself."""

    __slots__ = ("_clock", "_limit", "_pause", "_since")

    def __init__(self, limit: float = math.inf, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`limit` is in seconds, from the first failure on."""
        self._limit = limit
        self._clock = clock
        self._since: float | None = None
        self._pause = FIRST_PAUSE

    def fail(self) -> bool:
        """Count a failure; return whether the time is used up."""
        now = self._clock()
        self._since = now if self._since is None else self._since
        return now - self._since >= self._limit

    def pause(self) -> float:
        """Return the seconds to wait before the next try; the pause after that is twice as long."""
        pause, self._pause = self._pause, min(self._pause * 2, LONGEST_PAUSE)
        return pause

    def pause_after(self, error: Exception) -> float:
        """Count a failure; return the seconds to wait, or raise `error` when the time is used up."""
        if self.fail():
            raise error
        return self.pause()

    def renew(self) -> None:
        """Start over: a try has succeeded."""
        self._since, self._pause = None, FIRST_PAUSE
