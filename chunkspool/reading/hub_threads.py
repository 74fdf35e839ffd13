"""The hub for threads: all readers of a process on one subscribed connection, which a thread of its own listens to."""

from __future__ import annotations

import math
import threading
import time
from typing import TypeVar

import redis

from chunkspool.errors import ChunkspoolError, InternalError, SpoolClosed, StoreNotReady, StoreUnavailable
from chunkspool.observer import NOBODY, HubReconnected, Observer
from chunkspool.per_process import PerProcess
from chunkspool.reading.channels import TICKS, ChannelTable
from chunkspool.reading.pubsub import PubSubConnection, share_of
from chunkspool.reading.reader import Reader
from chunkspool.retry import RetryBudget
from chunkspool.store.client import Store
from chunkspool.store.commands import ScriptCall, Transaction
from chunkspool.store.failover import ROLE_CHECK, PrimaryWatch, drop_connections

T = TypeVar("T")
LINGER = 1.0
"""Seconds for which thread and connection are kept when the last reader has left."""
LISTEN_SECONDS = 0.25
"""How long one wait for a message lasts: closing takes no longer."""


class ThreadHub:
    """The readers' side of one client. In a process that was forked off it begins again, without readers."""

    def __init__(
        self, client: redis.Redis, *, read_timeout: float, recheck: float, observer: Observer = NOBODY
    ) -> None:
        """`client` stays its owner's to close. Both times are in seconds; see `Settings`."""
        self.read_timeout = read_timeout
        self.observer = observer
        self._process = PerProcess(
            lambda: _ProcessHub(client, read_timeout=read_timeout, recheck=recheck, observer=observer)
        )

    @property
    def lock(self) -> threading.Lock:
        """The lock that guards the state of all readers."""
        return self._process.get().lock

    def read(self, read: Transaction[T]) -> T:
        """Send the read when it is its turn. Raises what it raises, `StoreError` or `SpoolClosed`."""
        return self._process.get().read(read)

    def call(self, call: ScriptCall[T]) -> T:
        """Send the call. Raises `StoreError` or `SpoolClosed`."""
        return self._process.get().read(call)

    def join(self, reader: Reader) -> None:
        """Bring the frames of its chat to `reader`."""
        self._process.get().join(reader)

    def leave(self, reader: Reader) -> None:
        """Free what `reader` held."""
        self._process.get().leave(reader)

    def drop(self, reader: Reader) -> None:
        """Free what `reader` held, some ticks later. The garbage collector may call it, in any thread."""
        hub = self._process.peek()
        if hub is not None:
            hub.channels.drop(reader)

    def close(self) -> None:
        """Free the connection and end the thread; `SpoolClosed` is raised in the readers that are left."""
        self._process.get().close()


class _ProcessHub:
    """The hub of one process. Its thread runs while there are readers; they send their reads themselves.

    The state of all readers is guarded by `lock`, as is the connection, except for waiting on it.
    """

    def __init__(self, client: redis.Redis, *, read_timeout: float, recheck: float, observer: Observer) -> None:
        self.lock = threading.Lock()
        self.channels = ChannelTable(observer=observer)
        self._observer = observer
        self._lost = False
        self._read_timeout = read_timeout
        self._client = client
        self._store = Store(client, observer=observer)
        self._watch = PrimaryWatch()
        self._tick = recheck / TICKS
        self._slots = threading.BoundedSemaphore(share_of(client))
        self._closing = threading.Event()
        self._connection: PubSubConnection | None = None
        self._thread: threading.Thread | None = None

    def read(self, read: Transaction[T] | ScriptCall[T]) -> T:
        if self._closing.is_set():
            raise SpoolClosed
        if not self._slots.acquire(timeout=self._read_timeout):
            raise StoreUnavailable("Redis does not answer the reads of other readers, so this one could not be sent")
        try:
            return self._store.send(read)
        finally:
            self._slots.release()

    def join(self, reader: Reader) -> None:
        with self.lock:
            self.channels.join(reader)
            self._send_commands()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="chunkspool-hub", daemon=True)
                self._thread.start()

    def leave(self, reader: Reader) -> None:
        with self.lock:
            self.channels.leave(reader)
            self._send_commands()

    def close(self) -> None:
        with self.lock:
            self._closing.set()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _send_commands(self) -> None:
        if self._connection is not None:
            self._connection.send(self.channels.take_commands())

    def _run(self) -> None:
        retry = RetryBudget(self._read_timeout)
        try:
            while self._must_go_on():
                try:
                    self._follow(retry)
                except ChunkspoolError as error:
                    self._wait_after(error, retry)
        finally:
            with self.lock:
                # Only a bug of ours leaves readers behind: nobody may wait for a hub that is gone.
                if self._thread is threading.current_thread():
                    self._thread = None
                    self.channels.fail(InternalError("the readers' hub failed; see the log"))

    def _must_go_on(self) -> bool:
        """Decide under the lock, so that who joins either finds a thread that goes on or starts one."""
        with self.lock:
            if self._closing.is_set():
                self.channels.fail(SpoolClosed())
            if not self.channels:
                self._thread = None
            return self._thread is not None

    def _wait_after(self, error: ChunkspoolError, retry: RetryBudget) -> None:
        """Wait before the next try, or give up."""
        self._lost = True
        if isinstance(error, StoreNotReady):
            drop_connections(self._client)  # those on which pages are read
        try:
            if not isinstance(error, StoreUnavailable):
                raise error
            self._closing.wait(retry.pause_after(error))
        except ChunkspoolError as final:
            with self.lock:
                self.channels.fail(final)

    def _follow(self, retry: RetryBudget) -> None:
        """Serve the readers over one connection; return when the last of them has left."""
        connection = PubSubConnection.open(self._client, self._watch)
        if self._lost:
            self._lost = False
            self._observer.observe(HubReconnected())
        try:
            with self.lock:
                self.channels.connect()
                self._connection = connection
                self._send_commands()
            self._serve(connection, retry)
        finally:
            with self.lock:
                self._connection = None
                self.channels.disconnect()
            connection.close()

    def _serve(self, connection: PubSubConnection, retry: RetryBudget) -> None:
        next_tick, give_up = time.monotonic(), math.inf
        next_check = next_tick + ROLE_CHECK
        while not self._closing.is_set():
            something = connection.wait(0 if self.channels.has_probes else min(self._tick, LISTEN_SECONDS))
            now = time.monotonic()
            with self.lock:
                if something or connection.broken:
                    connection.hear(self.channels)
                if now >= next_tick:
                    self.channels.tick()
                    next_tick = now + self._tick
                self._send_commands()
                if self.channels.is_settled:
                    retry.renew()
                give_up = math.inf if self.channels else min(give_up, now + LINGER)
                probes = self.channels.take_probes()
            if now >= give_up:
                return
            if now >= next_check:
                connection.check_role()
                next_check = time.monotonic() + ROLE_CHECK
            if probes:
                found = connection.probe([probe.read for probe in probes])
                with self.lock:
                    for probe, seen in zip(probes, found, strict=True):
                        self.channels.take_probe_reply(probe, seen)
