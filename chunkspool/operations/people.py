"""Keeps the index of people true: what names a chat, and in which chats a person still has something. Without I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

from chunkspool.effects import Operation, SendAll
from chunkspool.store.chats import find_listed
from chunkspool.store.keys import ChatKeys, TenantKeys
from chunkspool.store.schedule import hash_of
from chunkspool.store.touched import (
    PEOPLE_READ,
    TOUCHED_AT_ONCE,
    Touched,
    kept_ms,
    leave,
    list_people,
    list_touched,
    people_due,
    recheck,
    touch,
)

Item = TypeVar("Item")
LOOK_MS: Final = 86_400_000
"""A chat that a person has touched is looked at so long after it was last known to be there."""
ROUNDS: Final = 20
"""Pages of people's chats that one sweep looks at; the next sweep goes on."""


def find_owners(keys: ChatKeys) -> Operation[list[str]]:
    """Return the hashes of all who have asked in the chat."""
    return (yield from _find_people(keys))[0]


def find_lists(keys: ChatKeys) -> Operation[list[tuple[str, int]]]:
    """Return what names the chat, each with the chat's ms there: the lists of chats, and what people have touched."""
    owners, readers = yield from _find_people(keys)
    tenant = TenantKeys(keys.tenant)
    lists = [*map(tenant.chats, (None, *owners)), *map(tenant.touched, dict.fromkeys((*owners, *readers)))]
    found: list[tuple[str, int]] = []
    for some in _parts(lists):
        listed = yield from find_listed(some, keys.chat_id)
        found += [(key, at) for key, at in zip(some, listed, strict=True) if at is not None]
    return found


def leave_lists(chat_id: str, lists: Sequence[tuple[str, int]]) -> Operation[None]:
    """Take a chat that was erased out of these lists, unless somebody has come to it since."""
    for some in _parts(lists):
        yield from leave(chat_id, some)


def touch_all(keys: ChatKeys, people: Sequence[str], chat_kept_ms: int) -> Operation[None]:
    """Note that these people, by their hashes, are about to have something in the chat."""
    for some in _parts(people):
        yield from touch(keys.tenant, keys.chat_id, some, chat_kept_ms)


def look_after_people() -> Operation[None]:
    """Look at chats that were not looked at for long, and forget those that are gone; a bounded number of them."""
    for _ in range(ROUNDS):
        due = yield from people_due()
        people = [person for person, at in due.people if due.now - at >= LOOK_MS]
        for person in people:
            yield from _look_after(person, due.now)
        if not people:
            return


def _look_after(person: str, now: int) -> Operation[None]:
    tenant, _, person_hash = person.partition("/")
    chats = yield from list_touched(TenantKeys(tenant).touched(person_hash))
    old = [one for one in chats if now - one.at >= LOOK_MS]
    reads = SendAll(tuple(kept_ms(ChatKeys(tenant, one.chat_id)) for one in old))
    kept = (yield from reads) if old else []
    # One that cannot be read now is there for all that is known.
    seen: list[tuple[Touched, int | None]] = [
        (one, ms if ms is None or isinstance(ms, int) else 0) for one, ms in zip(old, kept, strict=True)
    ]
    yield from recheck(person, seen)


def _find_people(keys: ChatKeys) -> Operation[tuple[list[str], list[str]]]:
    """Return the hashes of those who have asked in the chat, and of those who have noted how far they have read."""
    owners: dict[str, None] = {}
    readers: dict[str, None] = {}
    cursor, offset, more = "0", 0, True
    while more:
        page = yield from list_people(keys, cursor, offset)
        owners.update(dict.fromkeys(page.owners))
        readers.update(dict.fromkeys(hash_of(keys.tenant, reader) for reader in page.readers))
        cursor, offset = page.rest, offset + PEOPLE_READ
        more = page.more or page.rest != "0"
    return list(owners), list(readers)


def _parts(items: Sequence[Item]) -> Iterable[Sequence[Item]]:
    return (items[start : start + TOUCHED_AT_ONCE] for start in range(0, len(items), TOUCHED_AT_ONCE))
