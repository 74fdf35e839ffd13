"""Finds generations whose message is lost: it is published again, and what stays lost is ended. Without I/O.

A message is lost when its generation shows no sign of life and the message can be nowhere: the queue is empty, or
workers have claimed generations that were enqueued later. A long queue alone loses nothing. kombu's Redis transport
loses the message that a worker has popped and not yet noted when it dies; a broker that loses its data loses all of
them. A generation without a sign of life after `lost_after` seconds fails: no reader waits for ever.
"""

from __future__ import annotations

from chunkspool.effects import Operation, Publish
from chunkspool.settings import Settings
from chunkspool.store import scripts
from chunkspool.store.index import (
    INDEX_PAGE,
    Unfinished,
    list_unfinished,
    lock_sweep,
    look_up,
    note_republished,
    note_swept,
)


def sweep(settings: Settings, *, queue_is_empty: bool) -> Operation[tuple[str, ...]]:
    """Publish again and end what is lost; return the ids of what has ended. Raises `EnqueueFailed`.

    It does nothing while another process sweeps or has just done so.
    """
    if not (yield from lock_sweep(max(1, round(settings.worker.sweep_interval * 800)))):
        return ()
    lost: list[str] = []
    offset = 0
    while True:
        members = yield from list_unfinished(offset)
        page = yield from look_up(members)
        watermark = max([page.watermark, *(one.enqueued for one in page.generations if one.claimed)])
        # With an empty queue, the messages of all that were ever enqueued have come out of it.
        reached = page.now + 1 if queue_is_empty else watermark
        over = [one.member for one in page.generations if one.is_over]
        for one in page.generations:
            if one.is_over:
                continue
            outcome = yield from _look_after(one, settings, reached, page.now)
            if outcome == "lost":
                lost.append(one.generation_id)
            if outcome != "alive":
                over.append(one.member)
        yield from note_swept(watermark, over)
        if len(members) < INDEX_PAGE:
            return tuple(lost)
        offset += INDEX_PAGE - len(over)


def _look_after(one: Unfinished, settings: Settings, reached: int, now: int) -> Operation[str]:
    """Publish its message again, or end it, if it is lost; return what `lose` replied, or "alive"."""
    lost_ms = round(settings.worker.lost_after * 1000)
    # Until then a message that a dead worker holds comes back by itself.
    republish_ms = min(lost_ms, round((settings.worker.redelivery + settings.log.lease) * 1000))
    if not one.is_passed_over(reached, now, republish_ms):
        return "alive"
    if one.is_silent(now, lost_ms):
        reply = yield from scripts.lose(one.keys, one.generation_id, silent_ms=lost_ms)
        return reply.outcome
    yield from Publish(one.keys.tenant, one.keys.chat_id, one.generation_id)
    yield from note_republished(one.member, now)
    return "alive"
