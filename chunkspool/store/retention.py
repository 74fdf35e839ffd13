"""The doors of retention: how long a log is, the script that drops what is oldest in it, and the chats that are due."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

from chunkspool.errors import InvalidId
from chunkspool.store.commands import Arg, ScriptCall, Transaction, as_text
from chunkspool.store.entries import seq_of
from chunkspool.store.index import as_ms, scored
from chunkspool.store.keys import RETENTION_DUE, ChatKeys, TenantKeys
from chunkspool.store.scripts import load

DROPPED_AT_ONCE: Final = 20_000
"""Events that one call drops, but for a single generation that has more."""
DUE_AT_ONCE: Final = 100
"""Chats that one call takes off the list."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a log: the seqs from `first` to `last`, in `log_bytes` bytes. `log` is its identity.

    `first` is `last + 1` where nothing is. `log` is "" where nobody knows it, because `head` was evicted.
    """

    first: int
    last: int
    log_bytes: int
    log: str
    pinned: bool

    @property
    def events(self) -> int:
        """How many events that are."""
        return self.last - self.first + 1


def look(keys: ChatKeys) -> Transaction[Kept]:
    """Read what is kept of a chat's log."""

    def parse(replies: Sequence[Any]) -> Kept:
        oldest, newest, size, (log, pinned) = replies
        first, last = (seq_of(found[0][0]) if found else 0 for found in (oldest, newest))
        return Kept(first or 1, last, int(size or 0), as_text(log or ""), pinned is not None)

    commands = (
        ("XRANGE", keys.log, "-", "+", "COUNT", 1),
        ("XREVRANGE", keys.log, "+", "-", "COUNT", 1),
        ("MEMORY", "USAGE", keys.log),
        ("HMGET", keys.head, "log", "pinned"),
    )
    return Transaction(commands, parse)


DropOutcome = Literal["dropped", "changed", "active"]


def drop(keys: ChatKeys, kept: Kept, keep_from: int) -> ScriptCall[DropOutcome]:
    """Drop all events before the seq `keep_from`, at which no generation is in the middle: lua/drop.lua.

    `kept` is the log as it was read to find that out.
    """

    def parse(reply: list[Any]) -> DropOutcome:
        outcome: Any = as_text(reply[0])
        return outcome  # type: ignore[no-any-return]

    args = (kept.log, kept.first, keep_from)
    return ScriptCall(load("drop"), (keys.log, keys.head, keys.digest, keys.outbox), args, parse)


@dataclass(frozen=True, slots=True)
class Due:
    """A chat whose log is to be looked at. `score` is as Redis has it; `keys` are None for what no chunkspool wrote."""

    member: str
    score: str
    keys: ChatKeys | None


def list_due(db: int, most: int = DUE_AT_ONCE) -> Transaction[list[Due]]:
    """Read the chats that have been due for longest. None is due before its time by more than the clocks differ."""

    def parse(replies: Sequence[Any]) -> list[Due]:
        found, time = replies
        now = as_ms(time)
        return [Due(name, str(score), _chat_of(name, db)) for name, score in scored(found) if score <= now]

    return Transaction((("ZRANGE", RETENTION_DUE, 0, most - 1, "WITHSCORES"), ("TIME",)), parse)


def settle(settled: Sequence[tuple[Due, int | None]]) -> ScriptCall[int]:
    """Take up to `DUE_AT_ONCE` chats off the list, or let them be due again after so many ms."""
    args: list[Arg] = []
    for due, again_ms in settled:
        args += [due.member, due.score, "" if again_ms is None else again_ms]
    return ScriptCall(load("settle_retention"), (RETENTION_DUE,), tuple(args), lambda reply: int(reply[0]))


def forget(keys: ChatKeys) -> Transaction[int]:
    """Take a chat that is gone off the list."""
    return Transaction((("ZREM", RETENTION_DUE, f"{keys.tenant} {keys.chat_id}"),), len)


@dataclass(frozen=True, slots=True)
class TenantChats:
    """Some of a tenant's chats, each with the ms at which its log expires, and how many there are in all."""

    chats: tuple[tuple[str, int], ...]
    number: int


def chats_after(tenant: str, score: int, chat_id: str, most: int) -> ScriptCall[TenantChats]:
    """Read the next `most` of the tenant's chats, in the order in which their logs expire, after one with that ms."""

    def parse(reply: list[Any]) -> TenantChats:
        number, *found = reply
        return TenantChats(tuple(scored(found)), int(number))

    args = (score, chat_id, most)
    return ScriptCall(load("chats_after"), (TenantKeys(tenant).sizes_until,), args, parse)


def _chat_of(member: str, db: int) -> ChatKeys | None:
    tenant, _, chat_id = member.partition(" ")
    with suppress(InvalidId):
        return ChatKeys(tenant, chat_id, db)
    return None
