"""Removes generations, a bounded number at a time: the doors of the scripts that erase, or forget what is gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from chunkspool.store.commands import Arg, ScriptCall, Transaction, as_text
from chunkspool.store.keys import ChatKeys
from chunkspool.store.pages import active_ids, last_seq, newest_entry
from chunkspool.store.scripts import load

REMOVED_AT_ONCE: Final = 256
"""Generations that one call removes: more would keep Redis from its other callers."""


@dataclass(frozen=True, slots=True)
class Removable:
    """Generations of a chat, up to `REMOVED_AT_ONCE`, the active ones first. `is_all`: the chat has no others.

    `active` are those of them that are active, `listed` is the size of `gens`.
    """

    generation_ids: tuple[str, ...]
    active: tuple[str, ...]
    listed: int
    is_all: bool


def find_removable(keys: ChatKeys) -> Transaction[Removable]:
    """Read the generations that the next step of an erase removes.

    Counter and log are looked at only because they may be another program's: nothing is erased then.
    """

    def parse(replies: Sequence[Any]) -> Removable:
        active, found, listed = active_ids(replies[0]), map(as_text, replies[1]), int(replies[2])
        last_seq(replies[3], replies[4])
        known = tuple(dict.fromkeys((*active, *found)))
        is_all = max(len(known), listed) <= REMOVED_AT_ONCE
        return Removable(known[:REMOVED_AT_ONCE], active[:REMOVED_AT_ONCE], listed, is_all)

    page = ("ZRANGE", keys.gens, 0, REMOVED_AT_ONCE - 1)
    looks = (("GET", keys.seq), newest_entry(keys))
    return Transaction((("HGET", keys.head, "active"), page, ("ZCARD", keys.gens), *looks), parse)


def erase(
    keys: ChatKeys, *, active: Sequence[str], generation_ids: Sequence[str], request_ids: Sequence[str], listed: int
) -> ScriptCall[bool]:
    """Erase the chat. `generation_ids` and `request_ids` are all that the caller saw, `listed` the size of `gens`.

    Returns False when the chat changed meanwhile. There may be up to `REMOVED_AT_ONCE` generations.
    """
    chat = (keys.seq, keys.log, keys.head, keys.gens, keys.live, *_others(keys))
    every = (*chat, *map(keys.gen, generation_ids), *map(keys.request, request_ids))
    args: tuple[Arg, ...] = (" ".join(active), listed, keys.stops, *active)
    return ScriptCall(load("erase"), every, args, lambda reply: as_text(reply[0]) == "erased")


def _others(keys: ChatKeys) -> tuple[str, ...]:
    """Return the keys of a chat that have nothing to do with how an erase is done."""
    return keys.readers, keys.digest, keys.title, keys.owners, keys.outbox


def measure(
    keys: ChatKeys, generation_ids: Sequence[str], request_ids: Sequence[str], *, is_all: bool
) -> Transaction[int]:
    """Read about how many bytes of Redis these generations and requests of a chat take; with `is_all`, all of it."""
    chat = (keys.seq, keys.log, keys.head, keys.gens, *_others(keys))
    every = (*(chat if is_all else ()), *map(keys.gen, generation_ids), *map(keys.request, request_ids))
    commands = tuple(("MEMORY", "USAGE", key) for key in every)
    return Transaction(commands, lambda replies: sum(int(one or 0) for one in replies))


def erase_some(
    keys: ChatKeys, *, active: Sequence[str], generation_ids: Sequence[str], request_ids: Sequence[str]
) -> ScriptCall[bool]:
    """Remove some of the chat's generations, up to `REMOVED_AT_ONCE`; `erase` is to follow.

    `generation_ids` begins with `active`, as they stand in `head`. Returns False when these changed meanwhile.
    """
    every = (*keys.writer(generation_ids[0]), *map(keys.gen, generation_ids), *map(keys.request, request_ids))
    args: tuple[Arg, ...] = (keys.stops, len(active), *generation_ids)
    return ScriptCall(load("erase_some"), every, args, lambda reply: as_text(reply[0]) == "erased")


def forget_gone(keys: ChatKeys, generation_ids: Sequence[str]) -> ScriptCall[int]:
    """Take those out of the active ones whose hash is gone; returns how many.

    `generation_ids` are up to `REMOVED_AT_ONCE` active ones, as they stand in `head`.
    """
    every = (*keys.writer(generation_ids[0]), *map(keys.gen, generation_ids))
    return ScriptCall(load("forget_gone"), every, tuple(generation_ids), lambda reply: int(reply[0]))
