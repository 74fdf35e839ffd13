"""Makes producers: they share one flusher and one stop listener in each process."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import redis

from chunkspool.errors import SpoolClosed
from chunkspool.observer import NOBODY, Observer
from chunkspool.per_process import PerProcess
from chunkspool.producing.flusher import Flusher
from chunkspool.producing.growth import OnGrown
from chunkspool.producing.outbox import Outbox
from chunkspool.producing.producer import Producer
from chunkspool.producing.stop_listener import StopListener
from chunkspool.request import Claim
from chunkspool.settings import Settings
from chunkspool.store.keys import ChatKeys


@dataclass(frozen=True, slots=True)
class _Threads:
    flusher: Flusher
    listener: StopListener


class ProducerFactory:
    """Its threads start with the first producer; in a forked child they start again."""

    def __init__(
        self, client: redis.Redis, settings: Settings, on_grown: OnGrown | None = None, observer: Observer = NOBODY
    ) -> None:
        """`client` stays its owner's to close. `on_grown` is told of logs that have become worth a digest."""
        self._client = client
        self._observer = observer
        self._on_grown = on_grown
        self._settings = settings
        self._threads = PerProcess(self._start_threads)
        self._closed = threading.Event()
        self._releasing: bool | None = None  # whether the released attempts count; None: nothing is released

    def make(self, keys: ChatKeys, generation_id: str, claim: Claim) -> Producer:
        """Return the producer of a generation that was just claimed. Raises `SpoolClosed`."""
        outbox = Outbox(keys, generation_id, self._settings.log, claim)
        return Producer(outbox, self._flusher(), self._settings, claim)

    def release(self, *, counts: bool) -> None:
        """Make all producers of this process leave without an ending, and those to come."""
        self._releasing = counts if self._releasing is None else self._releasing
        threads = self._threads.peek()
        if threads is not None:
            threads.flusher.release(counts=self._releasing)

    def is_releasing(self) -> bool:
        """Tell whether nothing more is to be claimed here."""
        return self._releasing is not None

    def close(self) -> None:
        """Write what waits, then end the threads."""
        self._closed.set()
        threads = self._threads.take()
        if threads is not None:
            threads.listener.close()
            threads.flusher.close()

    def _flusher(self) -> Flusher:
        if self._closed.is_set():
            raise SpoolClosed
        threads = self._threads.get()
        # Looked at only now: whoever sets a flag later finds these threads.
        if self._closed.is_set():
            self.close()
            raise SpoolClosed
        if self._releasing is not None:
            threads.flusher.release(counts=self._releasing)
        return threads.flusher

    def _start_threads(self) -> _Threads:
        flusher = Flusher(self._client, self._settings.log, self._on_grown, self._observer)
        listener = StopListener(self._client, flusher)
        listener.start()
        return _Threads(flusher, listener)
