"""Hears the stops that are pushed to all processes, and passes them on to this process's flusher."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import Any

import redis
from redis.client import PubSub

from chunkspool.errors import StoreError, StoreNotReady
from chunkspool.producing.flusher import Flusher
from chunkspool.retry import RetryBudget
from chunkspool.store.client import database_of
from chunkspool.store.failover import ROLE_CHECK, PrimaryWatch, ask_role, drop_connections
from chunkspool.store.keys import stops_channel
from chunkspool.store.translate import CLIENT_ERRORS

LISTEN_SECONDS = 0.25
"""How long one wait for a message lasts: closing takes no longer."""


class StopListener:
    """One thread and two connections, one of which only watches that the server stays the primary.

    It comes back by itself, and then asks for what it may have missed.
    """

    def __init__(self, client: redis.Redis, flusher: Flusher) -> None:
        """`client` stays its owner's to close."""
        self._client = client
        self._flusher = flusher
        self._channel = stops_channel(database_of(client))
        self._closing = threading.Event()
        self._retry = RetryBudget()
        self._watch = PrimaryWatch()
        self._thread = threading.Thread(target=self._run, name="chunkspool-stops", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def close(self) -> None:
        """End the thread and free its connection."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._listen()
            except (*CLIENT_ERRORS, StoreError) as error:
                if isinstance(error, StoreNotReady):
                    drop_connections(self._client)
                # Not an error to show: until it is back, the replies to heartbeats carry every stop.
                self._closing.wait(self._retry.pause())

    def _listen(self) -> None:
        pubsub = self._client.pubsub()  # type: ignore[no-untyped-call]
        try:
            pubsub.subscribe(self._channel)
            # A client of one connection, also of the pool.
            with closing(self._client.client()) as asking:  # type: ignore[no-untyped-call]
                self._watch.open(ask_role(asking))
                self._hear(pubsub, asking)
        finally:
            pubsub.close()

    def _hear(self, pubsub: PubSub, asking: redis.Redis) -> None:
        next_check = time.monotonic() + ROLE_CHECK
        while not self._closing.is_set():
            message = pubsub.get_message(timeout=LISTEN_SECONDS)
            if message is not None:
                self._take(message)
            if time.monotonic() >= next_check:
                self._watch.check(ask_role(asking, reconnect=self._watch.stranded))
                next_check = time.monotonic() + ROLE_CHECK

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "message":
            self._flusher.stop(_text_of(message["data"]))
        else:
            # (Re)subscribed. A stop that was pushed before this moment is told by a heartbeat's reply.
            self._retry.renew()
            self._flusher.beat_now()


def _text_of(data: Any) -> str:
    # Whoever may publish may publish anything; what is no id stops nothing.
    return data.decode(errors="replace") if isinstance(data, bytes) else str(data)
