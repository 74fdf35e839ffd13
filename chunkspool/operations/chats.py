"""Lists the chats of a tenant or an owner, the newest first, and gives them titles. Without I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, TypeVar
from unicodedata import category

from chunkspool.effects import Operation, SendAll
from chunkspool.errors import ChatNotFound, ChunkspoolError, CorruptLog, InvalidInput, StoreRefused, shown
from chunkspool.ids import ID_PATTERN, checked_id
from chunkspool.results import ChatPage, ChatSummary
from chunkspool.store import queries
from chunkspool.store.chats import (
    UNLISTED_AT_ONCE,
    ChatHead,
    Listed,
    list_chats,
    list_key,
    read_head,
    unlist,
)
from chunkspool.store.chats import set_title as write_title
from chunkspool.store.commands import Transaction
from chunkspool.store.index import YOUNG_MS
from chunkspool.store.keys import ChatKeys

T = TypeVar("T")
MAX_CHATS: Final = 500
"""Chats of one page: each is looked at."""
MAX_TITLE: Final = 200
"""Characters of a title."""
ROUNDS: Final = 20
"""Reads of the list for one page. Where so many have found too few chats that are still there, the page is short."""
_NO_TEXT: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode's categories of what no line of text has: control characters, halves of pairs, ends of lines."""
_CURSOR: Final = re.compile(rf"([0-9]{{1,15}})\.({ID_PATTERN})")


def show_chats(tenant: str, db: int, owner: str | None, before: str | None, limit: int) -> Operation[ChatPage]:
    """Return a page of the chats of the tenant, or of those in which `owner` has asked something."""
    if owner is not None:
        checked_id("owner", owner)
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= MAX_CHATS:
        raise InvalidInput(f"limit={shown(limit)}: pass a whole number from 1 to {MAX_CHATS}")
    key, at = list_key(tenant, owner), _checked_cursor(before)
    found: list[ChatSummary] = []
    failed: list[tuple[str, ChunkspoolError]] = []
    now = 0
    for _ in range(ROUNDS):
        room = limit - len(found) - len(failed)
        listed, now = yield from _list_after(key, at, room + 1)
        some = listed[:room]
        heads = yield from _read_all({one: read_head(ChatKeys(tenant, one.chat_id, db)) for one in some}, failed)
        # Of an earlier chat of this id nothing is left, either: the owner has not asked in the one that is there.
        heads = {one: head if head and head.created - one.asked < YOUNG_MS else None for one, head in heads.items()}
        gone = [one for one, head in heads.items() if head is None and now - one.asked >= YOUNG_MS]
        for start in range(0, len(gone), UNLISTED_AT_ONCE):
            yield from unlist(key, gone[start : start + UNLISTED_AT_ONCE])
        kept = {one: head for one, head in heads.items() if head is not None}
        found += yield from _summarize(tenant, db, kept, failed)
        if len(listed) <= len(some):
            return ChatPage(tuple(found), now, None, tuple(failed))
        at = some[-1]
        if len(found) + len(failed) == limit:
            break
    return ChatPage(tuple(found), now, None if at is None else f"{at.asked}.{at.chat_id}", tuple(failed))


def set_title(keys: ChatKeys, title: str | None) -> Operation[None]:
    """Set the chat's title; None takes it away. Raises `InvalidInput` or `ChatNotFound`."""
    if not (yield from write_title(keys, _checked_title(title))):
        raise ChatNotFound(keys.chat_id)


def _list_after(key: str, at: Listed | None, most: int) -> Operation[tuple[list[Listed], int]]:
    """Return up to `most` of a list after `at`. Of those with its ms, the ones up to it were on the page before."""
    rest: list[Listed] = []
    offset = 0
    while True:
        page = yield from list_chats(key, None if at is None else at.asked, offset, most)
        # Redis sorts those of one ms by their names, here from the last on.
        rest += [one for one in page.chats if at is None or (one.asked, one.chat_id) < (at.asked, at.chat_id)]
        offset += most
        if len(rest) >= most or len(page.chats) < most:
            return rest[:most], page.now


def _read_all(
    reads: Mapping[Listed, Transaction[T]], failed: list[tuple[str, ChunkspoolError]]
) -> Operation[dict[Listed, T]]:
    """Read something of each chat. One that is broken keeps nobody from the others; a Redis that is away does."""
    if not reads:
        return {}
    replies = yield from SendAll(tuple(reads.values()))
    found: dict[Listed, T] = {}
    for one, reply in zip(reads, replies, strict=True):
        if not isinstance(reply, ChunkspoolError):
            found[one] = reply
        elif isinstance(reply, CorruptLog | StoreRefused):
            failed.append((one.chat_id, reply))
        else:
            raise reply
    return found


def _summarize(
    tenant: str, db: int, heads: Mapping[Listed, ChatHead], failed: list[tuple[str, ChunkspoolError]]
) -> Operation[list[ChatSummary]]:
    reads = {
        one: queries.statuses(ChatKeys(tenant, one.chat_id, db), [] if head.newest is None else [head.newest])
        for one, head in heads.items()
    }
    statuses = yield from _read_all(reads, failed)
    return [
        ChatSummary(
            chat_id=one.chat_id,
            title=heads[one].title,
            newest=newest[0] if newest else None,
            active=heads[one].active,
            last=heads[one].last,
            created=heads[one].created,
            asked=one.asked,
            pinned=heads[one].pinned,
        )
        for one, newest in statuses.items()
    ]


def _checked_cursor(before: object) -> Listed | None:
    if before is None:
        return None
    match = _CURSOR.fullmatch(before) if isinstance(before, str) else None
    if match is None:
        raise InvalidInput(f"before={shown(before)}: pass the `before` of a page of chats")
    return Listed(match[2], int(match[1]))


def _checked_title(title: object) -> str | None:
    if title is None:
        return None
    text = title.strip() if isinstance(title, str) else ""
    if not 1 <= len(text) <= MAX_TITLE or any(category(each) in _NO_TEXT for each in text):
        raise InvalidInput(f"title={shown(title)}: pass one line of 1 to {MAX_TITLE} characters, or None")
    return text
