"""Ends what runs and removes what is kept: stop, revoke, erase. Without I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chunkspool.effects import Operation
from chunkspool.errors import ChatNotFound, GenerationNotFound, StoreUnavailable
from chunkspool.operations.query import Seen, seen
from chunkspool.reading.cursor import last_seq, newest
from chunkspool.request import checked_reason
from chunkspool.results import Stop
from chunkspool.store import scripts
from chunkspool.store.commands import Reads, as_text
from chunkspool.store.index import forget_places, place
from chunkspool.store.keys import ChatKeys, checked_id
from chunkspool.store.scripts import StopReply

RACES = 100
"""How often an erase begins again because the chat changed under it."""


def stop(keys: ChatKeys, generation_id: str | None, by: str, reason: str | None) -> Operation[tuple[Stop, ...]]:
    """Stop one generation, or all that are active in the chat."""
    checked_reason(reason)
    if generation_id is None:
        wanted: tuple[str, ...] = yield _active_of_existing(keys)
    else:
        wanted = (checked_id("generation_id", generation_id),)
    stops = []
    for one in wanted:
        reply: StopReply = yield scripts.stop(keys, one, by=by, reason=reason)
        if reply.outcome == "gone":
            if generation_id is None:
                continue
            raise GenerationNotFound(keys.chat_id, one)
        stops.append(Stop(one, reply.outcome))
    return tuple(stops)


def revoke(task_id: str) -> Operation[Stop | None]:
    """Stop the generation, in whichever chat it is; None for a task that is no generation (any more)."""
    keys: ChatKeys | None = yield place(task_id)
    if keys is None:
        return None
    try:
        stops = yield from stop(keys, task_id, "revoke", None)
    except GenerationNotFound:
        return None
    return stops[0]


def erase(keys: ChatKeys) -> Operation[None]:
    """Erase the chat; no error if there is none."""
    for _ in range(RACES):
        found: Seen = yield seen(keys)
        requests: list[str] = yield _request_ids(keys, found.generations)
        done: bool = yield scripts.erase(
            keys, active=found.active, generations=found.generations, request_ids=requests, known=found.known
        )
        if done:
            if found.generations:
                yield forget_places(keys, found.generations)
            return
    raise StoreUnavailable(f"chat {keys.chat_id!r} changes faster than it can be erased; stop it first")


def _active_of_existing(keys: ChatKeys) -> Reads[tuple[str, ...]]:
    """Return the read of the active generations that raises `ChatNotFound` where there is no chat."""

    def parse(replies: Sequence[Any]) -> tuple[str, ...]:
        if last_seq(replies[0], replies[2]) is None:
            raise ChatNotFound(keys.chat_id)
        return tuple(as_text(replies[1] or "").split())

    return Reads((("GET", keys.seq), ("HGET", keys.head, "active"), newest(keys)), parse)


def _request_ids(keys: ChatKeys, generations: Sequence[str]) -> Reads[list[str]]:
    commands = tuple(("HGET", keys.gen(one), "request_id") for one in generations)
    return Reads(commands, lambda replies: [as_text(found) for found in replies if found])
