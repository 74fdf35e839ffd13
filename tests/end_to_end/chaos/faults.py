"""What was done to a run: its faults with their times. Values only."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

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
class Loss:
    """What Redis forgot when an older copy came back: everything from `copied` to `ended`, both in Unix ms.

    It was there again at `back`. `data` is the folder of files that it had until then.
    """

    copied: int
    ended: int
    back: int
    data: Path

    def covers(self, at: int) -> bool:
        """Tell whether something of which a caller heard at that moment was forgotten. It may have heard late."""
        return self.copied <= at <= self.back


@dataclass(frozen=True, slots=True)
class UnexpectedExit:
    """A worker that exited without being asked to, or with a code other than 0."""

    worker: str
    code: int | None
    log: str


def now_ms() -> int:
    """Return the time in Unix ms."""
    return time.time_ns() // 1_000_000
