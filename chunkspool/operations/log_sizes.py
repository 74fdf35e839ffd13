"""Keeps what the logs of tenants and owners take true: measures again, and takes out what has expired. Without I/O."""

from __future__ import annotations

from collections.abc import Sequence

from chunkspool.effects import Operation, SendAll
from chunkspool.store.keys import ChatKeys
from chunkspool.store.log_size import LogSize, measure
from chunkspool.store.totals import EXPIRED_AT_ONCE, count_sizes

ROUNDS = 100
"""Calls in which one sweep takes out what has expired; the next sweep goes on."""


def measure_all(chats: Sequence[ChatKeys]) -> Operation[dict[ChatKeys, LogSize]]:
    """Return what the logs of these chats take. One that cannot be read is left out: that is its own fault."""
    if not chats:
        return {}
    found = yield from SendAll(tuple(map(measure, chats)))
    return {keys: size for keys, size in zip(chats, found, strict=True) if isinstance(size, LogSize)}


def measure_again(keys: ChatKeys, chat_ids: Sequence[str]) -> Operation[None]:
    """Measure chats of the tenant that `keys` is of: one that was erased or evicted may still be counted."""
    sizes = yield from measure_all([ChatKeys(keys.tenant, chat_id, keys.db) for chat_id in chat_ids])
    yield from count_sizes(keys.tenant, [(one.chat_id, size) for one, size in sizes.items()])


def drop_expired() -> Operation[None]:
    """Take the logs that have expired out of the sums of all tenants."""
    for _ in range(ROUNDS):
        if (yield from count_sizes("", (), expired=EXPIRED_AT_ONCE)) < EXPIRED_AT_ONCE:
            return
