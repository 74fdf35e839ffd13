"""One reader without I/O: its place in the log, what it has not taken yet, and what it needs next."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator
from copy import copy
from dataclasses import dataclass
from typing import Any, Protocol

from chunkspool.effects import Pause
from chunkspool.errors import StoreUnavailable
from chunkspool.reading.cursor import Cursor, Page
from chunkspool.store.commands import Reads
from chunkspool.store.entries import Frame, Item, Unreadable

BUFFER_EVENTS = 500
BUFFER_BYTES = 256 * 1024
"""What a reader may leave lying of the live events. What comes on top it reads from the log when it gets there."""


class Bell(Protocol):
    """Wakes whoever waits for the reader: a thread or a task."""

    def set(self) -> None:
        """Ring; nobody need be waiting."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Have the chat's frames brought to this reader."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for the bell."""


Step = Reads[Any] | Listen | Wait | Pause
LISTEN, WAIT = Listen(), Wait()


class Patience:
    """How long a reader puts up with a Redis that is away."""

    __slots__ = ("_limit", "_pause", "_since")

    def __init__(self, limit: float) -> None:
        """`limit` is in seconds."""
        self._limit = limit
        self._since: float | None = None
        self._pause = 0.05

    def pause_after(self, error: StoreUnavailable) -> float:
        """Return the seconds to wait before trying again; raise `error` when patience has run out."""
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if now - self._since >= self._limit:
            raise error
        self._pause = min(self._pause * 2, 1.0)
        return self._pause

    def renew(self) -> None:
        """Redis has answered."""
        self._since, self._pause = None, 0.05


class Reader:
    """One reader. Its hub brings frames to it; whoever iterates takes entries from `ready`, and refills it when empty.

    It has no lock of its own: a hub with threads calls it, and advances `begin` and `refill`, under its lock.
    """

    __slots__ = ("_held", "_patience", "_start", "bell", "cursor", "error", "joined", "left", "listening", "ready")

    def __init__(self, cursor: Cursor, bell: Bell, read_timeout: float, start: Reads[int] | None) -> None:
        """`read_timeout`: seconds that a Redis may be away before the reader is told.

        `start`, if given, is the read of the cursor to begin after.
        """
        self.cursor = cursor
        self.bell = bell
        self.ready: deque[Item] = deque()
        self.joined = False
        self.left = False
        self.listening = False
        self.error: Exception | None = None
        self._patience = Patience(read_timeout)
        self._held = 0
        self._start = start

    def begin(self) -> Generator[Step, Any, None]:
        """Read the first page. What is wrong with the chat or the cursor is raised here."""
        yield from self._find_start()
        self._take_page((yield self.cursor.page()))

    def refill(self) -> Generator[Step, Any, None]:
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
        self.bell.set()

    def offer(self, frame: Frame) -> None:
        """Take a frame in, or leave it to the log where there is no room for it."""
        if self.cursor.behind or not self._has_room(frame):
            self.cursor.miss(frame)
        else:
            self.ready.extend(self.cursor.take_frame(frame))
        if self.ready or self.cursor.behind:
            self.bell.set()

    def confirm(self) -> None:
        """From now on every frame comes; what came before this moment is in the log."""
        self.listening = True
        self.suspect()

    def suspect(self) -> None:
        """Make the reader look into the log."""
        self.cursor.doubt()
        self.bell.set()

    def fail(self, error: Exception) -> None:
        """Raise `error` where the reader is being read."""
        self.error = error
        self.bell.set()

    def _find_start(self) -> Generator[Step, Any, None]:
        if self._start is not None:
            self.cursor.seq = yield self._start
            self._start = None

    def _catch_up(self) -> Generator[Step, Any, None]:
        try:
            page = yield self.cursor.page()
        except StoreUnavailable as error:
            yield Pause(self._patience.pause_after(error))
        else:
            self._patience.renew()
            self._take_page(page)

    def _take_page(self, page: Page) -> None:
        self.ready.extend(self.cursor.take_page(page))

    def _has_room(self, frame: Frame) -> bool:
        """Count without looking at what was taken meanwhile; only where that seems too much, count anew."""
        if not self.ready:
            self._held = frame.size
            return True
        self._held += frame.size
        if self._held > BUFFER_BYTES:
            # A copy: in another thread, somebody may be taking from it.
            ready = self.ready.copy()
            self._held = frame.size + sum(len(item.raw) for item in ready if not isinstance(item, Unreadable))
        return self._held <= BUFFER_BYTES and len(self.ready) + len(frame.items) <= BUFFER_EVENTS
