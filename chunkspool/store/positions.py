"""Positions in a log: a seq, and what proves that the log still is the one in which somebody stood there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from chunkspool.errors import InvalidCursor

MAX_SEQ: Final = 2**53
"""Lua's numbers are exact up to here."""
_TEXT = re.compile(r"([0-9]{1,16})(?:\.([0-9a-f]{0,12})-([0-9a-f]{1,12}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Position:
    """Behind the event `seq`; 0 is the beginning.

    A seq alone cannot tell a chat's log from one that was made after an erase, or from an older copy of it that was
    restored and written on. `log` is the log's identity and `at` the time of the event `seq` (Unix ms, Redis's clock):
    an event that was written again was written later. "" and 0 stand for not known, which nothing contradicts.
    """

    seq: int
    log: str = ""
    at: int = 0

    def __str__(self) -> str:
        """Return it as text, for `checked_position`: the `id:` of a server-sent event."""
        return f"{self.seq}.{self.log}-{self.at:x}" if self.log or self.at else str(self.seq)

    def contradicts(self, log: str, at: int | None) -> bool:
        """Tell whether this position is one of another log, where `log` is there now, with an event of `at` at `seq`.

        `at` is None where that event is no longer kept, so that nobody can tell.
        """
        if not self.seq:
            return False
        other_log = "" not in {self.log, log} and self.log != log
        other_event = bool(self.at) and bool(at) and self.at != at
        return other_log or other_event


def checked_position(value: object) -> Position:
    """Return a cursor's position: a seq, or what `str(position)` gave. Raises `InvalidCursor` for anything else."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SEQ:
        return Position(value)
    found = _TEXT.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found[1]) > MAX_SEQ:
        raise InvalidCursor(value)
    return Position(int(found[1]), found[2] or "", int(found[3] or "0", 16))
