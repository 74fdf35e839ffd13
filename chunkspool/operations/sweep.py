"""Finds generations whose message is lost: it is published again, and what stays lost is ended. Without I/O.

A message is lost when its generation shows no sign of life and the message can be nowhere: the queue is empty, or
workers have claimed generations that were enqueued later. A long queue alone loses nothing. kombu's Redis transport
loses the message that a worker has popped and not yet noted when it dies; a broker that loses its data loses all of
them. Only a generation that stays silent for `lost_after` seconds after that fails: no reader waits for ever.

Every queue is swept for itself, by its own workers: others may have another broker, or run another task.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from chunkspool.effects import Operation, Publish, SendAll, Tell
from chunkspool.errors import ChunkspoolError, CorruptLog, EnqueueFailed, StoreError, StoreFull, StoreRefused
from chunkspool.observer import Retried
from chunkspool.operations.digest_keeping import is_behind, keep_digest
from chunkspool.operations.endings import tell_failed, tell_found_stopped
from chunkspool.operations.erase_owner import go_on_erasing
from chunkspool.operations.keeping import renew_pins
from chunkspool.operations.log_sizes import drop_expired, measure_all
from chunkspool.operations.next_in_chat import free_waiting
from chunkspool.operations.outcome_relay import relay
from chunkspool.operations.people import look_after_people
from chunkspool.operations.retention import retain_due
from chunkspool.operations.schedule import schedule
from chunkspool.results import Swept
from chunkspool.settings import Settings
from chunkspool.states import ENDED
from chunkspool.store import scripts
from chunkspool.store.digests import lag
from chunkspool.store.index import (
    INDEX_PAGE,
    Member,
    Unfinished,
    forget,
    list_again,
    list_unfinished,
    lock_sweep,
    look_up,
    note_republished,
    note_swept,
    place_ms_of,
    renew_sweep_lock,
)
from chunkspool.store.keys import ChatKeys, QueueKeys
from chunkspool.store.log_size import LogSize
from chunkspool.store.outcomes import mark
from chunkspool.store.schedule import Note

_LOG = logging.getLogger(__name__)
UNWATCHED_MS = 60_000
"""If nobody swept for so long (or for `lost_after`, if that is longer), silence until now proves nothing: no worker was
there, or the server's clock was set ahead. The messages are published again, and the time begins anew."""

DIGEST_SECONDS = 2.0
"""How long a sweep may read long chats; it goes on with the rest when it comes again."""

RETAIN_SECONDS = 1.0
"""How long a sweep may shorten logs; it goes on with the rest when it comes again."""


@dataclass(frozen=True, slots=True)
class _Moment:
    """How far the queue has come, and the time, both in Unix ms; whether somebody has swept not long ago."""

    reached: int
    now: int
    watched: bool


def sweep(settings: Settings, *, queue: str, queue_is_empty: bool, db: int) -> Operation[Swept]:
    """Publish again and end what is lost in a queue. Raises `StoreError` or `EnqueueFailed` if none can be reached.

    It does nothing while another process sweeps this queue or has just done so.
    """
    keys = QueueKeys(queue)
    swept = Swept()
    if (yield from _lock(keys, max(1, round(settings.worker.sweep_interval * 800)))):
        swept = yield from _sweep(settings, keys, queue_is_empty=queue_is_empty, db=db)
        yield from renew_pins(db)
        yield from retain_due(settings, db, RETAIN_SECONDS)
    return swept


def _sweep(settings: Settings, keys: QueueKeys, *, queue_is_empty: bool, db: int) -> Operation[Swept]:
    yield from drop_expired()
    yield from look_after_people()
    yield from go_on_erasing(db)
    whole, place_ms = Swept(), place_ms_of(settings.worker.sweep_interval)
    offset, watched, late_at = 0, None, time.monotonic() + DIGEST_SECONDS
    while True:
        page = yield from list_unfinished(keys, offset, db)
        if watched is None:
            watched = page.now - page.swept <= max(_lost_ms(settings), UNWATCHED_MS)
        found = yield from SendAll(tuple(look_up(keys, member, page.now) for member in page.members))
        # A generation that cannot be read is the fault of its own chat: the others are looked after all the same.
        pairs = zip(page.members, found, strict=True)
        failed = [(member.name, error) for member, error in pairs if isinstance(error, ChunkspoolError)]
        seen = [one for one in found if isinstance(one, Unfinished)]
        watermark = max([page.watermark, *(one.sent for one in seen if one.claimed)])
        # With an empty queue, the messages of all that were ever enqueued have come out of it.
        reached = page.now + 1 if queue_is_empty else watermark
        outcomes = yield from _look_after_all(seen, settings, keys, _Moment(reached, page.now, watched))
        failed += [(one.member.name, error) for one, error in outcomes if isinstance(error, ChunkspoolError)]
        lost = [one.member.generation_id for one, outcome in outcomes if outcome == "lost"]
        over = [one.member for one, outcome in outcomes if isinstance(outcome, str) and outcome != "alive"]
        behind = yield from _keep_digests(over, late_at)
        fading = [one.member for one in seen if one.is_fading(place_ms)]
        yield from note_swept(keys, watermark, page.now, fading, place_ms)
        behind |= yield from _tell_outcomes(outcomes, settings, late_at)
        done = [member for member in over if member.keys not in behind]
        yield from _forget(keys, page.foreign, done, page.now)
        sizes = yield from measure_all(_logs_that_grow(seen, over))
        freed = yield from free_waiting(_behind(seen))
        yield from schedule(settings, [*_notes_of(seen, over, sizes), *freed], queue=keys.queue, tidies=True)
        whole = Swept((*whole.lost, *lost), (*whole.failed, *failed))
        if page.size < INDEX_PAGE:
            return whole
        offset += INDEX_PAGE - len(page.foreign) - len(done)


def _keep_digests(over: Sequence[Member], late_at: float) -> Operation[set[ChatKeys]]:
    """Store what the workers left unread of the chats whose generations are over; return those that need more time.

    A worker stores it while it writes. One that was killed did not, and nobody may write there again.
    """
    chats = tuple(dict.fromkeys(member.keys for member in over))
    lags = yield from SendAll(tuple(lag(chat) for chat in chats))
    behind = {chat for chat, events in zip(chats, lags, strict=True) if isinstance(events, int) and is_behind(events)}
    for chat in tuple(behind):
        seconds = late_at - time.monotonic()
        if seconds <= 0:
            break
        with suppress(ChunkspoolError):  # then the readers do it
            if not (yield from keep_digest(chat, within=seconds)):
                continue
        behind.discard(chat)
    return behind


def _tell_outcomes(
    outcomes: Sequence[tuple[Unfinished, str | ChunkspoolError]], settings: Settings, late_at: float
) -> Operation[set[ChatKeys]]:
    """Tell the outcomes that whoever ended the generations did not; return the chats that must wait for the next sweep.

    None is forgotten whose outcome is not told: by the index alone, the next sweep finds it.
    """
    over = [one for one, came in outcomes if isinstance(came, str) and came != "alive"]
    due = {one.member.keys for one in over if one.outcome_marked or one.outcome_wanted}
    for one in over:
        if one.outcome_wanted and one.status in ENDED:
            yield from mark(one.member.keys, one.member.generation_id)  # an older version's process has ended it
    for keys in tuple(due):
        if time.monotonic() > late_at:
            break
        try:
            yield from relay(keys, settings.log)
        except (CorruptLog, StoreFull, StoreRefused) as error:
            # Whatever else the sweep does must not wait for a person who gives a right.
            _LOG.warning("an outcome of chat %s cannot be told: %s", keys.chat_id, error)
        else:
            due.discard(keys)
    return due


def _logs_that_grow(seen: Sequence[Unfinished], over: Sequence[Member]) -> list[ChatKeys]:
    """Return the chats in which something runs, or has ended and may not have been counted."""
    running = (one.member.keys for one in seen if one.status == "running")
    return list(dict.fromkeys((*running, *(member.keys for member in over))))


def _behind(seen: Sequence[Unfinished]) -> dict[ChatKeys, list[str]]:
    """Return what waits for others of its chat, by chat, oldest first."""
    waiting: dict[ChatKeys, list[str]] = {}
    for one in seen:
        if one.waits_behind:
            waiting.setdefault(one.member.keys, []).append(one.member.generation_id)
    return waiting


def _notes_of(seen: Sequence[Unfinished], over: Sequence[Member], sizes: Mapping[ChatKeys, LogSize]) -> list[Note]:
    """Return what the schedule may have missed: the processes that should have told it may be dead."""
    ended: list[Note] = [("end", member.name, sizes.get(member.keys)) for member in over]
    gone = {member.name for member in over}
    queued = [one for one in seen if one.status == "queued" and one.member.name not in gone]
    waiting: list[Note] = [("wait", one.member.name) for one in queued if one.waits and not one.behind]
    behind: list[Note] = [("behind", one.member.name) for one in queued if one.behind and one.turn != "waits"]
    running: list[Note] = [
        ("run", one.member.name) for one in seen if one.status == "running" and one.turn in ("waits", "sent")
    ]
    grown: list[Note] = [
        ("size", one.member.name, sizes.get(one.member.keys)) for one in seen if one.status == "running"
    ]
    return [*ended, *running, *waiting, *behind, *grown]


def _lock(keys: QueueKeys, pause_ms: int) -> Operation[bool]:
    """Ask to sweep; tell whether it is this process's turn."""
    left_ms = yield from lock_sweep(keys, pause_ms)
    if left_ms > pause_ms:
        # The server's clock was set back: the lock would stay until the clock is there again.
        yield from renew_sweep_lock(keys, pause_ms)
        return True
    return not left_ms


def _look_after_all(
    seen: Sequence[Unfinished], settings: Settings, keys: QueueKeys, moment: _Moment
) -> Operation[list[tuple[Unfinished, str | ChunkspoolError]]]:
    """Return for each what came of it: "over", "alive", what `lose` replied, or its own error."""
    outcomes: list[tuple[Unfinished, str | ChunkspoolError]] = []
    for one in seen:
        outcome: str | ChunkspoolError = "over" if one.is_over(moment.now) else "alive"
        if outcome == "alive" and one.status:
            try:
                outcome = yield from _look_after(one, settings, keys, moment)
            except (EnqueueFailed, StoreError):
                raise
            except ChunkspoolError as error:
                outcome = error
        outcomes.append((one, outcome))
    return outcomes


def _look_after(one: Unfinished, settings: Settings, keys: QueueKeys, moment: _Moment) -> Operation[str]:
    """Publish its message again, or end it, if it is lost; return what `lose` replied, or "alive"."""
    if one.has_expired(moment.now):
        expired = yield from scripts.expire(one.member.keys, one.member.generation_id)
        if expired.outcome == "expired":
            yield from tell_failed("expired", expired.ages)
        return expired.outcome
    lost_ms = _lost_ms(settings)
    # Until then a message that a dead worker holds comes back by itself.
    republish_ms = min(lost_ms, round((settings.worker.redelivery + settings.log.lease) * 1000))
    member = one.member
    if one.waits or one.waits_behind or not one.is_passed_over(moment.reached, moment.now, republish_ms):
        return "alive"
    if moment.watched and one.is_lost(moment.now, lost_ms):
        reply = yield from scripts.lose(member.keys, member.generation_id, silent_ms=lost_ms)
        if reply.outcome == "lost":
            yield from tell_failed("lost", reply.ages)
        if reply.outcome == "stopped":
            yield from tell_found_stopped(reply.ages)
        return reply.outcome
    task = one.task or settings.worker.task
    yield from Publish(member.keys.tenant, member.keys.chat_id, member.generation_id, keys.queue, task)
    yield from Tell(Retried("broker"))
    yield from note_republished(keys, member, moment.now)
    return "alive"


def _forget(keys: QueueKeys, foreign: Sequence[str], over: Sequence[Member], now: int) -> Operation[None]:
    """Take out of the index what is over, and what is none of ours.

    Had Redis come back with an older copy since we looked, some might not be over, and nobody would ever look after
    them again. So we look once more, at the Redis that has forgotten them.
    """
    if not foreign and not over:
        return
    yield from forget(keys, [*foreign, *(member.name for member in over)])
    found = yield from SendAll(tuple(look_up(keys, member, now) for member in over))
    pairs = zip(over, found, strict=True)
    again = [member for member, one in pairs if not (isinstance(one, Unfinished) and one.is_over(now))]
    if again:
        yield from list_again(keys, again)


def _lost_ms(settings: Settings) -> int:
    return round(settings.worker.lost_after * 1000)
