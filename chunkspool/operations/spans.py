"""Finds the seqs at which no generation is in the middle, by going through a log from its beginning. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

from chunkspool.store.entries import Item, Unreadable

_ENDINGS: Final = frozenset({"generation.completed", "generation.stopped", "generation.failed"})


@dataclass(slots=True)
class _Span:
    """The seqs of a generation, as far as the log was read."""

    first: int
    last: int
    has_ended: bool


@dataclass(slots=True)
class Spans:
    """The generations of a log, in the order in which they begin in it."""

    _spans: dict[str, _Span] = field(default_factory=dict)

    def add(self, items: Iterable[Item]) -> None:
        """Take the next entries of the log."""
        for item in items:
            if isinstance(item, Unreadable):
                self._spans[f"? {item.seq}"] = _Span(item.seq, item.seq, has_ended=True)  # no generation's id
                continue
            span = self._spans.setdefault(item.generation_id, _Span(item.seq, item.seq, has_ended=False))
            span.last = item.seq
            span.has_ended = span.has_ended or item.type in _ENDINGS

    def boundary(self, wanted: int, last: int, *, most: int, active: Collection[str] | None = None) -> int | None:
        """Return the first seq from `wanted` on, up to `last`, before which only whole ended generations are.

        Where there is none, or only one behind more than `most` events, the one before it; None where that, too, is
        missing. `active`: all of the log was read, and what is neither of these nor has ended writes nothing more.
        """
        before: int | None = None
        start = reach = 0.0
        for i, (generation_id, span) in enumerate(self._spans.items()):
            if not i:
                start = span.first
            elif reach < span.first <= last:
                if before is not None and span.first - start > most:
                    return before
                if span.first >= wanted:
                    return span.first
                before = span.first
            is_over = span.has_ended or (active is not None and generation_id not in active)
            reach = max(reach, span.last if is_over else math.inf)
        return None if active is None else before
