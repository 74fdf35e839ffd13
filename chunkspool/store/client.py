"""Sends script calls and transactions, for sync and async clients; the border where Redis's errors become ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from copy import copy
from typing import Any, TypeVar

import redis
import redis.asyncio
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    InvalidResponse,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.retry import Retry

from chunkspool.errors import (
    ChunkspoolError,
    CorruptLog,
    SettingsError,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
)
from chunkspool.redis_url import RedisUrl, parse_redis_url
from chunkspool.store import scripts
from chunkspool.store.commands import ScriptCall, Transaction
from chunkspool.store.sentinel import connect_by_sentinel, connect_by_sentinel_async

T = TypeVar("T")

CONNECT_TIMEOUT = 2.0
"""Seconds to open a connection. A Redis that needs longer is as good as unreachable; retrying is always safe."""
SOCKET_TIMEOUT = 5.0
"""Seconds for a reply. No call of ours blocks in the server."""
_PASSING = (ClusterDownError, MasterDownError, TryAgainError)
_PASSING_CODES = ("LOADING", "BUSY", "NOREPLICAS", "UNKILLABLE")
_REFUSED = (AuthenticationError, AuthorizationError, NoPermissionError)


class Store:
    """Calls through a sync client."""

    def __init__(self, client: redis.Redis) -> None:
        """`client` stays its owner's to close."""
        self.client = client

    def send(self, call: ScriptCall[T] | Transaction[T]) -> T:
        """Send `call` and return what it brings. Raises `StoreError` or `CorruptLog`."""
        with translate_errors():
            reply = self._send_transaction(call) if isinstance(call, Transaction) else self._send_script(call)
        return _parse(call, reply)

    def send_all(self, transactions: Sequence[Transaction[T]], *, at_once: bool) -> list[T | ChunkspoolError]:
        """Send all in one round trip; where one fails, its error is returned in its place.

        `at_once`: as of one moment, otherwise one command after the other.
        """
        try:
            with translate_errors():
                pipeline = _fill(self.client.pipeline(transaction=at_once), transactions)
                try:
                    replies = pipeline.execute(raise_on_error=False)
                except OutOfMemoryError:
                    calls = map(scripts.transaction, transactions)
                    replies = [reply for call in calls for reply in self._send_script(call)]
        except ChunkspoolError as error:
            return [copy(error) for _ in transactions]
        return _split_replies(transactions, replies)

    def _send_script(self, call: ScriptCall[Any]) -> Any:
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


class AsyncStore:
    """Calls through an asyncio client."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        """`client` stays its owner's to close."""
        self.client = client

    async def send(self, call: ScriptCall[T] | Transaction[T]) -> T:
        """Send `call` and return what it brings. Raises `StoreError` or `CorruptLog`."""
        async with keep_cancellation():
            with translate_errors():
                if isinstance(call, Transaction):
                    reply = await self._send_transaction(call)
                else:
                    reply = await self._send_script(call)
        return _parse(call, reply)

    async def send_all(self, transactions: Sequence[Transaction[T]], *, at_once: bool) -> list[T | ChunkspoolError]:
        """Send all in one round trip. See `Store.send_all`."""
        try:
            async with keep_cancellation():
                with translate_errors():
                    pipeline = _fill(self.client.pipeline(transaction=at_once), transactions)
                    try:
                        replies = await pipeline.execute(raise_on_error=False)
                    except OutOfMemoryError:
                        calls = map(scripts.transaction, transactions)
                        replies = [reply for call in calls for reply in await self._send_script(call)]
        except ChunkspoolError as error:
            return [copy(error) for _ in transactions]
        return _split_replies(transactions, replies)

    async def _send_script(self, call: ScriptCall[Any]) -> Any:
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


def _parse(call: ScriptCall[T] | Transaction[T], reply: Any) -> T:
    try:
        return call.parse(reply)
    except ChunkspoolError:
        raise
    except (ValueError, TypeError, LookupError) as error:
        raise CorruptLog(None, f"another program wrote a value there: {error}") from error


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turn what redis-py raises inside the block into our errors."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise translate(error) from error


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


def translate(error: Exception) -> ChunkspoolError:
    """Return our error for one of redis-py's (or for an operating system's, which it lets through)."""
    text = str(error) or type(error).__name__
    if isinstance(error, OutOfMemoryError) or "OOM command not allowed" in text:
        return StoreFull(f"Redis is full, so nothing was written; free memory or raise maxmemory: {text}")
    if isinstance(error, InvalidResponse):
        return StoreRefused(f"the server at this URL is not a Redis; check the URL: {text}")
    if isinstance(error, _REFUSED) or text.startswith(("NOAUTH", "WRONGPASS", "NOPERM")):
        return StoreRefused(f"Redis rejected the connection; check the URL, the user and the password: {text}")
    if isinstance(error, ReadOnlyError):
        return StoreUnavailable(f"this Redis is a read-only replica; try again, or use the primary's URL: {text}")
    if isinstance(error, ResponseError) and not (isinstance(error, _PASSING) or text.startswith(_PASSING_CODES)):
        return _refusal(text)
    return StoreUnavailable(f"Redis cannot be reached; check that it runs where the URL says, then try again: {text}")


def _refusal(text: str) -> ChunkspoolError:
    if "WRONGTYPE" in text:
        return CorruptLog(None, "another program wrote a key of another type there; delete it (WRONGTYPE)")
    if "not an integer" in text or "XADD" in text or "stream ID" in text:
        return CorruptLog(None, f"another program changed the counter or the log: {text}")
    return StoreRefused(f"the server cannot do what chunkspool needs, Redis 6.2 or newer can: {text}")


def _parse_url(url: str) -> RedisUrl:
    try:
        return parse_redis_url(url)
    except ValueError as error:
        raise SettingsError(f"this is not a Redis URL that chunkspool can use: {error}") from None
