"""Tells the outcomes of what ends in this process, in a thread: no answer waits for it."""

from __future__ import annotations

import logging
import threading
import time

import redis

from chunkspool.effects import Effect, Pause, Publish, SendAll, Tell, drive
from chunkspool.errors import StoreUnavailable
from chunkspool.operations.outcome_relay import relay
from chunkspool.per_process import PerProcess
from chunkspool.retry import RetryBudget
from chunkspool.settings import LogSettings
from chunkspool.store.client import Store
from chunkspool.store.keys import ChatKeys

_LOG = logging.getLogger(__name__)
CHATS_MAX = 10_000
"""Chats that may wait for their turn; further ones are left to the sweep."""
CLOSE_SECONDS = 5.0


class OutcomeRelay:
    """Its thread starts with the first outcome; in a forked child it starts again."""

    def __init__(self, client: redis.Redis, settings: LogSettings) -> None:
        """`client` stays its owner's to close."""
        self._client = client
        self._settings = settings
        self._thread = PerProcess(self._start)

    def note(self, keys: ChatKeys) -> None:
        """Note that something is in the chat's outbox. It never waits for Redis."""
        self._thread.get().add(keys)

    def close(self) -> None:
        """Tell what is noted, if Redis is there, and end the thread."""
        thread = self._thread.take()
        if thread is not None:
            thread.close()

    def _start(self) -> _Thread:
        thread = _Thread(self._client, self._settings)
        thread.start()
        return thread


class _Thread:
    """The thread of one process."""

    def __init__(self, client: redis.Redis, settings: LogSettings) -> None:
        """Start nothing yet."""
        self._store = Store(client, patient=False)
        self._settings = settings
        self._chats: dict[ChatKeys, None] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._late_at: float | None = None
        self._retry = RetryBudget()
        self._thread = threading.Thread(target=self._run, name="chunkspool-outcomes", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def add(self, keys: ChatKeys) -> None:
        """Take a note."""
        with self._lock:
            if len(self._chats) < CHATS_MAX:
                self._chats[keys] = None
        self._wake.set()

    def close(self) -> None:
        """Tell what is noted, for some seconds; then end."""
        self._late_at = time.monotonic() + CLOSE_SECONDS
        self._closing.set()
        self._wake.set()
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while (keys := self._next()) is not None:
                is_told = self._tell(keys)
                if self._closing.is_set() and (not is_told or time.monotonic() > (self._late_at or 0.0)):
                    return  # the sweep will find it
            if self._closing.is_set():
                return

    def _next(self) -> ChatKeys | None:
        with self._lock:
            keys = next(iter(self._chats), None)
            if keys is not None:
                del self._chats[keys]
            return keys

    def _tell(self, keys: ChatKeys) -> bool:
        try:
            drive(relay(keys, self._settings), self._perform)
        except StoreUnavailable:
            self.add(keys)
            self._closing.wait(self._retry.pause())
            return False
        except Exception as error:  # noqa: BLE001 - redis-py's own, too, where a connection is closed under it: the thread lives on
            _LOG.warning("an outcome of chat %s is left to the sweep: %s", keys.chat_id, error)
            return False
        self._retry.renew()
        return True

    def _perform(self, effect: Effect) -> object:
        if isinstance(effect, SendAll | Publish | Pause | Tell):
            raise TypeError(f"telling an outcome needs no {type(effect).__name__}")
        return self._store.send(effect)
