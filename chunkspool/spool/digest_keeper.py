"""Keeps the digests of the chats that this process writes, in a thread that leaves the processor to the others."""

from __future__ import annotations

import logging
import threading
import time

import redis

from chunkspool.effects import Effect, Pause, Publish, SendAll, Tell, drive
from chunkspool.errors import StoreUnavailable
from chunkspool.operations.digest_keeping import keep_digest
from chunkspool.per_process import PerProcess
from chunkspool.retry import RetryBudget
from chunkspool.store.client import Store
from chunkspool.store.keys import ChatKeys

_LOG = logging.getLogger(__name__)
CHATS_MAX = 10_000
"""Chats that may wait for their turn; of further ones, the oldest are left to the sweep and to the readers."""
REST = 2
"""Seconds of rest for each second of work: at most a third of the interpreter's time is taken from those who write."""
CLOSE_SECONDS = 5.0


class DigestKeeper:
    """Its thread starts with the first long chat; in a forked child it starts again."""

    def __init__(self, client: redis.Redis) -> None:
        """`client` stays its owner's to close."""
        self._client = client
        self._thread = PerProcess(self._start)
        self._is_closed = False

    def note(self, keys: ChatKeys, *, has_large: bool) -> None:
        """Note that there is much new in the chat's log, or that it `has_large` events. It never waits for Redis."""
        if not self._is_closed:  # a flusher that did not end in time may still write
            self._thread.get().add(keys, has_large=has_large)

    @property
    def is_idle(self) -> bool:
        """Whether all is done that was noted."""
        thread = self._thread.peek()
        return thread is None or thread.is_idle

    def close(self) -> None:
        """End the thread, whatever is left to do."""
        self._is_closed = True
        thread = self._thread.take()
        if thread is not None:
            thread.close()

    def _start(self) -> _Thread:
        thread = _Thread(self._client)
        thread.start()
        return thread


class _Closing(Exception):
    """The thread is to end."""


class _Thread:
    """The thread of one process."""

    def __init__(self, client: redis.Redis) -> None:
        """Start nothing yet."""
        self._store = Store(client, patient=False)
        self._lock = threading.Lock()
        self._chats: dict[ChatKeys, bool] = {}
        self._is_busy = False
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._retry = RetryBudget()
        self._worked_since = 0.0
        self._thread = threading.Thread(target=self._run, name="chunkspool-digests", daemon=True)

    @property
    def is_idle(self) -> bool:
        """Whether all is done that was noted."""
        with self._lock:
            return not self._chats and not self._is_busy

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def add(self, keys: ChatKeys, *, has_large: bool) -> None:
        """Take a note."""
        with self._lock:
            self._chats[keys] = self._chats.get(keys, False) or has_large
            if len(self._chats) > CHATS_MAX:
                del self._chats[next(iter(self._chats))]
        self._wake.set()

    def close(self) -> None:
        """End as soon as the call that is under way has its reply."""
        self._closing.set()
        self._wake.set()
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait()
            self._wake.clear()
            while (noted := self._next()) is not None and not self._closing.is_set():
                self._keep(*noted)

    def _next(self) -> tuple[ChatKeys, bool] | None:
        with self._lock:
            self._is_busy = bool(self._chats)
            if not self._chats:
                return None
            keys = next(iter(self._chats))
            return keys, self._chats.pop(keys)

    def _keep(self, keys: ChatKeys, has_large: bool) -> None:  # noqa: FBT001 - private, and named where it is called
        self._worked_since = time.thread_time()
        try:
            drive(keep_digest(keys, has_large=has_large), self._perform)
        except _Closing:
            return
        except StoreUnavailable:
            self.add(keys, has_large=has_large)
            self._closing.wait(self._retry.pause())
            return
        except Exception as error:  # noqa: BLE001 - redis-py's own, too, where a connection is closed under it: the thread lives on
            # A lack of rights, or a log that is none of ours: those who read the chat are told.
            _LOG.debug("no digest of chat %s: %s", keys.chat_id, error)
            self._closing.wait(self._retry.pause())
            return
        self._retry.renew()

    def _perform(self, effect: Effect) -> object:
        self._closing.wait(REST * (time.thread_time() - self._worked_since))
        if self._closing.is_set():
            raise _Closing
        self._worked_since = time.thread_time()
        if isinstance(effect, SendAll | Publish | Pause | Tell):
            raise TypeError(f"keeping a digest needs no {type(effect).__name__}")
        return self._store.send(effect)
