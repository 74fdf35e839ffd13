"""A hub's one connection to Redis, sync and async: the only place of the reading half that subscribes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Self, TypeVar

import redis
import redis.asyncio
from redis.exceptions import RedisError

from chunkspool.errors import ChunkspoolError
from chunkspool.reading.channels import ChannelTable, PendingCommands
from chunkspool.store.client import CONNECT_TIMEOUT, SOCKET_TIMEOUT, AsyncStore, Store, keep_cancellation
from chunkspool.store.commands import Transaction
from chunkspool.store.failover import PrimaryWatch, Role, ask_role, ask_role_async
from chunkspool.store.translate import translate_errors

T = TypeVar("T")
CHANNELS = 1000
"""Channels of one SUBSCRIBE."""
READ_CONNECTIONS = 4
"""Connections of the client's pool that all readers of a hub together use at a time."""
BURST = 100
"""Messages after which an event loop gets its turn, if more are there."""


class PubSubConnection:
    """The connection of a hub of threads. One thread listens, any may send; all but `wait` under the hub's lock."""

    def __init__(self, connection: Any, probing: redis.Redis, watch: PrimaryWatch) -> None:
        """Own `connection` and the client `probing`, which has one connection."""
        self._connection = connection
        self._probing = probing
        self._watch = watch
        self.broken = False  # sending has failed: `hear` raises what is wrong

    @classmethod
    def open(cls, client: redis.Redis, watch: PrimaryWatch) -> Self:
        """Connect where `client` connects to. Raises `StoreError`."""
        pool = client.connection_pool
        options = _connection_options(pool.connection_kwargs)
        with translate_errors():
            connection = pool.connection_class(**options)
            connection.connect()
        own_pool = redis.ConnectionPool(connection_class=pool.connection_class, max_connections=1, **options)
        opened = cls(connection, redis.Redis(connection_pool=own_pool), watch)
        try:
            watch.open(ask_role(opened._probing))
        except BaseException:
            opened.close()
            raise
        return opened

    def send(self, commands: PendingCommands | None) -> None:
        """Send the commands; the replies come in by `hear`, and so does the error if they cannot be sent."""
        try:
            for command in () if commands is None else _spell(commands):
                self._connection.send_command(*command, check_health=False)
        except (RedisError, OSError):
            self.broken = True

    def wait(self, seconds: float) -> bool:
        """Wait until something comes in; return whether it has. Needs no lock."""
        try:
            with translate_errors():
                return bool(self._connection.can_read(timeout=seconds))
        except (AttributeError, TypeError, ValueError):
            # Another thread could not send, upon which redis-py has closed the socket under our eyes: `hear` tells.
            return True

    def hear(self, channels: ChannelTable) -> None:
        """Pass on one message that has begun to come in. Raises `StoreError` if the connection is lost."""
        with translate_errors():
            if self.broken:  # redis-py would connect again by itself, without the subscriptions
                raise ConnectionError("the connection was lost")
            reply = self._connection.read_response(disable_decoding=True, disconnect_on_error=False)
        _pass_on(reply, channels)

    def probe(self, reads: Sequence[Transaction[T]]) -> list[T | ChunkspoolError]:
        """Send probes on the connection beside. Needs no lock."""
        return Store(self._probing, patient=False).send_all(reads, at_once=False)

    def check_role(self) -> None:
        """Raise `StoreNotReady` if a failover has left this connection behind. Needs no lock."""
        self._watch.check(ask_role(self._probing, reconnect=self._watch.stranded))

    def close(self) -> None:
        """Free the connections."""
        self._connection.disconnect()
        self._probing.close()
        self._probing.connection_pool.disconnect()


class AsyncPubSubConnection:
    """The connection of a hub on an event loop."""

    def __init__(self, connection: Any, probing: redis.asyncio.Redis, watch: PrimaryWatch) -> None:
        """Own `connection` and the client `probing`, which has one connection."""
        self._connection = connection
        self._probing = probing
        self._watch = watch

    @classmethod
    async def open(cls, client: redis.asyncio.Redis, watch: PrimaryWatch) -> Self:
        """Connect where `client` connects to. Raises `StoreError`."""
        pool = client.connection_pool
        # Time limits are set here: redis-py's, one for every reply, would be half of what a probe costs, and its
        # wait_for can swallow a cancellation (Python 3.11).
        options = _connection_options(pool.connection_kwargs) | {"socket_timeout": None}
        connection: Any = pool.connection_class(**options)
        try:
            with translate_errors():
                async with asyncio.timeout(CONNECT_TIMEOUT + SOCKET_TIMEOUT):
                    await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        own_pool = redis.asyncio.ConnectionPool(connection_class=pool.connection_class, max_connections=1, **options)
        opened = cls(connection, redis.asyncio.Redis(connection_pool=own_pool), watch)
        try:
            watch.open(await opened._ask_role())
        except BaseException:
            await opened.close()
            raise
        return opened

    async def send(self, commands: PendingCommands | None) -> None:
        """Send the commands; the replies come in by `hear`."""
        if commands is not None:
            with translate_errors():
                async with asyncio.timeout(SOCKET_TIMEOUT):
                    for command in _spell(commands):
                        await self._connection.send_command(*command, check_health=False)

    async def hear(self, channels: ChannelTable) -> None:
        """Pass on all that comes in, until the connection is lost: raises `StoreError`."""
        read = self._connection.read_response
        with translate_errors():
            while True:
                for _ in range(BURST):
                    reply = await read(disable_decoding=True, timeout=math.inf, disconnect_on_error=False)
                    _pass_on(reply, channels)
                await asyncio.sleep(0)

    async def probe(self, reads: Sequence[Transaction[T]]) -> list[T | ChunkspoolError]:
        """Send probes on the connection beside."""
        try:
            with translate_errors():
                async with asyncio.timeout(SOCKET_TIMEOUT):
                    return await AsyncStore(self._probing, patient=False).send_all(reads, at_once=False)
        except ChunkspoolError as error:
            return [error] * len(reads)

    async def check_role(self) -> None:
        """Raise `StoreNotReady` if a failover has left this connection behind."""
        self._watch.check(await self._ask_role())

    async def _ask_role(self) -> Role | None:
        with translate_errors():
            async with asyncio.timeout(CONNECT_TIMEOUT + SOCKET_TIMEOUT), keep_cancellation():
                return await ask_role_async(self._probing, reconnect=self._watch.stranded)

    async def close(self) -> None:
        """Free the connections."""
        with suppress(RedisError, OSError):
            await self._connection.disconnect(nowait=True)
        with suppress(RedisError, OSError):
            await self._probing.connection_pool.disconnect()


def share_of(client: redis.Redis | redis.asyncio.Redis) -> int:
    """Return how many of the client's connections its readers may use at a time: never more than half of a pool."""
    return max(1, min(READ_CONNECTIONS, client.connection_pool.max_connections // 2))


def _connection_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of the pool's connections as a hub's own connections need them.

    It is no connection of the pool, so nobody can be starved by it. RESP2: each message is a plain list, no push with
    redis-py's handlers around it. Retries are the hub's: it has to know of every loss.
    """
    kept = {name: value for name, value in options.items() if not name.startswith(("maint_", "orig_", "retry"))}
    # Without a limit, a server that is frozen would hold the hub for ever. redis-py's defaults have one.
    limits = {"socket_timeout": SOCKET_TIMEOUT, "socket_connect_timeout": CONNECT_TIMEOUT}
    for name, limit in limits.items():
        if name in kept and kept[name] is None:
            kept[name] = limit
    return kept | {"protocol": 2}


def _spell(commands: PendingCommands) -> Iterator[tuple[str | bytes, ...]]:
    for name, channels in (("SUBSCRIBE", commands.subscribe), ("UNSUBSCRIBE", commands.unsubscribe)):
        for i in range(0, len(channels), CHANNELS):
            yield (name, *channels[i : i + CHANNELS])
    if commands.ping:
        yield ("PING",)


def _pass_on(reply: Any, channels: ChannelTable) -> None:
    channels.note_sign_of_life()
    if not isinstance(reply, list):
        return
    kind, channel = reply[0], reply[1]
    if kind == b"message":
        channels.take_frame(channel, reply[2])
    elif kind == b"subscribe":
        channels.confirm_subscribe(channel)
    elif kind == b"unsubscribe":
        channels.confirm_unsubscribe(channel)
