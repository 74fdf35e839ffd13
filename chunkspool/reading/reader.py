"""One reader without I/O: its place in the log, what it has not taken yet, and what it needs next."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from copy import copy
from dataclasses import dataclass
from typing import Any, Protocol

from chunkspool.effects import Pause
from chunkspool.errors import StoreUnavailable
from chunkspool.reading.cursor import Cursor
from chunkspool.retry import RetryBudget
from chunkspool.store.commands import ScriptCall, Transaction
from chunkspool.store.entries import Frame, Item, Unreadable
from chunkspool.store.pages import Page
from chunkspool.store.positions import Position
from chunkspool.store.recovery import restore_head

BUFFER_EVENTS = 500
BUFFER_BYTES = 256 * 1024
"""What a reader may leave lying of the live events. What comes on top it reads from the log when it gets there."""


class Waiter(Protocol):
    """Wakes the thread or task that waits for the reader."""

    def set(self) -> None:
        """Wake it; nobody need be waiting."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Have the chat's frames brought to this reader."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until the waiter is set."""


ReaderEffect = Transaction[Any] | ScriptCall[Any] | Listen | Wait | Pause
LISTEN, WAIT = Listen(), Wait()


class Reader:
    """One reader. Its hub brings frames to it; whoever iterates takes entries from `ready`, and refills it when empty.

    It has no lock of its own: a hub with threads calls it, and advances `begin` and `refill`, under its lock.
    """

    __slots__ = ("_held", "_retry", "_start", "cursor", "error", "joined", "left", "listening", "ready", "waiter")

    def __init__(self, cursor: Cursor, waiter: Waiter, read_timeout: float, start: Transaction[int] | None) -> None:
        """`read_timeout`: seconds that Redis may be unreachable before the reader is told.

        `start`, if given, is the read of the cursor to begin after.
        """
        self.cursor = cursor
        self.waiter = waiter
        self.ready: deque[Item] = deque()
        self.joined = False
        self.left = False
        self.listening = False
        self.error: Exception | None = None
        self._retry = RetryBudget(read_timeout)
        self._held = 0
        self._start = start

    def begin(self) -> Generator[ReaderEffect, Any, None]:
        """Read the first page. What is wrong with the chat or the cursor is raised here."""
        yield from self._find_start()
        yield from self._take_page((yield from self.cursor.page()))

    def refill(self) -> Generator[ReaderEffect, Any, None]:
        """Get at least one entry into `ready`, or the cursor to its end."""
        yield from self._find_start()
        while not (self.ready or self.cursor.done or self.left):
            if self.error is not None:
                error, self.error = self.error, None
                raise copy(error) from error
            if self.cursor.behind:
                yield from self._catch_up()
            else:
                yield WAIT if self.joined else LISTEN

    def leave(self) -> None:
        """Be at the end; whoever waits is woken."""
        self.left = True
        self.ready.clear()
        self.waiter.set()

    def offer(self, frame: Frame) -> bool:
        """Take a frame in, or leave it to the log where there is no room for it; then return False."""
        has_room = self.cursor.behind or self._has_room(frame)
        if self.cursor.behind or not has_room:
            self.cursor.miss(frame)
        else:
            self.ready.extend(self.cursor.take_frame(frame))
        if self.ready or self.cursor.behind:
            self.waiter.set()
        return has_room

    def confirm(self) -> None:
        """From now on every frame comes; what came before this moment is in the log."""
        self.listening = True
        self.mark_stale()

    def mark_stale(self) -> None:
        """Make the reader look into the log."""
        self.cursor.invalidate()
        self.waiter.set()

    def fail(self, error: Exception) -> None:
        """Raise `error` where the reader is being read."""
        self.error = error
        self.waiter.set()

    def _find_start(self) -> Generator[ReaderEffect, Any, None]:
        if self._start is not None:
            self.cursor.start_at(Position((yield from self._start)))
            self._start = None

    def _catch_up(self) -> Generator[ReaderEffect, Any, None]:
        try:
            page = yield from self.cursor.page()
            self._retry.renew()
            yield from self._take_page(page)
        except StoreUnavailable as error:
            yield from Pause(self._retry.pause_after(error))

    def _take_page(self, page: Page) -> Generator[ReaderEffect, Any, None]:
        self.ready.extend(self.cursor.take_page(page))
        if page.head_lost:
            self.cursor.invalidate()  # whether anything is active is known by the next page
            yield from restore_head(self.cursor.keys)

    def _has_room(self, frame: Frame) -> bool:
        """Count without looking at what was taken meanwhile; only where that seems too much, count again."""
        if not self.ready:
            self._held = frame.size
            return True
        self._held += frame.size
        if self._held > BUFFER_BYTES:
            # A copy: in another thread, somebody may be taking from it.
            ready = self.ready.copy()
            self._held = frame.size + sum(len(item.raw) for item in ready if not isinstance(item, Unreadable))
        return self._held <= BUFFER_BYTES and len(self.ready) + len(frame.items) <= BUFFER_EVENTS
