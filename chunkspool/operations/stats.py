"""Tells how much there is to do and what is kept, across chats. Bounded, whatever there is. Without I/O."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import chain, zip_longest
from typing import Final

from chunkspool.effects import Operation, SendAll
from chunkspool.errors import ChunkspoolError, InvalidId, StoreRefused
from chunkspool.operations.outcomes import lags
from chunkspool.outcomes import OutcomeLag
from chunkspool.results import Stats, TenantMemory
from chunkspool.settings import Settings
from chunkspool.store.keys import ChatKeys, QueueKeys
from chunkspool.store.schedule import read_policy
from chunkspool.store.stats import (
    ChatMemory,
    Counts,
    ServerMemory,
    chats_at,
    count,
    count_chats,
    measure_chat,
    measure_generations,
    server_memory,
)

SAMPLES: Final = 60
"""Chats that one call measures."""
SAMPLES_OF_TENANT: Final = 12
MEASURED_AT_ONCE: Final = 20
"""Chats in one round trip."""
SAMPLE_SECONDS: Final = 0.5
"""After so long, no further chats are measured."""


def stats(settings: Settings, queue: str | None, db: int) -> Operation[Stats]:
    """Read it. What the server refuses to tell is unknown, and no error. Raises `StoreError` if nothing can be read."""
    keys = QueueKeys(queue or settings.worker.queue)
    seen = yield from count(keys)
    limits = yield from read_policy(settings.log.tenant)
    unknown: dict[str, str] = {}
    server = yield from _ask_server(unknown)
    memory = yield from _memory(seen, db, unknown)
    outcomes = yield from _ask_outcomes(unknown)
    oldest = {priority: max(seen.now - ms, 0) / 1000 for priority, ms in seen.oldest.items()}
    return Stats(
        at=seen.now,
        queue=keys.queue,
        queued=seen.queued,
        running=seen.running,
        oldest_queued=max(oldest.values(), default=None),
        generations={
            "waits": max(sum(seen.queued.values()) - seen.sent, 0),
            "sent": seen.sent,
            "runs": seen.running,
        },
        chats=seen.chats,
        tenants=seen.tenants,
        limits=settings.policy.with_stored(limits),
        memory=memory,
        used_memory=server.used if server else None,
        max_memory=server.maximum if server else None,
        unknown=unknown,
        oldest_by_priority=oldest,
        pinned=seen.pinned,
        to_shorten=seen.to_shorten,
        outcomes=outcomes,
    )


def _ask_outcomes(unknown: dict[str, str]) -> Operation[tuple[OutcomeLag, ...]]:
    try:
        return (yield from lags(None))
    except StoreRefused as error:
        unknown["outcomes"] = str(error)
        return ()


def _ask_server(unknown: dict[str, str]) -> Operation[ServerMemory | None]:
    (found,) = yield from SendAll((server_memory(),))
    if isinstance(found, ServerMemory):
        return found
    unknown |= dict.fromkeys(("used_memory", "max_memory"), str(found))
    return None


def _memory(seen: Counts, db: int, unknown: dict[str, str]) -> Operation[TenantMemory | None]:
    """Estimate what the tenants' chats take: their logs, by as much more as chats take that are measured."""
    chats = yield from _choose(tuple(seen.log_bytes), seen.now, db)
    logs, wholes, sampled, refused = dict[str, int](), dict[str, int](), 0, ""
    late_at = time.monotonic() + SAMPLE_SECONDS
    for start in range(0, len(chats), MEASURED_AT_ONCE):
        if time.monotonic() >= late_at:
            break
        found = yield from SendAll(tuple(map(measure_chat, chats[start : start + MEASURED_AT_ONCE])))
        measured = [one for one in found if isinstance(one, ChatMemory)]
        generations = yield from SendAll(tuple(map(measure_generations, measured)))
        refused = refused or next((str(one) for one in found if isinstance(one, ChunkspoolError)), "")
        for chat, taken in zip(measured, generations, strict=True):
            if isinstance(taken, int) and chat.log:
                tenant = chat.keys.tenant
                logs[tenant] = logs.get(tenant, 0) + chat.log
                wholes[tenant] = wholes.get(tenant, 0) + chat.log + chat.others + taken
                sampled += 1
    if refused and not sampled:
        unknown["memory"] = refused
        return None
    return _scale(seen, logs, wholes, sampled)


def _scale(seen: Counts, logs: Mapping[str, int], wholes: Mapping[str, int], sampled: int) -> TenantMemory:
    """Return what all take, of whom only a part was measured; `logs` and `wholes` are of that part."""
    of_all = sum(wholes.values()) / sum(logs.values()) if logs else 1.0
    tenants = {
        tenant: round(taken * (wholes[tenant] / logs[tenant] if tenant in logs else of_all))
        for tenant, taken in seen.log_bytes.items()
    }
    rest = max(seen.all_bytes - sum(seen.log_bytes.values()), 0)
    return TenantMemory(tenants, round(rest * of_all), sampled)


def _choose(tenants: Sequence[str], now: int, db: int) -> Operation[list[ChatKeys]]:
    """Return chats to measure: of each tenant in turn, spread over all that it has, and others with each call."""
    if not tenants:
        return []
    numbers = yield from SendAll(tuple(map(count_chats, tenants)))
    most = max(1, min(SAMPLES_OF_TENANT, SAMPLES // len(tenants)))
    ranks = {
        tenant: _spread(number, most, now)
        for tenant, number in zip(tenants, numbers, strict=True)
        if isinstance(number, int) and number
    }
    found = yield from SendAll(tuple(chats_at(*one) for one in ranks.items()))
    rows = [_known(tenant, chats, db) for tenant, chats in zip(ranks, found, strict=True) if isinstance(chats, list)]
    return [one for one in chain.from_iterable(zip_longest(*rows)) if one is not None]


def _spread(number: int, most: int, now: int) -> list[int]:
    """Return up to `most` different ranks below `number`, which move on with the clock."""
    taken = min(number, most)
    return sorted({(now + i * number // taken) % number for i in range(taken)})


def _known(tenant: str, chats: Sequence[str], db: int) -> list[ChatKeys]:
    known = []
    for chat_id in chats:
        with suppress(InvalidId):  # no chunkspool wrote it
            known.append(ChatKeys(tenant, chat_id, db))
    return known
