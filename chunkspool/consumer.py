"""Subscriptions: replay a chat's log from a cursor, then follow it live. One Redis connection each."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from types import TracebackType
from typing import Any, Self

import redis
import redis.asyncio

from chunkspool.calls import as_bytes
from chunkspool.cursor import Cursor, Raw
from chunkspool.errors import StoreUnavailable
from chunkspool.events import Entry
from chunkspool.keys import ChatKeys
from chunkspool.store import AsyncStore, Store, cancellation_kept, translated

RECHECK = 5.0
"""Seconds of quiet after which the log is read anyhow: a lost last frame costs seconds, not for ever."""


class Patience:
    """How long a reader puts up with a Redis that is away."""

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


class Subscription:
    """An iterator of `Entry`. Use it in a `with` block: leaving the block frees its connection.

    After a `CorruptLog` the same iterator goes on behind the entry that could not be decoded.
    """

    def __init__(self, client: redis.Redis, keys: ChatKeys, cursor: Cursor, read_timeout: float) -> None:
        """Connect only when the block is entered."""
        self._store = Store(client)
        self._keys = keys
        self._cursor = cursor
        self._patience = Patience(read_timeout)
        self._ready: deque[Raw] = deque()
        self._pubsub: redis.client.PubSub | None = None

    def __enter__(self) -> Self:
        """Make sure that the chat exists and the cursor is good: what is wrong is raised here."""
        self._fill_from_page()
        return self

    def __exit__(self, _type: object, _error: object, _traceback: TracebackType | None) -> None:
        """Free the connection."""
        if self._pubsub is not None:
            self._pubsub.close()
            self._pubsub = None

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def __next__(self) -> Entry:
        """Return the next entry; wait for it where the log has none yet."""
        while not self._ready:
            if self._cursor.done:
                raise StopIteration
            try:
                self._fill()
                self._patience.renew()
            except StoreUnavailable as error:
                self._cursor.behind = True
                time.sleep(self._patience.pause_after(error))
        return self._ready.popleft().decoded()

    def _fill(self) -> None:
        if self._pubsub is None:
            self._subscribe()
        if self._cursor.behind:
            self._fill_from_page()
            return
        with translated():
            message = self._pubsub.get_message(timeout=RECHECK) if self._pubsub else None
        self._ready.extend(_entries_of(message, self._cursor))

    def _fill_from_page(self) -> None:
        self._ready.extend(self._cursor.take_page(self._store.send(self._cursor.page())))

    def _subscribe(self) -> None:
        """Subscribe and wait until Redis says so: only then does a read of the log miss nothing."""
        pubsub = self._store.client.pubsub()  # type: ignore[no-untyped-call]
        try:
            with translated():
                pubsub.subscribe(self._keys.live)
                _confirmed(pubsub.get_message(timeout=RECHECK))
        except BaseException:
            pubsub.close()
            raise
        self._pubsub = pubsub
        self._cursor.behind = True


class AsyncSubscription:
    """An async iterator of `Entry`. Use it in an `async with` block: leaving the block frees its connection.

    After a `CorruptLog` the same iterator goes on behind the entry that could not be decoded.
    """

    def __init__(self, client: redis.asyncio.Redis, keys: ChatKeys, cursor: Cursor, read_timeout: float) -> None:
        """Connect only when the block is entered."""
        self._store = AsyncStore(client)
        self._keys = keys
        self._cursor = cursor
        self._patience = Patience(read_timeout)
        self._ready: deque[Raw] = deque()
        self._pubsub: redis.asyncio.client.PubSub | None = None

    async def __aenter__(self) -> Self:
        """Make sure that the chat exists and the cursor is good: what is wrong is raised here."""
        await self._fill_from_page()
        return self

    async def __aexit__(self, _type: object, _error: object, _traceback: TracebackType | None) -> None:
        """Free the connection."""
        if self._pubsub is not None:
            await self._pubsub.aclose()  # type: ignore[no-untyped-call]
            self._pubsub = None

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> Entry:
        """Return the next entry; wait for it where the log has none yet."""
        while not self._ready:
            if self._cursor.done:
                raise StopAsyncIteration
            try:
                async with cancellation_kept():
                    await self._fill()
                self._patience.renew()
            except StoreUnavailable as error:
                self._cursor.behind = True
                await asyncio.sleep(self._patience.pause_after(error))
        return self._ready.popleft().decoded()

    async def _fill(self) -> None:
        if self._pubsub is None:
            await self._subscribe()
        if self._cursor.behind:
            await self._fill_from_page()
            return
        with translated():
            message = await self._pubsub.get_message(timeout=RECHECK) if self._pubsub else None
        self._ready.extend(_entries_of(message, self._cursor))

    async def _fill_from_page(self) -> None:
        self._ready.extend(self._cursor.take_page(await self._store.send(self._cursor.page())))

    async def _subscribe(self) -> None:
        """Subscribe and wait until Redis says so: only then does a read of the log miss nothing."""
        pubsub = self._store.client.pubsub()
        try:
            with translated():
                await pubsub.subscribe(self._keys.live)
                _confirmed(await pubsub.get_message(timeout=RECHECK))
        except BaseException:
            await pubsub.aclose()  # type: ignore[no-untyped-call]
            raise
        self._pubsub = pubsub
        self._cursor.behind = True


def _confirmed(message: Any) -> None:
    if message is None:
        raise StoreUnavailable("Redis is away: no answer to SUBSCRIBE")


def _entries_of(message: Any, cursor: Cursor) -> tuple[Raw, ...]:
    """Return what a message of the pub/sub connection brings; quiet, or a resubscription, means: read the log."""
    if message is None or message["type"] != "message":
        cursor.behind = True
        return ()
    return cursor.take_frame(as_bytes(message["data"]))
