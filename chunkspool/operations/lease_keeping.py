"""Keeps an attempt's lease while something takes long that comes before its first word. Without I/O."""

from __future__ import annotations

import time
from typing import TypeVar

from chunkspool.effects import Operation
from chunkspool.errors import ChunkspoolError, Fenced, GenerationNotFound, NotClaimed
from chunkspool.settings import LogSettings
from chunkspool.store import scripts
from chunkspool.store.keys import ChatKeys

BEATS = 3
"""Heartbeats of a lease: two may be late before another worker takes over."""

T = TypeVar("T")


def keep_lease(
    operation: Operation[T], keys: ChatKeys, generation_id: str, attempt: int, settings: LogSettings
) -> Operation[T]:
    """Do `operation` for an attempt that has just claimed its generation, with heartbeats between its effects.

    Raises `Fenced`, `NotClaimed` or `GenerationNotFound` where the attempt has lost its generation meanwhile.
    """
    beaten_at = time.monotonic()
    try:
        effect = next(operation)
        while True:
            if time.monotonic() - beaten_at > settings.lease / BEATS:
                yield from _beat(keys, generation_id, attempt, settings)
                beaten_at = time.monotonic()
            try:
                result = yield effect
            except ChunkspoolError as error:
                effect = operation.throw(error)
            else:
                effect = operation.send(result)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


def _beat(keys: ChatKeys, generation_id: str, attempt: int, settings: LogSettings) -> Operation[None]:
    lease_ms = round(settings.lease * 1000)
    reply = yield from scripts.append(
        keys, generation_id, attempt=attempt, index=1, lease_ms=lease_ms, events=(), ending=None
    )
    match reply.outcome:
        case "fenced":
            raise Fenced(f"another attempt has claimed generation {generation_id}")
        case "ended":
            raise NotClaimed(generation_id, "ended")
        case "gone":
            raise GenerationNotFound(keys.chat_id, generation_id)
