"""What happened in a run: the faults with their times. Values only."""

from __future__ import annotations

import time
from dataclasses import dataclass

from end_to_end.chaos.plan import FaultKind


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, in Unix ms: from when it was done until its victim was gone (or, after a pause, went on).

    `worker` is "" where all were hit.
    """

    kind: FaultKind
    worker: str
    began: int
    ended: int


@dataclass(frozen=True, slots=True)
class UnexpectedExit:
    """A worker that ended although nobody had asked it to, or not with 0 when it was asked."""

    worker: str
    code: int | None
    log: str


def now() -> int:
    """Return the time in Unix ms."""
    return time.time_ns() // 1_000_000
