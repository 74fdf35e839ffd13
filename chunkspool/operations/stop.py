"""Ends what runs: stop, revoke. Without I/O."""

from __future__ import annotations

from contextlib import suppress

from chunkspool.effects import Operation
from chunkspool.errors import EnqueueFailed, GenerationNotFound
from chunkspool.ids import checked_id
from chunkspool.operations.endings import tell_stopped
from chunkspool.operations.next_in_chat import free_next
from chunkspool.operations.outcome_relay import relay_soon
from chunkspool.operations.schedule import schedule
from chunkspool.request import checked_reason
from chunkspool.results import Stop
from chunkspool.settings import Settings
from chunkspool.store import queries, scripts
from chunkspool.store.index import find_place
from chunkspool.store.keys import ChatKeys
from chunkspool.store.schedule import note


def stop(
    keys: ChatKeys, settings: Settings, generation_id: str | None, by: str, reason: str | None, *, publishes: bool
) -> Operation[tuple[Stop, ...]]:
    """Stop one generation, or all that are active in the chat. `publishes`: this process has a broker."""
    checked_reason(reason)
    if generation_id is None:
        wanted = yield from queries.active_in_existing(keys)
    else:
        wanted = (checked_id("generation_id", generation_id),)
    stops, wants_telling = [], False
    # The newest first: those that wait for an older one would else begin as that ends.
    for each_id in reversed(wanted):
        reply = yield from scripts.stop(keys, each_id, by=by, reason=reason)
        if reply.outcome == "stopped":
            yield from tell_stopped(reply.ages)
            # It may have waited: others need not wait for it, nor its owner count it.
            yield from note(("end", keys.member(each_id)))
            wants_telling = wants_telling or reply.ages.outcome_wanted
        if reply.outcome != "gone":
            stops.append(Stop(each_id, reply.outcome))
        elif generation_id is not None:
            raise GenerationNotFound(keys.chat_id, generation_id)
    if wants_telling:
        yield from relay_soon(keys, settings.log)
    if any(one.outcome == "stopped" for one in stops):
        yield from _let_next_begin(keys, settings, publishes=publishes)
    return tuple(reversed(stops))


def _let_next_begin(keys: ChatKeys, settings: Settings, *, publishes: bool) -> Operation[None]:
    """Let a question begin that waited for what was stopped. If the broker takes no message, it waits in its line."""
    freed = yield from free_next([keys])
    if freed:
        with suppress(EnqueueFailed):
            yield from schedule(settings, freed, publishes=publishes)


def revoke(generation_id: str, settings: Settings, db: int, *, publishes: bool) -> Operation[Stop | None]:
    """Stop the generation, in whichever chat it is; None for a task that is no generation, or no longer one."""
    keys = yield from find_place(generation_id, db)
    if keys is None:
        return None
    try:
        stops = yield from stop(keys, settings, generation_id, "revoke", None, publishes=publishes)
    except GenerationNotFound:
        return None
    return stops[0]
