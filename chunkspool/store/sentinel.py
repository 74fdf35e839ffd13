"""Clients whose new connections go to the server that Redis Sentinel calls the primary."""

from __future__ import annotations

from typing import Any

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from chunkspool.redis_url import RedisUrl


class SentinelPool(redis.sentinel.SentinelConnectionPool):
    """Also closes the connections to the Sentinels, of which redis-py's client is not the owner."""

    def disconnect(self, inuse_connections: bool = True) -> None:  # noqa: FBT001, FBT002 - redis-py's signature
        """Close all connections; after a failover redis-py closes the idle ones only, and asks the Sentinels on."""
        super().disconnect(inuse_connections)
        if inuse_connections:
            self.sentinel_manager.close()


class AsyncSentinelPool(redis.asyncio.sentinel.SentinelConnectionPool):
    """Also closes the connections to the Sentinels. See `SentinelPool`."""

    async def disconnect(self, inuse_connections: bool = True) -> None:  # noqa: FBT001, FBT002 - redis-py's signature
        """Close all connections. See `SentinelPool`."""
        await super().disconnect(inuse_connections)
        if inuse_connections:
            await self.sentinel_manager.aclose()


def connect_by_sentinel(url: RedisUrl, **options: Any) -> redis.Redis:
    """Return a sync client that asks the Sentinels when it connects; `options` are for its connections."""
    # A Sentinel that is down is passed over at once: redis-py's own retries would take seconds, and the others know.
    asking = {**url.sentinel_options(), "retry": Retry(NoBackoff(), 0)}
    sentinels = redis.sentinel.Sentinel(list(url.addresses), sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
    options |= url.connection_options()
    return redis.Redis.from_pool(SentinelPool(url.service, sentinels, **options))  # type: ignore[no-untyped-call]


def connect_by_sentinel_async(url: RedisUrl, **options: Any) -> redis.asyncio.Redis:
    """Return an asyncio client that asks the Sentinels when it connects; `options` are for its connections."""
    asking = {**url.sentinel_options(), "retry": AsyncRetry(NoBackoff(), 0)}
    sentinels = redis.asyncio.sentinel.Sentinel(list(url.addresses), sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
    options |= url.connection_options()
    return redis.asyncio.Redis.from_pool(AsyncSentinelPool(url.service, sentinels, **options))  # type: ignore[no-untyped-call]
