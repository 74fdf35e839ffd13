"""Ends what runs and removes what is kept: stop, revoke, erase. Without I/O."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from chunkspool.effects import Operation
from chunkspool.errors import ChatContended, EnqueueFailed, GenerationNotFound
from chunkspool.ids import checked_id
from chunkspool.operations.chats import find_lists, leave_lists
from chunkspool.operations.endings import tell_stopped
from chunkspool.operations.keeping import forget as forget_kept
from chunkspool.operations.log_sizes import measure_again
from chunkspool.operations.next_in_chat import free_next
from chunkspool.operations.schedule import schedule
from chunkspool.request import checked_reason
from chunkspool.results import Stop
from chunkspool.settings import Settings
from chunkspool.store import queries, removal, scripts
from chunkspool.store.index import find_place
from chunkspool.store.keys import ChatKeys
from chunkspool.store.schedule import NOTES_MAX, forget, note

RACES = 100
"""How often an erase tries again because the chat changed under it."""


def stop(
    keys: ChatKeys, settings: Settings, generation_id: str | None, by: str, reason: str | None, *, publishes: bool
) -> Operation[tuple[Stop, ...]]:
    """Stop one generation, or all that are active in the chat. `publishes`: this process has a broker."""
    checked_reason(reason)
    if generation_id is None:
        wanted = yield from queries.active_in_existing(keys)
    else:
        wanted = (checked_id("generation_id", generation_id),)
    stops = []
    # The newest first: those that wait for an older one would else begin as that ends.
    for each_id in reversed(wanted):
        reply = yield from scripts.stop(keys, each_id, by=by, reason=reason)
        if reply.outcome == "stopped":
            yield from tell_stopped(reply.ages)
            # It may have waited: others need not wait for it, nor its owner count it.
            yield from note(("end", keys.member(each_id)))
        if reply.outcome != "gone":
            stops.append(Stop(each_id, reply.outcome))
        elif generation_id is not None:
            raise GenerationNotFound(keys.chat_id, generation_id)
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


def erase(keys: ChatKeys, settings: Settings) -> Operation[None]:
    """Erase the chat; no error if there is none. A chat with many generations is erased in steps, its log last."""
    races, listed = 0, 0
    lists = yield from find_lists(keys)
    while races < RACES:
        found = yield from removal.find_removable(keys)
        origins = yield from queries.origins(keys, found.generation_ids)
        if found.generation_ids:
            # First the index: were the reply to the erase lost, nobody would know what is to be forgotten.
            made = [(one, origin.queue) for one, origin in zip(found.generation_ids, origins, strict=True)]
            for start in range(0, len(made), NOTES_MAX):
                yield from forget(keys, made[start : start + NOTES_MAX])
        ids: dict[str, Sequence[str]] = {
            "active": found.active,
            "generation_ids": found.generation_ids,
            "request_ids": [origin.request_id for origin in origins if origin.request_id],
        }
        if found.is_all:
            if (yield from removal.erase(keys, **ids, listed=found.listed)):
                yield from measure_again(keys, [keys.chat_id])
                yield from leave_lists(keys, lists)
                yield from forget_kept(keys, settings)
                return
            races += 1
        else:
            done = yield from removal.erase_some(keys, **ids)
            # Or others make them faster than they are erased.
            races += not done or 0 < listed <= found.listed
            listed = found.listed
    raise ChatContended(keys.chat_id, "be erased")
