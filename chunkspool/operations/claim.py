"""Takes a generation for one more attempt, and finds what that attempt is to go on from. Without I/O."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from chunkspool.effects import Operation, Pause
from chunkspool.errors import CorruptLog, CursorExpired, GenerationNotFound, HandedOver, NotClaimed
from chunkspool.fold import Answer, fold
from chunkspool.reading.cursor import PAGE, Page, page_after
from chunkspool.request import Claim, GenerationRequest, checked_wait
from chunkspool.settings import Settings
from chunkspool.store import scripts
from chunkspool.store.commands import Reads
from chunkspool.store.entries import opened
from chunkspool.store.keys import ChatKeys, checked_id
from chunkspool.store.scripts import Claimed

HELD_POLL = 0.5
"""Seconds between two looks at a generation that another attempt holds: it may end long before its lease does."""


def claim(
    keys: ChatKeys, generation_id: str, settings: Settings, wait: float, *, leaving: Callable[[], bool]
) -> Operation[Claim]:
    """Take a generation for one more attempt; wait up to `wait` seconds for another attempt that holds it.

    Raises `GenerationNotFound`, `NotClaimed`, or, once this process is `leaving`, `HandedOver`.
    """
    checked_id("generation_id", generation_id)
    wait = checked_wait(wait)
    token = secrets.token_hex(8)
    while True:
        if leaving():
            raise HandedOver(f"generation {generation_id} is not begun: this process is about to end")
        claimed: Claimed = yield scripts.claim(
            keys,
            generation_id,
            token=token,
            lease_ms=round(settings.lease * 1000),
            max_attempts=settings.max_attempts,
            model=settings.model,
            continues=settings.recovery == "continue",
        )
        if claimed.outcome == "claimed":
            return (yield from _prepared(keys, generation_id, settings, claimed))
        if claimed.outcome == "gone":
            raise GenerationNotFound(keys.chat_id, generation_id)
        pause = min(claimed.held_ms / 1000, HELD_POLL)
        if claimed.outcome != "held" or wait < pause:
            raise NotClaimed(generation_id, claimed.outcome)
        yield Pause(pause)
        wait -= pause


def _prepared(keys: ChatKeys, generation_id: str, settings: Settings, claimed: Claimed) -> Operation[Claim]:
    request = GenerationRequest.stored(claimed.request)
    prefix: str | None = ""
    if claimed.attempt > 1 and settings.recovery == "continue":
        prefix = yield from _text_to_continue(keys, generation_id)
    return Claim(claimed.attempt, request.for_model(prefix or ""), restarts=prefix is None)


def _text_to_continue(keys: ChatKeys, generation_id: str) -> Operation[str | None]:
    """Return what the earlier attempts have said; None if that is not text alone, or not all there."""
    after: int = yield _after(keys, generation_id)
    answers: tuple[Answer, ...] = ()
    while True:
        try:
            page: Page = yield page_after(keys, after, PAGE)
            events = [opened(item).event for item in page.entries]
        except (CursorExpired, CorruptLog):
            return None
        answers = fold((event for event in events if event.generation == generation_id), onto=answers)
        after += len(events)
        if after >= page.last or not events:
            break
    said = answers[0] if answers else None
    if said is None or said.tool_calls or (said.reasoning and not said.text):
        return None
    return said.text


def _after(keys: ChatKeys, generation_id: str) -> Reads[int]:
    return Reads((("HGET", keys.gen(generation_id), "after"),), lambda replies: int(replies[0] or 0))
