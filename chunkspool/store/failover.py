"""Leaves a server that is no longer the primary: behind one address, only a new connection reaches the new one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import redis
import redis.asyncio
from redis.exceptions import ResponseError

from chunkspool.errors import StoreBusy, StoreError, StoreNotReady, StoreUnavailable
from chunkspool.retry import RetryBudget
from chunkspool.store import slots
from chunkspool.store.commands import as_text
from chunkspool.store.translate import translate_errors

PATIENCE = 2.0
"""Seconds for which a call is tried again during a failover. Every script and every read may be sent twice."""
LONGEST_PAUSE = 0.2
"""Seconds between two tries: the address may lead to the new primary at any moment."""
POLL = 0.01
"""Seconds between two looks for a free connection in a pool that others use as well."""
ROLE_CHECK = 1.0
"""Seconds between two looks at the role of a server that a long-lived connection leads to."""


class CallRetry:
    """Decides after each error of one call whether, and when, it is sent again."""

    __slots__ = ("_deadline", "_failover", "_patient")

    def __init__(self, *, patient: bool) -> None:
        """Begin when the call does. A `patient` one waits for the end of a failover."""
        self._patient = patient
        self._failover: RetryBudget | None = None
        self._deadline = time.monotonic() + slots.WAIT_SECONDS

    def pause_after(self, error: StoreError, calls: int) -> float:
        """Return the seconds until the next try, or raise `error`. `calls`: how many are under way.

        A server that is not ready begins a failover; within it, one that cannot be reached is waited for as well.
        Where others use the client too and hold all connections of its pool, those are waited for.
        """
        if isinstance(error, StoreBusy):
            if time.monotonic() >= self._deadline:
                raise slots.busy(calls) from None
            return POLL
        if self._failover is None and isinstance(error, StoreNotReady):
            self._failover = RetryBudget(PATIENCE if self._patient else 0)
        if self._failover is None or not isinstance(error, StoreUnavailable):
            raise error
        return min(self._failover.pause_after(error), LONGEST_PAUSE)


def drop_connections(client: redis.Redis) -> None:
    """Close the idle connections of the client's pool now, and those in use when they are given back."""
    pool = client.connection_pool
    pool.update_active_connections_for_reconnect()
    pool.disconnect(inuse_connections=False)


async def drop_connections_async(client: redis.asyncio.Redis) -> None:
    """Do the same to the pool of an asyncio client."""
    pool = client.connection_pool
    await pool.update_active_connections_for_reconnect()  # type: ignore[no-untyped-call]
    # Not by `pool.disconnect`, which gives other tasks a turn: they would take the connections it is about to close.
    for connection in tuple(pool._get_free_connections()):  # noqa: SLF001 - see above
        await connection.disconnect(nowait=True)


@dataclass(frozen=True, slots=True)
class Role:
    """What a server says of itself on one connection; `connection` is the number it gave that one."""

    connection: int
    primary: bool


class PrimaryWatch:
    """Tells when a connection that lives long was left behind on a demoted server. It asks nobody itself.

    A subscribed connection cannot ask for the server's role, so a second one, opened right after it, does. A server
    that was a replica from the start is accepted: somebody may want to read there.
    """

    __slots__ = ("_had_primary", "_opened")

    def __init__(self) -> None:
        """Begin before the first connection; use one for all that follow each other."""
        self._had_primary = False
        self._opened: Role | None = None

    def open(self, role: Role | None) -> None:
        """Note the role of the server that both connections were opened to."""
        self._opened = role
        self._had_primary = self._had_primary or (role is not None and role.primary)

    @property
    def stranded(self) -> bool:
        """Whether this is a replica after there was a primary: a failover is not over, so ask by a new connection."""
        return self._had_primary and self._opened is not None and not self._opened.primary

    def check(self, role: Role | None) -> None:
        """Compare with the role now. Raises `StoreNotReady` where both connections are to be opened again."""
        if role is None or self._opened is None:
            return
        if role.connection == self._opened.connection:
            if self._opened.primary and not role.primary:
                raise StoreNotReady("this Redis is no longer the primary")
            self.open(role)
        elif role.primary or not self.stranded:
            # The one that asks is a new one and may lead elsewhere.
            raise StoreNotReady("the address of Redis may lead to another server now")


def ask_role(client: redis.Redis, *, reconnect: bool = False) -> Role | None:
    """Ask on the client's one connection, or with `reconnect` on a new one; None where the server does not say.

    HELLO, because every user may send it: ROLE and INFO are rights of their own. Raises `StoreError`.
    """
    with translate_errors():
        if reconnect:
            (client.connection or client.connection_pool).disconnect()
        try:
            return _read_role(client.execute_command("HELLO"))  # type: ignore[no-untyped-call]
        except ResponseError:  # some proxies do not know it
            return None


async def ask_role_async(client: redis.asyncio.Redis, *, reconnect: bool = False) -> Role | None:
    """Do the same by an asyncio client."""
    with translate_errors():
        if reconnect:
            await client.connection_pool.disconnect()
        try:
            return _read_role(await client.execute_command("HELLO"))  # type: ignore[no-untyped-call]
        except ResponseError:
            return None


def _read_role(reply: Any) -> Role | None:
    """RESP2 brings a list of names and values, RESP3 a map."""
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=False)
    said = {as_text(name): value for name, value in pairs}
    if "id" not in said or "role" not in said:
        return None
    return Role(int(said["id"]), as_text(said["role"]) == "master")
