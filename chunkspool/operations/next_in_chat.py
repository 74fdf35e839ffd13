"""Lets a question that waits for others of its chat have its turn, once these have ended. Without I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from chunkspool.effects import Operation, SendAll
from chunkspool.errors import ChunkspoolError
from chunkspool.store import queries, scripts
from chunkspool.store.keys import ChatKeys
from chunkspool.store.recovery import restore_head
from chunkspool.store.schedule import Note


def free_next(chats: Collection[ChatKeys]) -> Operation[list[Note]]:
    """Free what may begin in these chats, in which something has ended; return what to note of it.

    Whoever has freed one may die before it is noted: the sweep then finds one that waits for its turn in no line. Of a
    chat that cannot be read now, the sweep frees it.
    """
    if not chats:
        return []
    found = yield from SendAll(tuple(map(queries.is_busy, chats)))
    notes: list[Note] = []
    for keys, busy in zip(chats, found, strict=True):
        # Most have nothing else to do.
        if busy is True:
            with suppress(ChunkspoolError):
                notes += _note_freed(keys, (yield from scripts.free_next(keys)))
    return notes


def free_waiting(waiting: Mapping[ChatKeys, Sequence[str]]) -> Operation[list[Note]]:
    """Do the same where these wait, oldest first: what they waited for may have ended without anybody to tell of it.

    They are kept while they wait, also where Redis has evicted what it knew of their chat.
    """
    loads = yield from SendAll(tuple(map(queries.load, waiting)))
    notes: list[Note] = []
    for (keys, generation_ids), load in zip(waiting.items(), loads, strict=True):
        with suppress(ChunkspoolError):
            if not isinstance(load, ChunkspoolError) and load.active is None:
                yield from restore_head(keys)
            freed = yield from scripts.free_next(keys, generation_ids[: scripts.WAITING_AT_ONCE])
            notes += _note_freed(keys, freed)
    return notes


def _note_freed(keys: ChatKeys, generation_id: str | None) -> list[Note]:
    return [("free", keys.member(generation_id))] if generation_id else []
