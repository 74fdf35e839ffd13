"""What a group of consumers does with the outcomes of a tenant. Without I/O."""

from __future__ import annotations

import time
from collections.abc import Sequence

from chunkspool.effects import Operation
from chunkspool.errors import InvalidInput, OutcomeGroupDropped
from chunkspool.ids import checked_id
from chunkspool.outcomes import DeadOutcome, Outcome, OutcomeLag
from chunkspool.store import outcomes
from chunkspool.store.keys import ChatKeys
from chunkspool.store.outcomes import DEAD_PAGE, Handed

ACKNOWLEDGED_AT_ONCE = 100
TENANTS_MAX = 20
"""Tenants whose groups `stats` tells of."""


def join(tenant: str, group: str, *, again: bool = False) -> Operation[None]:
    """Join a group, or make it. Raises `OutcomeGroupDropped`."""
    checked_id("group", group)
    # First it is noted that somebody waits: else a generation could be asked whose outcome the new group would miss.
    yield from outcomes.register(tenant, round(time.time() * 1000))
    dropped = yield from outcomes.join(tenant, group, again=again)
    if dropped is not None:
        raise OutcomeGroupDropped(tenant, group, dropped.at, dropped.lost)


def leave(tenant: str, group: str, consumer: str) -> Operation[None]:
    """Take a consumer out of its group."""
    yield from outcomes.leave(tenant, group, consumer)


def drop_group(tenant: str, group: str) -> Operation[None]:
    """End a group, with all that it has not read."""
    if not (yield from outcomes.leave(tenant, checked_id("group", group))):
        yield from outcomes.unregister(tenant)


def take(
    tenant: str, group: str, consumer: str, *, batch: int, claim_after: float, max_deliveries: int, cursor: str
) -> Operation[Handed]:
    """Hand out outcomes. Where Redis has lost the group, it is made again. Raises `OutcomeGroupDropped`."""
    call = outcomes.take(
        tenant,
        group,
        consumer,
        batch=batch,
        claim_after_ms=round(claim_after * 1000),
        max_deliveries=max_deliveries,
        cursor=cursor,
    )
    handed = yield from call
    if handed.found is None:
        yield from join(tenant, group)
        handed = yield from call
    return handed


def acknowledge(tenant: str, group: str, done: Sequence[Outcome]) -> Operation[int]:
    """Say that the group is done with outcomes; return how many it still had to acknowledge."""
    number = 0
    for start in range(0, len(done), ACKNOWLEDGED_AT_ONCE):
        ids = [one.id for one in done[start : start + ACKNOWLEDGED_AT_ONCE]]
        number += yield from outcomes.acknowledge(tenant, group, ids)
    return number


def set_aside(tenant: str, group: str, outcome: Outcome, why: str) -> Operation[bool]:
    """Set an outcome aside; tell whether it was still the group's."""
    why = why[:500] or "set aside"
    return bool((yield from outcomes.acknowledge(tenant, group, [outcome.id], why=why, deliveries=outcome.deliveries)))


def lags(tenant: str | None) -> Operation[tuple[OutcomeLag, ...]]:
    """Say how far the groups are behind: those of a tenant, or of up to `TENANTS_MAX` tenants."""
    tenants = [tenant] if tenant is not None else (yield from outcomes.list_tenants(TENANTS_MAX))
    found: list[OutcomeLag] = []
    for one in tenants:
        found.extend((yield from outcomes.lag(one)))
    return tuple(found)


def dead(tenant: str, before: str | None, limit: int) -> Operation[tuple[DeadOutcome, ...]]:
    """Return what was set aside, the newest first."""
    if not 1 <= limit <= DEAD_PAGE:
        raise InvalidInput(f"limit={limit}: up to {DEAD_PAGE} at once")
    return (yield from outcomes.read_dead(tenant, before, limit))


def forget_dead(tenant: str, gone: Sequence[DeadOutcome]) -> Operation[int]:
    """Remove what was set aside."""
    return (yield from outcomes.forget_dead(tenant, [one.id for one in gone])) if gone else 0


def forget_owner(tenant: str, owner: str) -> Operation[None]:
    """Remove what is told of an owner who was erased."""
    cursors = ("-", "-")
    while any(cursors):
        cursors = yield from outcomes.forget_owner(tenant, owner, cursors)


def forget_chat(keys: ChatKeys) -> Operation[None]:
    """Remove what is told of a chat that was erased: a few entries with each call."""
    cursors = ("-", "-")
    while any(cursors):
        cursors = yield from outcomes.forget_chat(keys, cursors)
