"""The lists of chats, of a tenant and of each owner: their doors, and what is read of each chat that they name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from chunkspool.store.commands import Arg, ScriptCall, Transaction, as_text
from chunkspool.store.index import as_ms
from chunkspool.store.keys import ChatKeys, TenantKeys
from chunkspool.store.pages import active_ids, last_seq, newest_entry
from chunkspool.store.schedule import hash_of
from chunkspool.store.scripts import load

UNLISTED_AT_ONCE: Final = 100
"""Chats that one script takes out of a list."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A chat of a list, and the Unix ms of its newest question."""

    chat_id: str
    asked: int


@dataclass(frozen=True, slots=True)
class ListPage:
    """Some of a list, the newest first; `now` in Unix ms."""

    chats: tuple[Listed, ...]
    now: int


@dataclass(frozen=True, slots=True)
class ChatHead:
    """What is kept of a chat beside its log. `newest` is a generation, None where all have expired."""

    title: str | None
    created: int
    last: int
    active: tuple[str, ...]
    newest: str | None
    pinned: bool = False


def list_key(tenant: str, owner: str | None) -> str:
    """Return the key of a list: the tenant's, or that of one of its owners."""
    return TenantKeys(tenant).chats(None if owner is None else hash_of(tenant, owner))


def lists_of(tenant: str, owner: str | None) -> tuple[str, ...]:
    """Return the keys of what names a chat in which something is asked, in the order of `Reservation.asked_before`."""
    tenants = list_key(tenant, None)
    if owner is None:
        return (tenants,)
    return tenants, list_key(tenant, owner), TenantKeys(tenant).touched(hash_of(tenant, owner))


def list_chats(key: str, before: int | None, offset: int, most: int) -> Transaction[ListPage]:
    """Read a page of a list, from the newest or from the ms `before` on, without the first `offset` of these."""
    start = "+inf" if before is None else before
    page = ("ZRANGE", key, start, "-inf", "BYSCORE", "REV", "LIMIT", offset, most, "WITHSCORES")

    def parse(replies: Sequence[Any]) -> ListPage:
        found, time = replies
        # RESP3 brings pairs, RESP2 a flat list.
        pairs = found if found and isinstance(found[0], (list, tuple)) else zip(found[::2], found[1::2], strict=True)
        return ListPage(tuple(Listed(as_text(name), int(float(score))) for name, score in pairs), as_ms(time))

    return Transaction((page, ("TIME",)), parse)


def owners_of(keys: ChatKeys) -> Transaction[tuple[str, ...]]:
    """Read the hashes of those who have asked in the chat."""
    command = ("HGET", keys.head, "owners")
    return Transaction((command,), lambda replies: tuple(as_text(replies[0] or "").split()))


def find_listed(lists: Sequence[str], chat_id: str) -> Transaction[tuple[int | None, ...]]:
    """Read where a chat stands in some lists: the ms of its newest question, None where it is not listed."""
    commands = tuple(("ZSCORE", key, chat_id) for key in lists)
    return Transaction(commands, lambda found: tuple(None if one is None else int(float(one)) for one in found))


def unlist(key: str, chats: Sequence[Listed], before: int | None = None) -> ScriptCall[int]:
    """Take up to `UNLISTED_AT_ONCE` chats out of a list, unless they were asked something meanwhile.

    `before`: they stood in the list before, with this ms, and do so again. Returns how many that was true for.
    """
    place = "" if before is None else before
    args: list[Arg] = [word for one in chats for word in (one.chat_id, one.asked, place)]
    return ScriptCall(load("unlist"), (key,), tuple(args), lambda reply: int(reply[0]))


def read_head(keys: ChatKeys) -> Transaction[ChatHead | None]:
    """Read what is kept of a chat; None where there is none, or nothing of its log any more."""

    def parse(replies: Sequence[Any]) -> ChatHead | None:
        seq, (active, born, pinned), title, size, newest, latest = replies
        last = last_seq(seq, latest)
        if last is None or not size:
            return None
        running = active_ids(active)
        known = running[-1] if running else as_text(newest[0]) if newest else None
        return ChatHead(
            None if title is None else as_text(title), int(born or 0), last, running, known, pinned is not None
        )

    commands = (
        ("GET", keys.seq),
        ("HMGET", keys.head, "active", "born", "pinned"),
        ("GET", keys.title),
        ("XLEN", keys.log),
        ("ZREVRANGE", keys.gens, 0, 0),
        newest_entry(keys),
    )
    return Transaction(commands, parse)


def set_title(keys: ChatKeys, title: str | None) -> ScriptCall[bool]:
    """Set a chat's title; returns False where there is no chat."""
    return ScriptCall(
        load("set_title"), (keys.log, keys.title), (title or "",), lambda reply: as_text(reply[0]) == "ok"
    )
