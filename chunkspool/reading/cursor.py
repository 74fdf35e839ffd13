"""A reader's place in a log, without any I/O: pages in, frames in, entries out, each exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from chunkspool.errors import ChatNotFound, CorruptLog, CursorAhead, CursorExpired, GenerationNotFound, InvalidCursor
from chunkspool.events import Entry
from chunkspool.store.commands import Reads, as_text
from chunkspool.store.entries import Frame, Item, items_of_stream, seq_of
from chunkspool.store.keys import ChatKeys, checked_id

PAGE = 500
"""Entries of one read: large enough that a replay is not round trips, small enough for a reader's memory."""
FIRST_PAGE = 50
"""Entries of the first read of those that catch up, which shows how large the chat's events are."""
PAGE_BYTES = 64 * 1024
"""Bytes that a page is meant to hold; where the events are large, a page has fewer of them."""
MAX_SEQ = 2**53
"""Lua's numbers are exact up to here."""
_ENDED = ("completed", "stopped", "failed")
_ENDINGS = frozenset(f"generation.{state}" for state in _ENDED)


@dataclass(frozen=True, slots=True)
class Page:
    """Consecutive entries after a cursor, and the state of the chat at the same moment."""

    entries: tuple[Item, ...]
    last: int
    active: tuple[str, ...]
    born: str = ""
    until_ended: bool = False


def checked_cursor(value: object) -> int:
    """Return `value` as a cursor. Raises `InvalidCursor` for anything but a whole number from 0 up."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SEQ:
        return value
    raise InvalidCursor(value)


def page_after(
    keys: ChatKeys, after: int, limit: int = PAGE, generation_id: str | None = None, born: str = ""
) -> Reads[Page]:
    """Return the read of up to `limit` entries after the cursor `after`, and whether `generation_id` has ended.

    `born` is that of an earlier page, if there was one: where the log is another one by now (Redis has come back
    empty and the chat was made anew), the cursor has expired whatever its number is.
    It raises `ChatNotFound`, `GenerationNotFound`, `CursorAhead`, `CursorExpired` or `CorruptLog`.
    """
    state = _state(keys, generation_id)
    log = ("XRANGE", keys.log, f"{after + 1}-0", "+", "COUNT", limit)

    def parse(replies: Sequence[Any]) -> Page:
        *seen, latest, found = replies
        page = state.parse((last_seq(seen[0], latest), *seen[1:]))
        if after and another_log(page.born, born):
            raise CursorExpired(after, 1, page.last)
        entries = _consecutive(items_of_stream(found), after, page.last)
        return replace(page, entries=entries)

    return Reads((*state.commands, newest(keys), log), parse, limit)


def newest(keys: ChatKeys) -> tuple[str | int, ...]:
    """Return the command that reads the log's last entry, for `last_seq`."""
    return ("XREVRANGE", keys.log, "+", "-", "COUNT", 1)


def last_seq(counter: Any, latest: Any) -> int | None:
    """Return the chat's last seq; where the counter was lost (evicted), the log tells it. None: there is no chat."""
    if counter is not None:
        return int(counter)
    return seq_of(latest[0][0]) if latest else None


def another_log(born: str, known: str) -> bool:
    """Tell whether a log that was `born` then is another one than the one that is `known`; "" is not known."""
    return "" not in {born, known} and born != known


def _state(keys: ChatKeys, generation_id: str | None) -> Reads[Page]:
    """Return the read of a page without entries."""
    commands: tuple[tuple[str, ...], ...] = (
        ("GET", keys.seq),
        ("HMGET", keys.head, "active", "born"),
        ("EXISTS", keys.log),
    )
    if generation_id is not None:
        commands += (("HGET", keys.gen(generation_id), "status"),)

    def parse(replies: Sequence[Any]) -> Page:
        if replies[0] is None:
            raise ChatNotFound(keys.chat_id)
        active, born = (as_text(value or "") for value in replies[1])
        ended = False
        if generation_id is not None:
            if replies[3] is None:
                raise GenerationNotFound(keys.chat_id, generation_id)
            ended = as_text(replies[3]) in _ENDED
        # Where the log has expired, so have its generations: nobody waits for one that never ran.
        running = tuple(active.split()) if replies[2] else ()
        return Page((), int(replies[0]), running, born, ended)

    return Reads(commands, parse)


class Cursor:
    """Follows one chat. It asks for a page whenever it is `behind`; a frame that fits spares it the page.

    `until`: "idle" (nothing is active in the chat), "forever", or a generation's id.
    """

    __slots__ = ("_born", "_generation", "_idle_ends", "_keys", "_known", "_limit", "behind", "done", "seq")

    def __init__(self, keys: ChatKeys, after: object, until: str) -> None:
        """Start after the cursor `after`. Raises `InvalidCursor`, or `InvalidId` for an `until` that can be no id."""
        self.seq = checked_cursor(after)
        self.behind = True
        self.done = False
        self._born = ""
        self._keys = keys
        self._idle_ends = until == "idle"
        self._generation = None if until in ("idle", "forever") else checked_id("until", until)
        self._known = 0
        self._limit = FIRST_PAGE

    @property
    def channel(self) -> str:
        """Where the chat's frames are published."""
        return self._keys.live

    def page(self) -> Reads[Page]:
        """Return the read to make when `behind`. Frames that come before its reply are not taken, but remembered."""
        self._known = 0
        return page_after(self._keys, self.seq, self._limit, self._generation, self._born)

    def look(self) -> Reads[Page]:
        """Return the cheap read that tells whether a page would bring anything. Equal commands may share a reply."""
        return _state(self._keys, self._generation)

    def agrees(self, seen: Page) -> bool:
        """Tell whether the chat stands where this reader does, to judge by the reply to `look`."""
        return seen.last == self.seq and not another_log(seen.born, self._born) and not self._is_end(seen)

    def take_page(self, page: Page) -> tuple[Item, ...]:
        """Move over a page; return its entries, up to the one after which the reader is done."""
        entries = self._moved(page.entries)
        self._born = page.born or self._born
        self.behind = self.seq < max(page.last, self._known) and not self.done
        self._limit = _next_limit(entries) if self.behind and entries else FIRST_PAGE
        if not self.behind and self._is_end(page):
            self.done = True
        return entries

    def take_frame(self, frame: Frame) -> tuple[Item, ...]:
        """Move over a frame if it follows directly; else (lost, late, or an erase) the log must be read."""
        if self.done:
            return ()
        if self.behind or frame.first != self.seq + 1:
            self.miss(frame)
            return ()
        moved = self._moved(frame.items)
        if self._idle_ends and any(item.type in _ENDINGS for item in moved if isinstance(item, Entry)):
            self.behind = True
        return moved

    def miss(self, frame: Frame) -> None:
        """Leave a frame out: what is new in it is to be read from the log."""
        # Seq 0 tells of an erase, and 1 may be the beginning of another log.
        if frame.first <= 1 <= self.seq or not frame.first:
            self.doubt()
        elif frame.last > self.seq:
            self._known = max(self._known, frame.last)
            self.behind = True

    def doubt(self) -> None:
        """Have the log read, once more if a read is under way."""
        self._known = MAX_SEQ + 1
        self.behind = True

    def _is_end(self, page: Page) -> bool:
        return page.until_ended or (self._idle_ends and not page.active)

    def _moved(self, items: tuple[Item, ...]) -> tuple[Item, ...]:
        if self._generation is not None:
            for i, item in enumerate(items):
                if isinstance(item, Entry) and item.type in _ENDINGS and item.generation == self._generation:
                    items, self.done = items[: i + 1], True
                    break
        if items:
            self.seq = items[-1].seq
        return items


def _next_limit(items: tuple[Item, ...]) -> int:
    """Return how many entries like these make a page; a few of them tell."""
    some = items[::8]
    size = sum(len(item.raw) for item in some if isinstance(item, Entry))
    return max(1, min(PAGE, PAGE_BYTES * len(some) // max(size, 1)))


def _consecutive(entries: tuple[Item, ...], after: int, last: int) -> tuple[Item, ...]:
    """Return the entries up to the first hole. Raises for a cursor that the log cannot serve."""
    if after > last:
        raise CursorAhead(after, last)
    if after == last and not entries:
        return ()
    first = entries[0].seq if entries else last + 1
    if first > last and entries:
        raise CorruptLog(first, f"chunkspool wrote only up to {last}")
    if first != after + 1:
        raise CursorExpired(after, first, last)
    for i, entry in enumerate(entries):
        if entry.seq != first + i:
            return entries[:i]
    return entries
