"""Keeps logs as short as policies want them: whole generations that have ended go, the oldest first. Without I/O.

What may be dropped is read in the log itself, and dropped by one script, so a reader finds either what it was about to
read or `CursorExpired`, and whoever dies in between leaves a log that is whole. The newest generation is never dropped.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from chunkspool.effects import Operation, SendAll
from chunkspool.errors import ChatNotFound, ChunkspoolError, CorruptLog, CursorAhead, CursorExpired, InvalidInput, shown
from chunkspool.ids import ID_PATTERN
from chunkspool.operations.log_sizes import measure_again
from chunkspool.operations.spans import Spans
from chunkspool.policy import Policy
from chunkspool.results import RetentionStep
from chunkspool.settings import Settings
from chunkspool.store import retention
from chunkspool.store.keys import ChatKeys
from chunkspool.store.pages import PAGE, page_after
from chunkspool.store.positions import Position
from chunkspool.store.retention import DROPPED_AT_ONCE, Due, Kept
from chunkspool.store.schedule import LOOK_AT, read_policy

RACES: Final = 3
"""How often a log is looked at again because the chat changed under us."""
ROUNDS: Final = 1000
"""Calls that drop something of one chat; what is left after that, the next ending brings back."""
AGAIN_MS: Final = 60_000
"""After so long, a chat that could not be read is looked at once more."""
STEP: Final = 200
"""Chats that one step of `step` looks at."""
_CURSOR: Final = re.compile(rf"([0-9]{{1,16}})\.({ID_PATTERN})")


@dataclass(frozen=True, slots=True)
class Dropped:
    """What was dropped of a log, or would be: so many events, and about so many bytes."""

    events: int = 0
    log_bytes: int = 0
    is_held_up: bool = False
    """Whether somebody was in the way, so that it is to be tried again."""


def retain_due(settings: Settings, db: int, seconds: float) -> Operation[None]:
    """Shorten logs in which something has ended, for some seconds at most. Raises `StoreError` if none can be reached.

    A chat that cannot be read keeps nobody from the others: it is looked at again later.
    """
    late_at = time.monotonic() + seconds
    policies: dict[str, Policy] = {}
    while time.monotonic() < late_at:
        due = yield from retention.list_due(db)
        if not due:
            return
        known = [one.keys for one in due if one.keys is not None]
        looks = yield from _look_at(known)
        settled: list[tuple[Due, int | None]] = []
        shortened: list[ChatKeys] = []
        for one in due:
            if time.monotonic() >= late_at:
                break
            again = None
            if one.keys is not None:
                limits = policies.get(one.keys.tenant) or (yield from _policy(settings, one.keys.tenant))
                policies[one.keys.tenant] = limits
                again = yield from _retain(one.keys, looks[one.keys], limits, shortened)
            settled.append((one, again))
        if not settled:
            return
        yield from _measure(shortened)
        yield from retention.settle(settled)


def step(settings: Settings, db: int, after: str | None, *, dry_run: bool) -> Operation[RetentionStep]:
    """Shorten the logs of the next `STEP` chats of the settings' tenant, or only say what that would drop."""
    tenant = settings.log.tenant
    limits = yield from _policy(settings, tenant)
    score, last_seen = _checked_cursor(after)
    page = yield from retention.chats_after(tenant, score, last_seen, STEP)
    keys = [ChatKeys(tenant, chat_id, db) for chat_id, _ in page.chats]
    looks = yield from _look_at(keys)
    dropped: dict[ChatKeys, Dropped] = {}
    failed: list[tuple[str, ChunkspoolError]] = []
    for one in keys:
        kept = looks[one]
        try:
            if isinstance(kept, ChunkspoolError):
                raise kept
            if _excess(kept, limits):
                found = yield from shorten(one, limits, dry_run=dry_run)
                dropped |= {one: found} if found.events else {}
        except (CorruptLog, CursorExpired) as error:
            failed.append((one.chat_id, error))
    if not dry_run:
        yield from _measure(tuple(dropped))
    return RetentionStep(
        looked_at=len(keys),
        chats=page.number,
        shortened=tuple(one.chat_id for one in dropped),
        events=sum(one.events for one in dropped.values()),
        log_bytes=sum(one.log_bytes for one in dropped.values()),
        failed=tuple(failed),
        after=f"{page.chats[-1][1]}.{page.chats[-1][0]}" if len(page.chats) == STEP else None,
    )


def shorten(keys: ChatKeys, limits: Policy, *, dry_run: bool = False) -> Operation[Dropped]:
    """Drop what a chat's log has too much, oldest first, as far as that has ended; return what it was.

    What is left is the caller's to measure.
    """
    events = freed = races = 0
    for _ in range(ROUNDS):
        kept = yield from retention.look(keys)
        excess = _excess(kept, limits)
        keep_from = (yield from _find_boundary(keys, kept, kept.first + excess)) if excess else None
        if keep_from is None:
            break
        number = keep_from - kept.first
        estimate = kept.log_bytes * number // kept.events
        if dry_run:
            return Dropped(number, estimate)
        outcome = yield from retention.drop(keys, kept, keep_from)
        if outcome == "dropped":
            events, freed = events + number, freed + estimate
            if limits.keep_bytes is None and not _excess(replace(kept, first=keep_from), limits):
                break
        races += outcome != "dropped"
        if races == RACES:
            break  # somebody else does it, or will
    return Dropped(events, freed, is_held_up=races > 0)


def _measure(shortened: Sequence[ChatKeys]) -> Operation[None]:
    """Note what is left. Of one who dies before, what was counted stands until the chat's next ending."""
    tenants: dict[str, list[ChatKeys]] = {}
    for one in shortened:
        tenants.setdefault(one.tenant, []).append(one)
    for chats in tenants.values():
        for start in range(0, len(chats), LOOK_AT):
            yield from measure_again(chats[0], [one.chat_id for one in chats[start : start + LOOK_AT]])


def _retain(
    keys: ChatKeys, kept: Kept | ChunkspoolError, limits: Policy, shortened: list[ChatKeys]
) -> Operation[int | None]:
    """Shorten one log; return after how many ms it is to be looked at again, if something is in the way."""
    if isinstance(kept, ChunkspoolError):
        return AGAIN_MS
    try:
        dropped = (yield from shorten(keys, limits)) if _excess(kept, limits) else Dropped()
    except (CorruptLog, CursorExpired):
        return AGAIN_MS
    if dropped.events:
        shortened.append(keys)
    return AGAIN_MS if dropped.is_held_up else None


def _policy(settings: Settings, tenant: str) -> Operation[Policy]:
    return settings.policy.with_stored((yield from read_policy(tenant)))


def _excess(kept: Kept, limits: Policy) -> int:
    """Return how many events of the log are too many; of bytes it is known what all of them take together."""
    if kept.pinned or not kept.log or kept.events < 1:
        return 0
    most = kept.events if limits.keep_events is None else limits.keep_events
    if limits.keep_bytes is not None and kept.log_bytes > limits.keep_bytes:
        most = min(most, math.floor(kept.events * limits.keep_bytes / kept.log_bytes), kept.events - 1)
    return max(kept.events - most, 0)


def _find_boundary(keys: ChatKeys, kept: Kept, wanted: int) -> Operation[int | None]:
    """Read the log from its beginning; return the first seq to keep, None where nothing may be dropped."""
    spans = Spans()
    position = Position(kept.first - 1, kept.log)
    active: Sequence[str] = ()
    while position.seq < kept.last:
        try:
            page = yield from page_after(keys, position, PAGE)
        except CursorExpired as gap:
            if gap.first <= position.seq + 1:
                return None  # another log; its own endings bring it here
            position = Position(gap.first - 1, kept.log)
            continue
        except (ChatNotFound, CursorAhead):
            return None
        if page.head_lost:
            return None
        active = page.listed
        spans.add(page.entries)
        found = spans.boundary(wanted, kept.last, most=DROPPED_AT_ONCE)
        if found is not None:
            return found
        position = Position(page.entries[-1].seq, kept.log)
    return spans.boundary(wanted, kept.last, most=DROPPED_AT_ONCE, active=active)


def _look_at(chats: Sequence[ChatKeys]) -> Operation[dict[ChatKeys, Kept | ChunkspoolError]]:
    if not chats:
        return {}
    found = yield from SendAll(tuple(map(retention.look, chats)))
    return dict(zip(chats, found, strict=True))


def _checked_cursor(after: object) -> tuple[int, str]:
    if after is None:
        return 0, ""
    match = _CURSOR.fullmatch(after) if isinstance(after, str) else None
    if match is None:
        raise InvalidInput(f"after={shown(after)}: pass the `after` of a step")
    return int(match[1]), match[2]
