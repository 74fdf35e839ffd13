"""Moves outcomes from the outboxes of chats into the stream of their tenant, each exactly once. Without I/O.

Three steps, in two slots of a cluster: read the marks and the answers, add them to the stream, clear the marks. A relay
may die after each of them, and any number may be at it at once: see lua/relay_outcomes.lua.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass

from chunkspool.effects import Operation
from chunkspool.errors import ChatNotFound, CorruptLog, CursorAhead, CursorExpired, StoreError
from chunkspool.events import Event
from chunkspool.fold import Answer, Folding
from chunkspool.outcomes import Outcome
from chunkspool.settings import LogSettings
from chunkspool.states import ENDING_TYPES
from chunkspool.store import outcomes
from chunkspool.store.entries import entry_of
from chunkspool.store.keys import ChatKeys
from chunkspool.store.outcomes import RELAYED_AT_ONCE, Mark
from chunkspool.store.pages import page_after
from chunkspool.store.positions import Position

_LOG = logging.getLogger(__name__)
LATE_MAX = 5
"""How often a relay that was late tries again: its process was stopped for minutes."""
TAIL = 32
"""Entries at the end of an answer that is too long to be told: in them are its usage and its ending."""


def relay(keys: ChatKeys, settings: LogSettings) -> Operation[int]:
    """Tell what is in the chat's outbox; return how many outcomes are new in the stream. Raises `StoreError`."""
    moved = late = 0
    while late < LATE_MAX:
        box = yield from outcomes.read_outbox(keys)
        if not box.marks:
            break
        marks = box.marks[:RELAYED_AT_ONCE]
        found: list[Outcome] = []
        for mark in marks:
            outcome = yield from _outcome_of(keys, mark, settings)
            found.append(outcome)
        reply = yield from outcomes.relay(keys.tenant, found, read_at=box.now, most_bytes=settings.outcome_bytes)
        if reply.outcome == "late":
            late += 1
            continue
        moved += reply.moved
        if reply.dropped:
            _LOG.error(
                "outcomes of tenant %s take more than outcome_bytes: group %s, the slowest, is set aside",
                keys.tenant,
                reply.dropped,
            )
            if not reply.groups:
                yield from outcomes.unregister(keys.tenant)
        told = [mark.generation_id for mark in marks]
        cleared = yield from outcomes.clear_marks(keys, told)
        yield from outcomes.forget_seen(keys.tenant, told, cleared)
        if len(marks) == len(box.marks):
            break  # whoever marks another one meanwhile tells it
    return moved


def relay_soon(keys: ChatKeys, settings: LogSettings) -> Operation[None]:
    """Tell what is in the outbox. Where Redis fails meanwhile, the sweep does it later."""
    with suppress(StoreError, CorruptLog):
        yield from relay(keys, settings)


@dataclass(frozen=True, slots=True)
class _Read:
    """What the log has of a generation. `is_whole`: the text is that of the answer; `ending`: its last seq."""

    answer: Answer
    is_whole: bool
    expired: bool = False
    ending: int | None = None


def _outcome_of(keys: ChatKeys, mark: Mark, settings: LogSettings) -> Operation[Outcome]:
    try:
        read = yield from _read_answer(keys, mark, settings.outcome_text_bytes)
    except (ChatNotFound, CursorExpired, CursorAhead, CorruptLog):
        read = _Read(Answer(mark.generation_id), is_whole=False, expired=True)
    answer = read.answer
    return Outcome(
        id="",
        tenant=keys.tenant,
        chat_id=keys.chat_id,
        generation_id=mark.generation_id,
        request_id=mark.request_id,
        owner=mark.owner,
        state=mark.status,
        code=answer.error_code,
        stopped_by=answer.stopped_by,
        reason=answer.reason,
        attempt=mark.attempt,
        model=answer.model,
        usage=answer.usage,
        finish_reason=answer.finish_reason,
        created=mark.created,
        started=mark.started,
        ended=mark.ended,
        first=mark.first,
        last=mark.last if read.ending is None else read.ending,
        text=answer.text if read.is_whole else None,
        log_expired=read.expired,
    )


def _read_answer(keys: ChatKeys, mark: Mark, most: int) -> Operation[_Read]:
    """Fold the generation's events. Of an answer that is too long, the middle is not read."""
    folding, size, after, is_whole = Folding(), 0, mark.first - 1, True
    while True:
        page = yield from page_after(keys, Position(after))
        entries = [entry_of(item) for item in page.entries]
        for entry in entries:
            if entry.generation_id != mark.generation_id:
                continue
            folding.add(entry.event)
            size += _bytes_of(entry.event)
            if entry.type in ENDING_TYPES:
                answer = folding.answers()[0]
                return _Read(answer, is_whole and len(answer.text.encode()) <= most, ending=entry.seq)
        if not entries or after + len(entries) >= page.last:
            return _Read(next(iter(folding.answers()), Answer(mark.generation_id)), is_whole=False, expired=True)
        after += len(entries)
        if size > most and is_whole and mark.last - TAIL > after:
            after, is_whole = mark.last - TAIL, False


def _bytes_of(event: Event) -> int:
    return len(getattr(event, "text", "").encode())
