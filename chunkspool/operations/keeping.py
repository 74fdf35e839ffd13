"""Says for how long a chat is kept: its own TTL, or for good. Without I/O.

The index knows of a pin before the chat does, and of an unpin after it. So whoever dies in between leaves a chat that
the sweep finds in the index, and sees whether it is pinned.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from chunkspool.effects import Operation
from chunkspool.errors import ChatNotFound, CorruptLog, InvalidId, LimitExceeded
from chunkspool.operations.log_sizes import measure_again
from chunkspool.operations.people import find_owners, touch_all
from chunkspool.request import checked_ttl
from chunkspool.settings import Settings
from chunkspool.store import keeping, retention
from chunkspool.store.keeping import KEPT_AT_ONCE, MAKING_MS, OWNERS_AT_ONCE, PINNED_MS, RENEW_MS, KeepOutcome, What
from chunkspool.store.keys import ChatKeys
from chunkspool.store.listing import list_ids
from chunkspool.store.schedule import read_policy

ROUNDS: Final = 10
"""Calls for chats that are due, in one sweep; the next one goes on."""


def keep(keys: ChatKeys, ttl: float) -> Operation[None]:
    """Keep the chat for `ttl` seconds from now on, and as long after what is asked in it later."""
    ttl_ms = round(checked_ttl(ttl) * 1000)
    yield from list_for(keys, ttl_ms)
    if (yield from _set(keys, "keep", ttl_ms)) == "gone":
        raise ChatNotFound(keys.chat_id)


def pin(keys: ChatKeys, settings: Settings) -> Operation[None]:
    """Keep the chat for good, if the tenant's policy allows one more. Raises `LimitExceeded` or `ChatNotFound`."""
    most = yield from keeping.note(keys, "pin", settings.policy, after_ms=MAKING_MS)
    if most is not None:
        why = (
            "the tenant's policy allows no pinned chats" if not most else f"{most} chats are pinned, as many as may be"
        )
        raise LimitExceeded("pinned", f"{why}: unpin one, or set the limit `pinned`")
    yield from list_for(keys, PINNED_MS)
    if (yield from _set(keys, "pin", PINNED_MS)) == "gone":
        yield from keeping.note(keys, "unpin")
        raise ChatNotFound(keys.chat_id)
    yield from keeping.renew(keys, RENEW_MS)


def unpin(keys: ChatKeys, settings: Settings) -> Operation[None]:
    """Let the chat expire again: after its own TTL from now on, else after the tenant's, else after the setting's."""
    limits = settings.policy.with_stored((yield from read_policy(keys.tenant)))
    ttl_ms = round((settings.log.ttl if limits.ttl is None else limits.ttl) * 1000)
    outcome = yield from _set(keys, "unpin", ttl_ms)
    yield from keeping.note(keys, "unpin")
    if outcome == "gone":
        raise ChatNotFound(keys.chat_id)


def forget(keys: ChatKeys) -> Operation[None]:
    """Take a chat that was erased out of the index of what is pinned or too long."""
    yield from keeping.note(keys, "unpin")
    yield from retention.forget(keys)


def renew_pins(db: int) -> Operation[None]:
    """Renew the TTLs of pinned chats that are due; what is no longer pinned, or no longer there, is forgotten."""
    for _ in range(ROUNDS):
        due = yield from keeping.list_due()
        if not due:
            return
        for one in due:
            with suppress(InvalidId):
                yield from _renew(ChatKeys(one.tenant, one.chat_id, db))


def list_for(keys: ChatKeys, kept_ms: int) -> Operation[None]:
    """Let what names the chat be kept for as long: lists of the tenant and of its owners, and what they touched."""
    owners = yield from find_owners(keys)
    for start in range(0, max(len(owners), 1), OWNERS_AT_ONCE):
        some = owners[start : start + OWNERS_AT_ONCE]
        yield from keeping.note(keys, "keep", kept_ms=kept_ms, owners=some)
    yield from touch_all(keys, owners, kept_ms)


def _renew(keys: ChatKeys) -> Operation[None]:
    try:
        outcome = yield from _set(keys, "renew", PINNED_MS)
    except CorruptLog:
        outcome = "gone"  # its keys are another program's by now
    if outcome == "kept":
        yield from list_for(keys, PINNED_MS)
        yield from keeping.renew(keys, RENEW_MS)
    else:
        yield from keeping.note(keys, "unpin")


def _set(keys: ChatKeys, what: What, ttl_ms: int) -> Operation[KeepOutcome]:
    """Do it in steps. The chat itself comes with the first, and what is settled after all generations with the last."""
    generation_ids = yield from list_ids(keys)
    outcome: KeepOutcome = "kept"
    for start in range(0, max(len(generation_ids), 1), KEPT_AT_ONCE):
        outcome = yield from keeping.keep(keys, what, ttl_ms, generation_ids[start : start + KEPT_AT_ONCE])
        if outcome in {"gone", "unpinned"}:
            return outcome
    yield from measure_again(keys, [keys.chat_id])
    return outcome
