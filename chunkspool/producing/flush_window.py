"""The flush window: how long a generation's output is gathered, by how busy the writer is. Pure."""

from __future__ import annotations

import math

BUSY = 0.4
"""Share of a core that the writer's thread may use before it gathers for the whole `flush_interval`."""
MEMORY = 0.25
"""Seconds over which that share is averaged: a few batches change little, a new load counts within a second."""
PIPELINES = 3
"""A window has about two to the power of this pipelines, which the generations share: it wakes no more often."""


class FlushWindow:
    """Grows with the cube of the writer's load, from nothing to `longest` seconds.

    An idle writer sends at once, as there is nothing to be saved. A busy one would send an append for every token, so
    the longer it gathers, the fewer they are. The cube keeps the window short while the load is moderate; and since
    a longer window means less load, the two settle at a balance. Load is the thread's CPU time: the wait for a distant
    Redis is no work, and what is said meanwhile gathers by itself.
    """

    __slots__ = ("_longest", "_noted", "_share", "_worked")

    def __init__(self, longest: float) -> None:
        """Begin idle."""
        self._longest = longest
        self._share = 0.0
        self._noted = self._worked = 0.0

    def start(self, now: float, worked: float) -> None:
        """Begin to count at the time `now`; the writer had used `worked` seconds of CPU."""
        self._noted, self._worked = now, worked

    def note(self, now: float, worked: float) -> None:
        """Take the CPU seconds that the writer has used by now."""
        passed = now - self._noted
        if passed <= 0:
            return
        share = (worked - self._worked) / passed
        self._share = share + (self._share - share) * math.exp(-passed / MEMORY)
        self._noted, self._worked = now, worked

    def at(self, now: float) -> float:
        """Return the window in seconds. Since the last `note`, the writer counts as idle."""
        share = self._share * math.exp(min(0.0, self._noted - now) / MEMORY)
        return self._longest * min(1.0, (share / BUSY) ** 3)

    def due(self, now: float, flushed: float) -> float:
        """Return when a generation is to be written that has something to say and was last written at `flushed`.

        Times are rounded up to a common grid, so that the generations of a busy writer share their pipelines.
        """
        window = self.at(now)
        due = max(now, flushed + window)
        if window < _SHORTEST:
            return due
        # A power of two: the window changes all the time, and only such grids have their times in common.
        grid = 2.0 ** (math.frexp(window)[1] - 1 - PIPELINES)
        return math.ceil(due / grid) * grid


_SHORTEST = 0.001
"""A shorter window gathers nothing: a pipeline's own round trip takes about as long."""
