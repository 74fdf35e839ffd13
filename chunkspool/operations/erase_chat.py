"""Removes what is kept of a chat: erase. Without I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chunkspool.effects import Operation
from chunkspool.errors import ChatContended
from chunkspool.operations.keeping import forget as forget_kept
from chunkspool.operations.log_sizes import measure_again
from chunkspool.operations.outcomes import forget_chat
from chunkspool.operations.people import find_lists, leave_lists
from chunkspool.store import queries, removal
from chunkspool.store.keys import ChatKeys
from chunkspool.store.schedule import NOTES_MAX, forget

RACES = 100
"""How often an erase tries again because the chat changed under it."""


@dataclass(frozen=True, slots=True)
class Removed:
    """What an erase has removed of a chat; the bytes of Redis are about what it took."""

    generations: int = 0
    requests: int = 0
    bytes_removed: int = 0


def erase(keys: ChatKeys) -> Operation[None]:
    """Erase the chat; no error if there is none."""
    lists = yield from find_lists(keys)
    yield from remove_chat(keys)
    yield from leave_lists(keys.chat_id, lists)


def remove_chat(keys: ChatKeys) -> Operation[Removed]:
    """Remove the chat, but not from the lists that name it.

    One with many generations goes in steps, its log last. Raises `ChatContended`.
    """
    races, listed, removed = 0, 0, Removed()
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
        size = yield from removal.measure(keys, found.generation_ids, ids["request_ids"], is_all=found.is_all)
        if found.is_all:
            done = yield from removal.erase(keys, **ids, listed=found.listed)
        else:
            done = yield from removal.erase_some(keys, **ids)
        if done:
            removed = Removed(
                removed.generations + len(found.generation_ids),
                removed.requests + len(ids["request_ids"]),
                removed.bytes_removed + size,
            )
        if done and found.is_all:
            yield from measure_again(keys, [keys.chat_id])
            yield from forget_chat(keys)
            yield from forget_kept(keys)
            return removed
        # Or others make them faster than they are erased.
        races += not done or (not found.is_all and 0 < listed <= found.listed)
        listed = found.listed
    raise ChatContended(keys.chat_id, "be erased")
