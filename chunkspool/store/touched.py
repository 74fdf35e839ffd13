"""The doors to the index of people: in which chats each has left something, an owner's questions or a reader's place.

See lua/touch_prelude.lua.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from chunkspool.store.commands import Arg, ScriptCall, Transaction, as_text
from chunkspool.store.index import as_ms, scored
from chunkspool.store.keys import TOUCHED_DUE, ChatKeys
from chunkspool.store.scripts import load

TOUCHED_AT_ONCE: Final = 100
"""Chats, people or lists that one script goes through."""
PEOPLE_AT_ONCE: Final = 10
"""People whose chats one step of the sweep looks at."""
PEOPLE_READ: Final = 500
"""About how many of a chat's readers, and of its owners, one read brings."""


@dataclass(frozen=True, slots=True)
class Touched:
    """A chat in which a person has left something, and the Unix ms at which that was last known."""

    chat_id: str
    at: int


@dataclass(frozen=True, slots=True)
class DuePeople:
    """Those whose chats were looked at longest ago, as (`"<tenant>/<hash>"`, Unix ms); `now` in Unix ms."""

    people: tuple[tuple[str, int], ...]
    now: int


def touch(tenant: str, chat_id: str, people: Sequence[str], kept_ms: int) -> ScriptCall[None]:
    """Note that up to `TOUCHED_AT_ONCE` people, by their hashes, are about to leave something in a chat."""
    args: tuple[Arg, ...] = (tenant, chat_id, kept_ms, *people)
    return ScriptCall(load("touch"), (TOUCHED_DUE,), args, lambda _reply: None)


def leave(chat_id: str, lists: Sequence[tuple[str, int]]) -> ScriptCall[int]:
    """Take a chat out of up to `TOUCHED_AT_ONCE` lists, each with the chat's ms there; returns how many named it."""
    args: tuple[Arg, ...] = (chat_id, *(at for _, at in lists))
    return ScriptCall(load("leave"), tuple(key for key, _ in lists), args, lambda reply: int(reply[0]))


def people_due() -> Transaction[DuePeople]:
    """Read whose chats were looked at longest ago."""

    def parse(replies: Sequence[Any]) -> DuePeople:
        return DuePeople(tuple(scored(replies[0])), as_ms(replies[1]))

    page = ("ZRANGE", TOUCHED_DUE, 0, PEOPLE_AT_ONCE - 1, "WITHSCORES")
    return Transaction((page, ("TIME",)), parse)


def list_touched(key: str, offset: int = 0) -> Transaction[list[Touched]]:
    """Read up to `TOUCHED_AT_ONCE` of a person's chats, those first that were not known for longest."""
    page = ("ZRANGE", key, offset, offset + TOUCHED_AT_ONCE - 1, "WITHSCORES")
    return Transaction((page,), lambda replies: [Touched(name, at) for name, at in scored(replies[0])])


def kept_ms(keys: ChatKeys) -> Transaction[int | None]:
    """Read in how many ms the last of a chat expires; None where nothing is left of it."""
    names = (keys.seq, keys.log, keys.head, keys.readers)

    def parse(replies: Sequence[Any]) -> int | None:
        # -2: there is no such key; -1: it has no TTL, which somebody has taken from it by hand.
        left = [int(ms) for ms in replies if int(ms) != _NO_KEY]
        return max(0, *left) if left else None

    return Transaction(tuple(("PTTL", name) for name in names), parse)


def recheck(person: str, chats: Sequence[tuple[Touched, int | None]]) -> ScriptCall[int]:
    """Note which of up to `TOUCHED_AT_ONCE` chats are kept, and for how many ms; None: one that is gone.

    Returns how many were taken out.
    """
    args: list[Arg] = [person]
    for one, kept in chats:
        args += [one.chat_id, one.at, "" if kept is None else kept]
    return ScriptCall(load("recheck_touched"), (TOUCHED_DUE,), tuple(args), lambda reply: int(reply[0]))


@dataclass(frozen=True, slots=True)
class PeoplePage:
    """Some of those who have something in a chat: owners by their hashes, readers by their names.

    `rest`: where the readers of the next page begin; "0" after the last. `more`: there may be further owners.
    """

    owners: tuple[str, ...]
    readers: tuple[str, ...]
    rest: str
    more: bool


def list_people(keys: ChatKeys, cursor: str = "0", offset: int = 0) -> Transaction[PeoplePage]:
    """Read some of those who have something in a chat: readers from `cursor` on, owners from `offset` on."""

    def parse(replies: Sequence[Any]) -> PeoplePage:
        owners, others, (rest, readers) = replies
        known = as_text(owners or "").split() if not offset else ()
        return PeoplePage(
            owners=(*known, *map(as_text, others)),
            readers=tuple(map(as_text, readers[::2])),
            rest=as_text(rest),
            more=len(others) == PEOPLE_READ,
        )

    commands = (
        ("HGET", keys.head, "owners"),
        ("ZRANGE", keys.owners, offset, offset + PEOPLE_READ - 1),
        ("HSCAN", keys.readers, cursor, "COUNT", PEOPLE_READ),
    )
    return Transaction(commands, parse)


_NO_KEY = -2
