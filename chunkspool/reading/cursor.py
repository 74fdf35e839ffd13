"""A reader's place in a log, without any I/O: pages in, frames in, entries out, each exactly once."""

from __future__ import annotations

from typing import Final

from chunkspool.events import Entry
from chunkspool.ids import checked_id
from chunkspool.states import ENDING_TYPES
from chunkspool.store.commands import Transaction
from chunkspool.store.entries import Frame, Item
from chunkspool.store.keys import ChatKeys
from chunkspool.store.pages import PAGE, Page, chat_state, entries_that_fit, page_after
from chunkspool.store.positions import MAX_SEQ, Position, checked_position

FIRST_PAGE: Final = 50
"""Entries of the first read of those that catch up, which shows how large the chat's events are."""
UNKNOWN_END: Final = MAX_SEQ + 1
"""No log reaches it."""
PAGE_BYTES: Final = 64 * 1024
"""Bytes that a page is meant to hold; where the events are large, a page has fewer of them."""
SUSPECTS: Final = 32
"""Active generations that a reader asks after, at most."""


class Cursor:
    """Follows one chat. It asks for a page whenever it is `behind`; a frame that fits spares it the page.

    `until`: "idle" (nothing is active in the chat), "forever", or a generation's id.

    A frame fits if it is of the same log, begins at the next seq, and the event before it was written when the one was
    that this cursor has seen there. So neither another chat of the same name, nor an older copy of the log that came
    back and was written on, is ever taken for the continuation.
    """

    __slots__ = (
        "_at",
        "_end_seen",
        "_generation_id",
        "_idle_ends",
        "_limit",
        "_listed",
        "_log",
        "behind",
        "done",
        "keys",
        "seq",
    )

    def __init__(self, keys: ChatKeys, after: object, until: str) -> None:
        """Start after the cursor `after`. Raises `InvalidCursor`, or `InvalidId` for an `until` that can be no id."""
        self.keys = keys
        self.start_at(checked_position(after))
        self.behind = True
        self.done = False
        self._idle_ends = until == "idle"
        self._generation_id = None if until in ("idle", "forever") else checked_id("until", until)
        self._listed: tuple[str, ...] = ()
        # The end of the log as frames have shown it, since the last page was asked for, where they could not be taken.
        # A page may be read before such a frame was published or after: only one that reaches this end is the latest.
        # UNKNOWN_END is beyond every log: whatever page comes, another one is read.
        self._end_seen = 0
        self._limit = FIRST_PAGE

    def start_at(self, position: Position) -> None:
        """Stand there."""
        self.seq, self._log, self._at = position.seq, position.log, position.at

    @property
    def channel(self) -> str:
        """Where the chat's frames are published."""
        return self.keys.live

    def page(self) -> Transaction[Page]:
        """Return the read to make when `behind`. Frames that come before its reply are not taken, but remembered."""
        self._end_seen = 0
        position = Position(self.seq, self._log, self._at)
        return page_after(self.keys, position, self._limit, self._generation_id, self._listed)

    def probe(self) -> Transaction[Page]:
        """Return the cheap read that tells whether a page would bring anything. Equal commands may share a reply."""
        return chat_state(self.keys, self._generation_id, self._listed)

    def take_probe(self, seen: Page) -> bool:
        """Tell whether the chat stands where this reader does, to judge by the reply to `probe`."""
        # Those that are active now are asked after by the next probe: a hash may expire while the chat lives on.
        self._listed = seen.listed[:SUSPECTS]
        position = Position(self.seq, self._log, self._at)
        same = seen.last == self.seq and not position.contradicts(seen.log, seen.last_at)
        return same and not seen.head_lost and not self._is_end(seen)

    def take_page(self, page: Page) -> tuple[Item, ...]:
        """Move over a page; return its entries, up to the one after which the reader is done."""
        entries = self._advance(page.entries)
        self._log = page.log or self._log
        self._listed = page.listed[:SUSPECTS]
        self.behind = self.seq < max(page.last, self._end_seen) and not self.done
        self._limit = entries_that_fit(entries, PAGE_BYTES, PAGE) if self.behind and entries else FIRST_PAGE
        if not self.behind and not page.head_lost and self._is_end(page):
            self.done = True
        return entries

    def take_frame(self, frame: Frame) -> tuple[Item, ...]:
        """Move over a frame if it follows directly; else (lost, late, or an erase) the log must be read."""
        if self.done:
            return ()
        if self.behind or not self._is_next(frame):
            self.miss(frame)
            return ()
        advanced = self._advance(frame.items)
        self._log = frame.log
        if self._idle_ends and any(item.type in ENDING_TYPES for item in advanced if isinstance(item, Entry)):
            self.behind = True
        return advanced

    def miss(self, frame: Frame) -> None:
        """Leave a frame out: what is new in it is to be read from the log."""
        of_this_log = bool(frame.first) and ("" in {frame.log, self._log} or frame.log == self._log)
        # An event that was written after the newest this cursor knows and has no higher seq: the log went back.
        went_back = frame.last <= self.seq and frame.at > self._at > 0
        if not of_this_log or went_back:
            self.invalidate()
        elif frame.last > self.seq:
            self._end_seen = max(self._end_seen, frame.last)
            self.behind = True

    def invalidate(self) -> None:
        """Have the log read; once more if a read is under way, because its reply may be too old."""
        self._end_seen = UNKNOWN_END
        self.behind = True

    def _is_next(self, frame: Frame) -> bool:
        if frame.first != self.seq + 1:
            return False
        same_log = "" in {frame.log, self._log} or frame.log == self._log
        return same_log and (not self.seq or not self._at or frame.previous == self._at)

    def _is_end(self, page: Page) -> bool:
        return page.until_ended or (self._idle_ends and not page.active)

    def _advance(self, items: tuple[Item, ...]) -> tuple[Item, ...]:
        if self._generation_id is not None:
            for i, item in enumerate(items):
                if isinstance(item, Entry) and item.type in ENDING_TYPES and item.generation_id == self._generation_id:
                    items, self.done = items[: i + 1], True
                    break
        if items:
            self.seq, self._at = items[-1].seq, items[-1].at
        return items
