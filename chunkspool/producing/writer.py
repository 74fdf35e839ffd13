"""What a process needs to write: one flusher and one stop listener for all of its producers."""

from __future__ import annotations

import os
import threading

import redis

from chunkspool.errors import StoreUnavailable
from chunkspool.producing.flusher import Flusher
from chunkspool.producing.outbox import Lane
from chunkspool.producing.producer import Producer
from chunkspool.producing.stop_listener import StopListener
from chunkspool.request import Claim
from chunkspool.settings import Settings
from chunkspool.store.keys import ChatKeys


class Writer:
    """Makes producers. Its threads start with the first one; in a forked child they start anew."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        """`client` stays its owner's to close."""
        self._client = client
        self._settings = settings
        self._lock = threading.Lock()
        self._threads: tuple[int, Flusher, StopListener] | None = None
        self._closed = False
        self._handing_over = False

    def producer(self, keys: ChatKeys, generation_id: str, claim: Claim) -> Producer:
        """Return the producer of a generation that was just claimed."""
        lane = Lane(keys, generation_id, claim.attempt, self._settings)
        return Producer(lane, self._flusher(), self._settings, claim)

    def hand_over(self) -> None:
        """Make all producers of this process leave without an ending, those to come as well."""
        with self._lock:
            self._handing_over = True
            threads = self._threads
        if threads is not None and threads[0] == os.getpid():
            threads[1].hand_over()

    def is_handing_over(self) -> bool:
        """Tell whether nothing more is to be claimed here."""
        return self._handing_over

    def close(self) -> None:
        """Write what waits, then end the threads."""
        with self._lock:
            self._closed = True
            threads, self._threads = self._threads, None
        if threads is not None and threads[0] == os.getpid():
            threads[2].close()
            threads[1].close()

    def _flusher(self) -> Flusher:
        with self._lock:
            if self._closed:
                raise StoreUnavailable("the spool was closed")
            if self._threads is None or self._threads[0] != os.getpid():
                flusher = Flusher(self._client, self._settings)
                listener = StopListener(self._client, flusher)
                listener.start()
                self._threads = (os.getpid(), flusher, listener)
                if self._handing_over:
                    flusher.hand_over()
            return self._threads[1]
