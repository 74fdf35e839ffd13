"""What was done to a run: its faults with their times. Values only."""

from __future__ import annotations

import time
from dataclasses import dataclass

from end_to_end.chaos.plan import FaultKind


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, in Unix ms: from when it was injected until its victim was gone (after a pause: until it resumed).

    `worker` is "" if all workers were affected.
    """

    kind: FaultKind
    worker: str
    began: int
    ended: int


@dataclass(frozen=True, slots=True)
class UnexpectedExit:
    """A worker that exited without being asked to, or with a code other than 0."""

    worker: str
    code: int | None
    log: str


def now_ms() -> int:
    """Return the time in Unix ms."""
    return time.time_ns() // 1_000_000
