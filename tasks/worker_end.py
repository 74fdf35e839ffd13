"""Tells a process that must exit whether its whole worker ends, or only this child of the prefork pool."""

from __future__ import annotations

import mmap
import os
import time

NOTICE_SECONDS = 1.0
"""How long a child waits for its main process to be told: a supervisor may send SIGTERM to all of them at once."""
POLL_SECONDS = 0.02


class WorkerEnd:
    """One byte of memory that the main process shares with the children it forks.

    A child gets SIGTERM when its worker ends, but also from `--time-limit` and from watchdogs. Only the first says
    nothing about the generation. If the others did not count as attempts, a generation that hangs would be run, and
    paid for, without end.
    """

    def __init__(self) -> None:
        """Create it in the main process, before there are children."""
        self._main = os.getpid()
        self._noted = mmap.mmap(-1, 1)

    def note(self, **_: object) -> None:
        """Note that the worker is shutting down; a receiver of Celery's signals."""
        self._noted[0] = 1

    def is_under_way(self) -> bool:
        """Tell whether the worker ends. A child whose main process has died or changed is what is left of one."""
        end = time.monotonic() + NOTICE_SECONDS
        while not self._is_known():
            if time.monotonic() >= end:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def _is_known(self) -> bool:
        return os.getpid() == self._main or os.getppid() != self._main or bool(self._noted[0])
