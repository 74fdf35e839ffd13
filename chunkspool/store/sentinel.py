"""Clients that ask Redis Sentinel for the primary whenever they connect."""

from __future__ import annotations

from typing import Any

import redis
import redis.asyncio
from redis.asyncio import sentinel as async_sentinel
from redis.asyncio.connection import SSLConnection as AsyncSSLConnection
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.connection import SSLConnection
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool, SentinelManagedConnection

from chunkspool.urls.redis_url import RedisUrl


class SentinelConnection(SentinelManagedConnection):
    """A connection that asks the Sentinels again before a command is repeated.

    redis-py asks only when a connection leaves the pool (its issue 3874). What it repeats goes to the address it knows:
    to a dead server again, or to an old primary that has come back and takes writes until the Sentinels demote it.
    """

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - redis-py's
        """Connect where the Sentinels say, then send."""
        if not self.is_connected:
            self.connect()  # type: ignore[no-untyped-call]
        super().send_packed_command(command, check_health)  # type: ignore[no-untyped-call]


class SentinelTlsConnection(SentinelConnection, SSLConnection):
    """The same with TLS."""


class AsyncSentinelConnection(async_sentinel.SentinelManagedConnection):
    """The same for asyncio."""

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - redis-py's
        """Connect where the Sentinels say, then send."""
        if not self.is_connected:
            await self.connect()  # type: ignore[no-untyped-call]
        await super().send_packed_command(command, check_health)


class AsyncSentinelTlsConnection(AsyncSentinelConnection, AsyncSSLConnection):
    """The same for asyncio, with TLS."""


class Sentinels(Sentinel):
    """Asks one Sentinel after the other, and says of each why it did not help: redis-py's text hides that."""

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return host and port of the primary. Raises redis-py's `MasterNotFoundError`."""
        failed = []
        for one in tuple(self.sentinels):
            try:
                masters: Any = one.sentinel_masters()
            except RedisError as error:
                failed.append(_explain(one, error))
                continue
            found = masters.get(service_name)
            if found and self.check_master_state(found, service_name):  # type: ignore[no-untyped-call]
                self.sentinels = _put_first(one, self.sentinels)
                return found["ip"], found["port"]
            failed.append(_explain(one, None))
        raise _not_found(service_name, failed)


class AsyncSentinels(async_sentinel.Sentinel):
    """The same for asyncio."""

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return host and port of the primary. Raises redis-py's `MasterNotFoundError`."""
        failed = []
        for one in tuple(self.sentinels):
            try:
                masters: Any = await one.sentinel_masters()
            except RedisError as error:
                failed.append(_explain(one, error))
                continue
            found = masters.get(service_name)
            if found and self.check_master_state(found, service_name):
                self.sentinels = _put_first(one, self.sentinels)
                return found["ip"], found["port"]
            failed.append(_explain(one, None))
        raise _not_found(service_name, failed)


def _explain(sentinel: Any, error: RedisError | None) -> str:
    where = sentinel.connection_pool.connection_kwargs
    why = "knows of no primary that is up" if error is None else str(error) or type(error).__name__
    return f"{where['host']}:{where['port']}: {why}"


def _put_first(one: Any, sentinels: list[Any]) -> list[Any]:
    return [one, *(other for other in sentinels if other is not one)]


def _not_found(service: str, failed: list[str]) -> Exception:
    return MasterNotFoundError(f"no Sentinel names the primary of {service!r} ({'; '.join(failed)})")


class SentinelPool(SentinelConnectionPool):
    """Closes its connections to the Sentinels, too, of which no client of redis-py's is the owner."""

    def disconnect(self, inuse_connections: bool = True) -> None:  # noqa: FBT001, FBT002 - redis-py's signature
        """Close all connections. Of a new primary redis-py makes the idle ones only close, and asks on."""
        super().disconnect(inuse_connections)
        if inuse_connections:
            self.sentinel_manager.close()


class AsyncSentinelPool(async_sentinel.SentinelConnectionPool):
    """The same for asyncio."""

    async def disconnect(self, inuse_connections: bool = True) -> None:  # noqa: FBT001, FBT002 - redis-py's signature
        """Close all connections. See `SentinelPool`."""
        await super().disconnect(inuse_connections)
        if inuse_connections:
            await self.sentinel_manager.aclose()


def connect_by_sentinel(url: RedisUrl, **options: Any) -> redis.Redis:
    """Return a sync client of the primary; `options` are for its connections."""
    # A Sentinel that is down is passed over at once: redis-py's own retries would take seconds, and the others know.
    asking = {**url.sentinel_options(), "retry": Retry(NoBackoff(), 0)}
    sentinels = Sentinels(list(url.addresses), sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
    kind = SentinelConnection if url.tls is None else SentinelTlsConnection
    options |= {**url.connection_options(), "connection_class": kind}
    return redis.Redis.from_pool(SentinelPool(url.service, sentinels, **options))  # type: ignore[no-untyped-call]


def connect_by_sentinel_async(url: RedisUrl, **options: Any) -> redis.asyncio.Redis:
    """Return an asyncio client of the primary; `options` are for its connections."""
    asking = {**url.sentinel_options(), "retry": AsyncRetry(NoBackoff(), 0)}
    sentinels = AsyncSentinels(list(url.addresses), sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
    kind = AsyncSentinelConnection if url.tls is None else AsyncSentinelTlsConnection
    options |= {**url.connection_options(), "connection_class": kind}
    return redis.asyncio.Redis.from_pool(AsyncSentinelPool(url.service, sentinels, **options))  # type: ignore[no-untyped-call]
