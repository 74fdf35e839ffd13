"""Sends calls and reads to Redis, for sync and async clients; the border where Redis's errors become ours."""

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
    without_password,
)
from chunkspool.store import scripts
from chunkspool.store.commands import Call, Reads

T = TypeVar("T")

CONNECT_TIMEOUT = 2.0
"""Seconds to open a connection. A Redis that needs longer is as good as away; what is retried is safe to retry."""
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

    def send(self, call: Call[T] | Reads[T]) -> T:
        """Run `call` and return what it says. Raises `StoreError` or `CorruptLog`."""
        with translated():
            reply = self._read(call) if isinstance(call, Reads) else self._run(call)
        return _parsed(call, reply)

    def send_all(self, reads: Sequence[Reads[T]], *, at_once: bool) -> list[T | ChunkspoolError]:
        """Make all reads in one round trip; where one fails, its error is returned in its place.

        `at_once`: as of one moment, otherwise one command after the other.
        """
        try:
            with translated():
                pipeline = _filled(self.client.pipeline(transaction=at_once), reads)
                try:
                    replies = pipeline.execute(raise_on_error=False)
                except OutOfMemoryError:
                    replies = [reply for one in reads for reply in self._run(scripts.reads(one))]
        except ChunkspoolError as error:
            return [copy(error) for _ in reads]
        return _told_apart(reads, replies)

    def _run(self, call: Call[Any]) -> Any:
        try:
            return self.client.evalsha(call.script.sha, len(call.keys), *call.keys, *call.args)
        except NoScriptError:
            return self.client.eval(call.script.text, len(call.keys), *call.keys, *call.args)

    def _read(self, reads: Reads[Any]) -> Any:
        pipeline = _filled(self.client.pipeline(transaction=len(reads.commands) > 1), [reads])
        try:
            return pipeline.execute()
        except OutOfMemoryError:
            return self._run(scripts.reads(reads))


class AsyncStore:
    """Calls through an asyncio client."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        """`client` stays its owner's to close."""
        self.client = client

    async def send(self, call: Call[T] | Reads[T]) -> T:
        """Run `call` and return what it says. Raises `StoreError` or `CorruptLog`."""
        async with cancellation_kept():
            with translated():
                reply = await (self._read(call) if isinstance(call, Reads) else self._run(call))
        return _parsed(call, reply)

    async def send_all(self, reads: Sequence[Reads[T]], *, at_once: bool) -> list[T | ChunkspoolError]:
        """Make all reads in one round trip. See `Store.send_all`."""
        try:
            async with cancellation_kept():
                with translated():
                    pipeline = _filled(self.client.pipeline(transaction=at_once), reads)
                    try:
                        replies = await pipeline.execute(raise_on_error=False)
                    except OutOfMemoryError:
                        replies = [reply for one in reads for reply in await self._run(scripts.reads(one))]
        except ChunkspoolError as error:
            return [copy(error) for _ in reads]
        return _told_apart(reads, replies)

    async def _run(self, call: Call[Any]) -> Any:
        try:
            return await self.client.evalsha(call.script.sha, len(call.keys), *call.keys, *call.args)
        except NoScriptError:
            return await self.client.eval(call.script.text, len(call.keys), *call.keys, *call.args)

    async def _read(self, reads: Reads[Any]) -> Any:
        pipeline = _filled(self.client.pipeline(transaction=len(reads.commands) > 1), [reads])
        try:
            return await pipeline.execute()
        except OutOfMemoryError:
            return await self._run(scripts.reads(reads))


def connect(url: str) -> redis.Redis:
    """Return a sync client that connects when it is first used. Raises `SettingsError` for a URL that is none."""
    with _url_checked(url):
        return redis.Redis.from_url(
            url,
            socket_connect_timeout=CONNECT_TIMEOUT,
            socket_timeout=SOCKET_TIMEOUT,
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 2),
        )


def connect_async(url: str) -> redis.asyncio.Redis:
    """Return an asyncio client that connects when it is first used. Raises `SettingsError` for a URL that is none."""
    with _url_checked(url):
        return redis.asyncio.Redis.from_url(
            url,
            socket_connect_timeout=CONNECT_TIMEOUT,
            socket_timeout=SOCKET_TIMEOUT,
            retry=redis.asyncio.retry.Retry(ExponentialBackoff(cap=0.5, base=0.05), 2),
        )


def _filled(pipeline: Any, reads: Sequence[Reads[Any]]) -> Any:
    """Return the pipeline with the commands in it.

    Replies are taken as Redis sends them: redis-py's callbacks would make a dict of every entry of a log, which costs
    a replay half its speed.
    """
    pipeline.response_callbacks = {}
    for one in reads:
        for command in one.commands:
            pipeline.execute_command(*command)
    return pipeline


def _told_apart(reads: Sequence[Reads[T]], replies: Sequence[Any]) -> list[T | ChunkspoolError]:
    found: list[T | ChunkspoolError] = []
    at = 0
    for one in reads:
        own = replies[at : at + len(one.commands)]
        at += len(one.commands)
        error = next((reply for reply in own if isinstance(reply, Exception)), None)
        try:
            found.append(_parsed(one, own) if error is None else translate(error))
        except ChunkspoolError as wrong:
            found.append(wrong)
    return found


def _parsed(call: Call[T] | Reads[T], reply: Any) -> T:
    try:
        return call.parse(reply)
    except ChunkspoolError:
        raise
    except (ValueError, TypeError, LookupError) as error:
        raise CorruptLog(None, f"another program has written a value there that is not ours: {error}") from error


@contextmanager
def translated() -> Iterator[None]:
    """Turn what redis-py raises inside the block into our errors."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise translate(error) from error


@asynccontextmanager
async def cancellation_kept() -> AsyncIterator[None]:
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
        return StoreFull(f"Redis is full, and nothing was written; free memory or raise maxmemory: {text}")
    if isinstance(error, InvalidResponse):
        return StoreRefused(f"what answers there is not a Redis; check the URL: {text}")
    if isinstance(error, _REFUSED) or text.startswith(("NOAUTH", "WRONGPASS", "NOPERM")):
        return StoreRefused(f"the server refuses us; check the URL, the user and the password: {text}")
    if isinstance(error, ReadOnlyError):
        return StoreUnavailable(f"this Redis is a replica, which only the primary writes; try again, or there: {text}")
    if isinstance(error, ResponseError) and not (isinstance(error, _PASSING) or text.startswith(_PASSING_CODES)):
        return _refused(text)
    return StoreUnavailable(f"Redis is away; try again, and check that it runs where the URL says: {text}")


def _refused(text: str) -> ChunkspoolError:
    if "WRONGTYPE" in text:
        return CorruptLog(None, "another program has written a key of another type there; delete it (WRONGTYPE)")
    if "not an integer" in text or "XADD" in text or "stream ID" in text:
        return CorruptLog(None, f"another program has changed the counter or the log: {text}")
    return StoreRefused(f"the server does not do what chunkspool needs (Redis 6.2 or newer): {text}")


@contextmanager
def _url_checked(url: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError):  # whose text may have a piece of the password
        shown = without_password(url)
        raise SettingsError(f"{shown!r} is not a Redis URL; write redis://[:password@]host:port/db") from None
