"""The hub for threads: all readers of a process on one subscribed connection, which a thread of its own listens to."""

from __future__ import annotations

import math
import os
import threading
import time
from typing import TypeVar

import redis

from chunkspool.errors import ChunkspoolError, StoreUnavailable
from chunkspool.reading.channels import TICKS, Lines
from chunkspool.reading.pubsub import Link, share_of
from chunkspool.reading.reader import Patience, Reader
from chunkspool.store.client import Store
from chunkspool.store.commands import Reads

T = TypeVar("T")
LINGER = 1.0
"""Seconds for which thread and connection are kept when the last reader has left."""
_CLOSED = "the spool was closed"
LISTEN_SECONDS = 0.25
"""How long one wait for a message lasts: closing takes no longer."""


class Hub:
    """The readers' side of one client. Its thread runs while there are readers; they make their reads themselves.

    The state of all readers is guarded by `lock`, as is the link, except for waiting on it.
    """

    def __init__(self, client: redis.Redis, *, read_timeout: float, recheck: float) -> None:
        """`client` stays its owner's to close. Both times are in seconds; see `Settings`."""
        self.read_timeout = read_timeout
        self._client = client
        self._store = Store(client)
        self._tick = recheck / TICKS
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(share_of(self._client))
        self._closing = threading.Event()
        self._lines = Lines()
        self._link: Link | None = None
        self._thread: threading.Thread | None = None

    @property
    def lock(self) -> threading.Lock:
        """The lock. In a process that was forked off, thread and connection are the parent's: begin anew."""
        if self._process != os.getpid():
            self._begin()
        return self._lock

    def read(self, reads: Reads[T]) -> T:
        """Make the reads when it is their turn. Raises what they raise, or `StoreError`."""
        if self._closing.is_set():
            raise StoreUnavailable(_CLOSED)
        if not self._slots.acquire(timeout=self.read_timeout):
            raise StoreUnavailable("Redis is away: the reads of other readers do not come back")
        try:
            return self._store.send(reads)
        finally:
            self._slots.release()

    def join(self, reader: Reader) -> None:
        """Bring the frames of its chat to `reader`."""
        with self.lock:
            self._lines.join(reader)
            self._tell()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="chunkspool-hub", daemon=True)
                self._thread.start()

    def leave(self, reader: Reader) -> None:
        """Free what `reader` held."""
        with self.lock:
            self._lines.leave(reader)
            self._tell()

    def drop(self, reader: Reader) -> None:
        """Free what `reader` held, some ticks later. The garbage collector may call it, in any thread."""
        self._lines.drop(reader)

    def close(self) -> None:
        """Free the connection and end the thread; `StoreUnavailable` is raised in the readers that are left."""
        with self.lock:
            self._closing.set()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _tell(self) -> None:
        if self._link is not None:
            self._link.send(self._lines.orders())

    def _run(self) -> None:
        patience = Patience(self.read_timeout)
        try:
            while self._goes_on():
                try:
                    self._follow(patience)
                except ChunkspoolError as error:
                    self._bear(error, patience)
        finally:
            with self._lock:
                # Only a fault of ours leaves readers behind: nobody may wait for a hub that is gone.
                if self._thread is threading.current_thread():
                    self._thread = None
                    self._lines.fail(StoreUnavailable("the readers' hub has ended"))

    def _goes_on(self) -> bool:
        """Decide under the lock, so that who joins either finds a thread that goes on or starts one."""
        with self._lock:
            if self._closing.is_set():
                self._lines.fail(StoreUnavailable(_CLOSED))
            if not self._lines:
                self._thread = None
            return self._thread is not None

    def _bear(self, error: ChunkspoolError, patience: Patience) -> None:
        """Wait before the next try, or give up."""
        try:
            if not isinstance(error, StoreUnavailable):
                raise error
            self._closing.wait(patience.pause_after(error))
        except ChunkspoolError as final:
            with self._lock:
                self._lines.fail(final)

    def _follow(self, patience: Patience) -> None:
        """Serve the readers over one connection; return when the last of them has left."""
        link = Link.opened(self._client)
        try:
            with self._lock:
                self._lines.linked()
                self._link = link
                self._tell()
            self._serve(link, patience)
        finally:
            with self._lock:
                self._link = None
                self._lines.lost()
            link.close()

    def _serve(self, link: Link, patience: Patience) -> None:
        next_tick, give_up = time.monotonic(), math.inf
        while not self._closing.is_set():
            something = link.waits(0 if self._lines.in_doubt else min(self._tick, LISTEN_SECONDS))
            now = time.monotonic()
            with self._lock:
                if something or link.broken:
                    link.hear(self._lines)
                if now >= next_tick:
                    self._lines.tick()
                    next_tick = now + self._tick
                self._tell()
                if self._lines.at_rest:
                    patience.renew()
                give_up = math.inf if self._lines else min(give_up, now + LINGER)
                looks = self._lines.looks()
            if now >= give_up:
                return
            if looks:
                found = link.look([look.reads for look in looks])
                with self._lock:
                    for look, seen in zip(looks, found, strict=True):
                        self._lines.looked(look, seen)
