"""Claims a generation for one more attempt: its request, with its history, and the text to continue. Without I/O."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace

from chunkspool.effects import Operation, Pause, Tell
from chunkspool.errors import CorruptLog, CursorExpired, GenerationNotFound, NotClaimed, Released
from chunkspool.fold import Folding
from chunkspool.ids import checked_id
from chunkspool.observer import AttemptBegan
from chunkspool.operations.endings import tell_failed, tell_found_stopped
from chunkspool.operations.history import read_history
from chunkspool.operations.lease_keeping import keep_lease
from chunkspool.operations.outcome_relay import relay_soon
from chunkspool.request import Claim, checked_wait, stored_request, wants_history
from chunkspool.settings import Settings
from chunkspool.store import queries, scripts
from chunkspool.store.entries import entry_of
from chunkspool.store.keys import ChatKeys
from chunkspool.store.pages import page_after
from chunkspool.store.positions import Position
from chunkspool.store.queries import StoredTrace
from chunkspool.store.scripts import ClaimReply

HELD_POLL = 0.5
"""Seconds between two tries at a generation that another attempt holds: it may end long before its lease does."""


def read_trace(keys: ChatKeys, generation_id: str) -> Operation[StoredTrace]:
    """Return what is kept of a generation's trace: to be read before the claim, which stores the new attempt's span."""
    return (yield from queries.trace_of(keys, generation_id))


def claim(
    keys: ChatKeys, generation_id: str, settings: Settings, wait: float, *, leaving: Callable[[], bool], span: str = ""
) -> Operation[Claim]:
    """Claim a generation for one more attempt; wait up to `wait` seconds for another attempt that holds it.

    `span`: the attempt's, in the generation's trace. Raises `GenerationNotFound`, `NotClaimed`, or, once this process
    is `leaving`, `Released`; `Fenced` where another attempt was faster than the reading of a long chat.
    """
    checked_id("generation_id", generation_id)
    wait = checked_wait(wait)
    token = secrets.token_hex(8)
    while True:
        if leaving():
            raise Released(f"generation {generation_id} is not claimed: this process is about to end")
        reply = yield from scripts.claim(
            keys,
            generation_id,
            token=token,
            lease_ms=round(settings.log.lease * 1000),
            max_attempts=settings.worker.max_attempts,
            model=settings.provider.model,
            continues=settings.worker.recovery == "continue",
            span=span,
        )
        if reply.outcome == "claimed":
            yield from Tell(AttemptBegan(reply.attempt, reply.age if reply.attempt == 1 else None))
            preparing = _prepare(keys, generation_id, settings, reply)
            return (yield from keep_lease(preparing, keys, generation_id, reply.attempt, settings.log))
        if reply.outcome == "gone":
            raise GenerationNotFound(keys.chat_id, generation_id)
        if reply.outcome == "stopped":
            yield from tell_found_stopped(reply.ages)
        if reply.outcome == "failed":
            yield from tell_failed(reply.code, reply.ages)
        if reply.ages.outcome_wanted:
            yield from relay_soon(keys, settings.log)
        pause = min(reply.held_ms / 1000, HELD_POLL)
        if reply.outcome != "held" or wait < pause:
            raise NotClaimed(generation_id, reply.outcome)
        yield from Pause(pause)
        wait -= pause


def _prepare(keys: ChatKeys, generation_id: str, settings: Settings, reply: ClaimReply) -> Operation[Claim]:
    prefix: str | None = ""
    if reply.attempt > 1 and settings.worker.recovery == "continue":
        # Only now, because before the claim the older attempt may still have written.
        prefix = yield from _find_text_to_continue(keys, generation_id)
    request = stored_request(reply.request, prefix or "")
    if wants_history(reply.request):
        messages = yield from read_history(keys, generation_id, request.messages, settings.log)
        request = replace(request, messages=messages)
    return Claim(
        reply.attempt,
        request,
        restarts=prefix is None,
        request_id=reply.request_id,
        room=reply.room,
        age=reply.age,
        speaks_first=reply.speaks_first,
    )


def _find_text_to_continue(keys: ChatKeys, generation_id: str) -> Operation[str | None]:
    """Return what the earlier attempts have said; None if that is not text alone, or not all there."""
    after = yield from queries.cursor_before(keys, generation_id)
    folding = Folding()
    while True:
        try:
            page = yield from page_after(keys, Position(after))
            events = [entry_of(item).event for item in page.entries]
        except (CursorExpired, CorruptLog):
            return None
        for event in events:
            if event.generation_id == generation_id:
                folding.add(event)
        after += len(events)
        if after >= page.last or not events:
            break
    said = next(iter(folding.answers()), None)
    if said is None or said.tool_calls or (said.reasoning and not said.text):
        return None
    return said.text
