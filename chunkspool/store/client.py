"""Sends script calls and transactions, for sync and async clients."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from copy import copy
from functools import partial
from typing import Any, TypeVar

import redis
import redis.asyncio
from redis.backoff import ExponentialBackoff
from redis.exceptions import NoScriptError, OutOfMemoryError, ResponseError
from redis.retry import Retry

from chunkspool.errors import (
    ChunkspoolError,
    CorruptLog,
    SettingsError,
    StoreError,
    StoreNotReady,
)
from chunkspool.observer import NOBODY, Observer, Retried
from chunkspool.store import scripts
from chunkspool.store.commands import ScriptCall, Transaction
from chunkspool.store.failover import CallRetry, drop_connections, drop_connections_async
from chunkspool.store.rights import is_unnamed, never_executed, suppress_all_but_refusals
from chunkspool.store.sentinel import connect_by_sentinel, connect_by_sentinel_async
from chunkspool.store.slots import AsyncSlots, Slots, calls_at_once
from chunkspool.store.translate import translate, translate_errors
from chunkspool.urls.redis_url import RedisUrl, parse_redis_url

T = TypeVar("T")

CONNECT_TIMEOUT = 2.0
"""Seconds to open a connection. A Redis that needs longer is as good as unreachable; retrying is always safe."""
SOCKET_TIMEOUT = 5.0
"""Seconds for a reply. No call of ours blocks in the server."""


class Store:
    """Calls through a sync client. Each waits for a connection and for the end of a failover, for a limited time."""

    def __init__(self, client: redis.Redis, *, patient: bool = True, observer: Observer = NOBODY) -> None:
        """`client` stays its owner's to close. A `patient` store's calls wait for the end of a failover."""
        self._observer = observer
        self.client = client
        self._patient = patient
        self._under_way: set[CallRetry] = set()
        self._slots = Slots(calls_at_once(client))

    def send(self, call: ScriptCall[T] | Transaction[T]) -> T:
        """Send `call` and return what it brings. Raises `StoreError` or `CorruptLog`."""
        if isinstance(call, Transaction):
            return _parse(call, self._persist(partial(self._send_transaction, call)))
        return _parse(call, self._persist(partial(self._send_script, call)))

    def send_all(self, transactions: Sequence[Transaction[T]], *, at_once: bool) -> list[T | ChunkspoolError]:
        """Send all in one round trip; where one fails, its error is returned in its place.

        `at_once`: as of one moment, otherwise one command after the other.
        """
        try:
            replies = self._persist(partial(self._send_pipeline, transactions, at_once=at_once))
        except ChunkspoolError as error:
            return [copy(error) for _ in transactions]
        return _split_replies(transactions, replies)

    def _persist(self, send: Callable[[], Any]) -> Any:
        """Return what `send` brings, tried again as `CallRetry` says."""
        retry = CallRetry(patient=self._patient)
        self._under_way.add(retry)
        try:
            while True:
                try:
                    with self._slots.take(), translate_errors():
                        return send()
                except StoreError as error:
                    if isinstance(error, StoreNotReady):
                        drop_connections(self.client)
                    pause = retry.pause_after(error, len(self._under_way))
                self._observer.observe(Retried("redis"))
                time.sleep(pause)
        finally:
            self._under_way.discard(retry)

    def _send_script(self, call: ScriptCall[Any]) -> Any:
        try:
            return self._evaluate(call)
        except ResponseError as error:
            if is_unnamed(error):
                with suppress_all_but_refusals():
                    _fill(self.client.pipeline(), [never_executed(call)]).execute()  # raises the error that names it
            raise

    def _evaluate(self, call: ScriptCall[Any]) -> Any:
        try:
            return self.client.evalsha(call.script.sha, len(call.keys), *call.keys, *call.args)
        except NoScriptError:
            return self.client.eval(call.script.text, len(call.keys), *call.keys, *call.args)

    def _send_transaction(self, transaction: Transaction[Any]) -> Any:
        pipeline = _fill(self.client.pipeline(transaction=len(transaction.commands) > 1), [transaction])
        try:
            return pipeline.execute()
        except OutOfMemoryError:
            return self._send_script(scripts.transaction(transaction))

    def _send_pipeline(self, transactions: Sequence[Transaction[Any]], *, at_once: bool) -> list[Any]:
        pipeline = _fill(self.client.pipeline(transaction=at_once), transactions)
        try:
            replies: list[Any] = pipeline.execute(raise_on_error=False)
        except OutOfMemoryError:
            calls = map(scripts.transaction, transactions)
            return [reply for call in calls for reply in self._send_script(call)]
        _raise_if_not_ready(replies)
        return replies


class AsyncStore:
    """Calls through an asyncio client. See `Store`."""

    def __init__(self, client: redis.asyncio.Redis, *, patient: bool = True, observer: Observer = NOBODY) -> None:
        """`client` stays its owner's to close. A `patient` store's calls wait for the end of a failover."""
        self._observer = observer
        self.client = client
        self._patient = patient
        self._under_way: set[CallRetry] = set()
        self._slots = AsyncSlots(calls_at_once(client))

    async def send(self, call: ScriptCall[T] | Transaction[T]) -> T:
        """Send `call` and return what it brings. Raises `StoreError` or `CorruptLog`."""
        if isinstance(call, Transaction):
            return _parse(call, await self._persist(partial(self._send_transaction, call)))
        return _parse(call, await self._persist(partial(self._send_script, call)))

    async def send_all(self, transactions: Sequence[Transaction[T]], *, at_once: bool) -> list[T | ChunkspoolError]:
        """Send all in one round trip. See `Store.send_all`."""
        try:
            replies = await self._persist(partial(self._send_pipeline, transactions, at_once=at_once))
        except ChunkspoolError as error:
            return [copy(error) for _ in transactions]
        return _split_replies(transactions, replies)

    async def _persist(self, send: Callable[[], Awaitable[Any]]) -> Any:
        """Return what `send` brings, tried again as `CallRetry` says."""
        retry = CallRetry(patient=self._patient)
        self._under_way.add(retry)
        try:
            while True:
                try:
                    async with self._slots.take(), keep_cancellation():
                        with translate_errors():
                            return await send()
                except StoreError as error:
                    if isinstance(error, StoreNotReady):
                        await drop_connections_async(self.client)
                    pause = retry.pause_after(error, len(self._under_way))
                self._observer.observe(Retried("redis"))
                await asyncio.sleep(pause)
        finally:
            self._under_way.discard(retry)

    async def _send_script(self, call: ScriptCall[Any]) -> Any:
        try:
            return await self._evaluate(call)
        except ResponseError as error:
            if is_unnamed(error):
                with suppress_all_but_refusals():
                    await _fill(self.client.pipeline(), [never_executed(call)]).execute()
            raise

    async def _evaluate(self, call: ScriptCall[Any]) -> Any:
        try:
            return await self.client.evalsha(call.script.sha, len(call.keys), *call.keys, *call.args)
        except NoScriptError:
            return await self.client.eval(call.script.text, len(call.keys), *call.keys, *call.args)

    async def _send_transaction(self, transaction: Transaction[Any]) -> Any:
        pipeline = _fill(self.client.pipeline(transaction=len(transaction.commands) > 1), [transaction])
        try:
            return await pipeline.execute()
        except OutOfMemoryError:
            return await self._send_script(scripts.transaction(transaction))

    async def _send_pipeline(self, transactions: Sequence[Transaction[Any]], *, at_once: bool) -> list[Any]:
        pipeline = _fill(self.client.pipeline(transaction=at_once), transactions)
        try:
            replies: list[Any] = await pipeline.execute(raise_on_error=False)
        except OutOfMemoryError:
            calls = map(scripts.transaction, transactions)
            return [reply for call in calls for reply in await self._send_script(call)]
        _raise_if_not_ready(replies)
        return replies


def connect(url: str) -> redis.Redis:
    """Return a sync client that connects when it is first used. Raises `SettingsError` for a URL that is none."""
    where = _parse_url(url)
    retry = Retry(ExponentialBackoff(cap=0.5, base=0.05), 2)
    options: dict[str, Any] = {"socket_connect_timeout": CONNECT_TIMEOUT, "socket_timeout": SOCKET_TIMEOUT}
    if where.service:
        return connect_by_sentinel(where, retry=retry, **options)
    return redis.Redis.from_url(where.for_redis_py(), retry=retry, **options)


def connect_async(url: str) -> redis.asyncio.Redis:
    """Return an asyncio client that connects when it is first used. Raises `SettingsError` for a URL that is none."""
    where = _parse_url(url)
    retry = redis.asyncio.retry.Retry(ExponentialBackoff(cap=0.5, base=0.05), 2)
    options: dict[str, Any] = {"socket_connect_timeout": CONNECT_TIMEOUT, "socket_timeout": SOCKET_TIMEOUT}
    if where.service:
        return connect_by_sentinel_async(where, retry=retry, **options)
    return redis.asyncio.Redis.from_url(where.for_redis_py(), retry=retry, **options)


def database_of(client: redis.Redis | redis.asyncio.Redis) -> int:
    """Return the number of the database that a client's connections select."""
    return int(client.connection_pool.connection_kwargs.get("db") or 0)


def _fill(pipeline: Any, transactions: Sequence[Transaction[Any]]) -> Any:
    """Return the pipeline with the commands in it.

    Replies are taken as Redis sends them: redis-py's callbacks would make a dict of every entry of a log, which costs
    a replay half its speed.
    """
    pipeline.response_callbacks = {}
    for one in transactions:
        for command in one.commands:
            pipeline.execute_command(*command)
    return pipeline


def _split_replies(transactions: Sequence[Transaction[T]], replies: Sequence[Any]) -> list[T | ChunkspoolError]:
    found: list[T | ChunkspoolError] = []
    at = 0
    for one in transactions:
        own = replies[at : at + len(one.commands)]
        at += len(one.commands)
        error = next((reply for reply in own if isinstance(reply, Exception)), None)
        try:
            found.append(_parse(one, own) if error is None else translate(error))
        except ChunkspoolError as wrong:
            found.append(wrong)
    return found


def _raise_if_not_ready(replies: Sequence[Any]) -> None:
    """Raise for the whole pipeline what says that the connection leads to the wrong server."""
    for reply in replies:
        if isinstance(reply, Exception) and isinstance(translate(reply), StoreNotReady):
            raise reply


def _parse(call: ScriptCall[T] | Transaction[T], reply: Any) -> T:
    try:
        return call.parse(reply)
    except ChunkspoolError:
        raise
    except (ValueError, TypeError, LookupError) as error:
        raise CorruptLog(None, f"another program wrote a value there: {error}") from error


@asynccontextmanager
async def keep_cancellation() -> AsyncIterator[None]:
    """Raise the cancellation that came inside the block, or just before it, and got lost there.

    redis-py writes through `asyncio.wait_for`, which before Python 3.12 loses one that comes just as it is done.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    if before:
        await asyncio.sleep(0)  # what is not yet delivered comes here
    delivered = False
    try:
        yield
    except asyncio.CancelledError:
        delivered = True
        raise
    finally:
        if task is not None and task.cancelling() > before and not delivered:
            await asyncio.sleep(0)  # the same: it must not come once more later
            raise asyncio.CancelledError


def _parse_url(url: str) -> RedisUrl:
    try:
        return parse_redis_url(url)
    except ValueError as error:
        raise SettingsError(f"this is not a Redis URL that chunkspool can use: {error}") from None
