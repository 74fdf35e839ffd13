"""A reader's place in a log, without any I/O: pages in, frames in, entries out, each exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chunkspool.calls import Reads, as_bytes, as_text
from chunkspool.errors import ChatNotFound, CorruptLog, CursorAhead, CursorExpired, GenerationNotFound, InvalidCursor
from chunkspool.events import Entry, decode
from chunkspool.keys import ChatKeys, checked_id

PAGE = 500
"""Entries of one read: large enough that a replay is not round trips, small enough for a reader's memory."""
MAX_SEQ = 2**53
"""Lua's numbers are exact up to here."""
_ENDED = ("completed", "stopped", "failed")


@dataclass(frozen=True, slots=True)
class Raw:
    """An entry before its event is decoded."""

    seq: int
    at: int
    data: bytes | None

    def decoded(self) -> Entry:
        """Return the entry. Raises `CorruptLog` with its seq."""
        if self.data is None:
            raise CorruptLog(self.seq, "the entry has no event in it")
        return Entry(self.seq, self.at, decode(self.data, self.seq), self.data)


@dataclass(frozen=True, slots=True)
class Page:
    """Consecutive entries after a cursor, and the state of the chat at the same moment."""

    entries: tuple[Raw, ...]
    last: int
    active: tuple[str, ...]
    born: str
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
    commands: list[tuple[str | int, ...]] = [
        ("GET", keys.seq),
        ("XRANGE", keys.log, f"{after + 1}-0", "+", "COUNT", limit),
        ("HMGET", keys.head, "active", "born"),
        ("XLEN", keys.log),
    ]
    if generation_id is not None:
        commands.append(("HGET", keys.gen(generation_id), "status"))

    def parse(replies: Sequence[Any]) -> Page:
        if replies[0] is None:
            raise ChatNotFound(keys.chat_id)
        entries = tuple(raw_entry(entry_id, fields) for entry_id, fields in replies[1] or ())
        last = int(replies[0])
        active, its_birth = (as_text(value or "") for value in replies[2])
        if after and born and its_birth not in {"", born}:
            raise CursorExpired(after, 1, last)
        ended = False
        if generation_id is not None:
            if replies[4] is None:
                raise GenerationNotFound(keys.chat_id, generation_id)
            ended = as_text(replies[4]) in _ENDED
        # Where the log has expired, so have its generations: nobody waits for one that never ran.
        running = tuple(active.split()) if replies[3] else ()
        return Page(_consecutive(entries, after, last), last, running, its_birth, ended)

    return Reads(tuple(commands), parse)


def raw_entry(entry_id: Any, fields: Any) -> Raw:
    """Return a stream entry as redis-py gives it: fields as a dict, or as a flat list from a pipeline."""
    pairs = fields.items() if isinstance(fields, dict) else zip(fields[::2], fields[1::2], strict=False)
    named = {as_text(name): value for name, value in pairs}
    at = as_text(named.get("t", "0"))
    data = named.get("e")
    return Raw(
        int(as_text(entry_id).partition("-")[0]),
        int(at) if at.isdecimal() else 0,
        None if data is None else as_bytes(data),
    )


def raw_frame(frame: bytes) -> tuple[Raw, ...]:
    """Return the entries of a frame: `<first seq> <ms>`, then one event a line."""
    header, *events = frame.split(b"\n")
    first, at = map(int, header.split())
    return tuple(Raw(first + i, at, data) for i, data in enumerate(events))


class Cursor:
    """Follows one chat. It asks for a page whenever it is `behind`; a frame that fits spares it the page.

    `until`: "idle" (nothing is active in the chat), "forever", or a generation's id.
    """

    def __init__(self, keys: ChatKeys, after: object, until: str) -> None:
        """Start after the cursor `after`. Raises `InvalidCursor`, or `InvalidId` for an `until` that can be no id."""
        self.seq = checked_cursor(after)
        self.behind = True
        self.done = False
        self._born = ""
        self._keys = keys
        self._idle_ends = until == "idle"
        self._generation = None if until in ("idle", "forever") else checked_id("until", until)

    def page(self) -> Reads[Page]:
        """Return the read to make when `behind`."""
        return page_after(self._keys, self.seq, PAGE, self._generation, self._born)

    def take_page(self, page: Page) -> tuple[Raw, ...]:
        """Move over a page; return its entries, up to the one after which the reader is done."""
        entries = self._moved(page.entries)
        self._born = page.born or self._born
        self.behind = self.seq < page.last and not self.done
        if not self.behind and ((self._idle_ends and not page.active) or page.until_ended):
            self.done = True
        return entries

    def take_frame(self, frame: bytes) -> tuple[Raw, ...]:
        """Move over a frame if it follows directly; else (lost, late, or an erase) the log must be read."""
        entries = raw_frame(frame)
        if entries[0].seq != self.seq + 1:
            # Seq 0 tells of an erase, and 1 may be the beginning of another log.
            self.behind = self.behind or entries[0].seq > self.seq or entries[0].seq <= 1
            return ()
        moved = self._moved(entries)
        if self._idle_ends and any(_may_end(entry.data) for entry in moved):
            self.behind = True
        return moved

    def _moved(self, entries: tuple[Raw, ...]) -> tuple[Raw, ...]:
        if self._generation is not None:
            for i, entry in enumerate(entries):
                if self._is_last(entry):
                    entries, self.done = entries[: i + 1], True
                    break
        if entries:
            self.seq = entries[-1].seq
        return entries

    def _is_last(self, entry: Raw) -> bool:
        if not _may_end(entry.data):
            return False
        try:
            event = entry.decoded().event
        except CorruptLog:
            return False
        return event.generation == self._generation and event.type in _ENDINGS


_ENDINGS = frozenset(f"generation.{state}" for state in _ENDED)


def _may_end(data: bytes | None) -> bool:
    """Tell cheaply whether this may be an ending; a text that quotes one costs a decoding, no more."""
    return data is not None and any(ending.encode() in data for ending in _ENDINGS)


def _consecutive(entries: tuple[Raw, ...], after: int, last: int) -> tuple[Raw, ...]:
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
