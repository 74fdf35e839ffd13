"""Ends what runs: stop, revoke. Without I/O."""

from __future__ import annotations

from chunkspool.effects import Operation
from chunkspool.errors import GenerationNotFound
from chunkspool.ids import checked_id
from chunkspool.operations.endings import tell_stopped
from chunkspool.request import checked_reason
from chunkspool.results import Stop
from chunkspool.store import queries, scripts
from chunkspool.store.index import find_place
from chunkspool.store.keys import ChatKeys
from chunkspool.store.schedule import note


def stop(keys: ChatKeys, generation_id: str | None, by: str, reason: str | None) -> Operation[tuple[Stop, ...]]:
    """Stop one generation, or all that are active in the chat."""
    checked_reason(reason)
    if generation_id is None:
        wanted = yield from queries.active_in_existing(keys)
    else:
        wanted = (checked_id("generation_id", generation_id),)
    stops = []
    for each_id in wanted:
        reply = yield from scripts.stop(keys, each_id, by=by, reason=reason)
        if reply.outcome == "stopped":
            yield from tell_stopped(reply.ages)
            # It may have waited: others need not wait for it, nor its owner count it.
            yield from note(("end", keys.member(each_id)))
        if reply.outcome != "gone":
            stops.append(Stop(each_id, reply.outcome))
        elif generation_id is not None:
            raise GenerationNotFound(keys.chat_id, generation_id)
    return tuple(stops)


def revoke(generation_id: str, db: int) -> Operation[Stop | None]:
    """Stop the generation, in whichever chat it is; None for a task that is no generation, or no longer one."""
    keys = yield from find_place(generation_id, db)
    if keys is None:
        return None
    try:
        stops = yield from stop(keys, generation_id, "revoke", None)
    except GenerationNotFound:
        return None
    return stops[0]
