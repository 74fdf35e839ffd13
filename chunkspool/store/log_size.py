"""What the log of a chat takes in Redis, at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chunkspool.store.commands import Transaction
from chunkspool.store.index import as_ms
from chunkspool.store.keys import ChatKeys


@dataclass(frozen=True, slots=True)
class LogSize:
    """The bytes that a log took at `at_ms` (Unix ms, Redis's clock), 0 where there was none.

    `kept_ms`: in how many ms it was to expire then.
    """

    log_bytes: int
    at_ms: int
    kept_ms: int

    @property
    def words(self) -> str:
        """As the scripts read it: lua/sizes_prelude.lua."""
        return f"{self.log_bytes} {self.at_ms} {self.kept_ms}"


def log_size_of(log_bytes: int, at_ms: int, kept_ms: int) -> LogSize:
    """Return the size of a log that may have a TTL that Redis calls -1 or -2."""
    return LogSize(log_bytes, at_ms, max(kept_ms, 0))


def measure(keys: ChatKeys) -> Transaction[LogSize]:
    """Read what a chat's log takes; 0 bytes where there is none."""

    def parse(replies: Sequence[Any]) -> LogSize:
        size, left_ms, time = replies
        return log_size_of(int(size or 0), as_ms(time), int(left_ms))

    return Transaction((("MEMORY", "USAGE", keys.log), ("PTTL", keys.log), ("TIME",)), parse)
