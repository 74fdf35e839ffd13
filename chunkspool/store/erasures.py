"""The doors to the erasures of people: what is under way, what is to be gone through, what a person has in a chat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chunkspool.store.commands import Arg, ScriptCall, Transaction, as_text
from chunkspool.store.index import as_ms, scored
from chunkspool.store.keys import ERASURES, ChatKeys, TenantKeys
from chunkspool.store.schedule import hash_of
from chunkspool.store.scripts import load
from chunkspool.store.touched import Touched, list_touched

ERASURES_AT_ONCE: Final = 10
"""Erasures that one sweep looks at."""
ACTIVE_AT_ONCE: Final = 100
"""Generations of an owner that one read brings."""
_READERS: Final = "readers"
_AGAIN: Final = "/"
"""As in lua/touch_prelude.lua: another erasure was asked for meanwhile."""


@dataclass(frozen=True, slots=True)
class Person:
    """An owner of a tenant, or a reader of that name, and the keys that an erasure of them goes by."""

    tenant: str
    owner: str

    @property
    def hash(self) -> str:
        """What stands for them in keys that may outlive a chat."""
        return hash_of(self.tenant, self.owner)

    @property
    def scope(self) -> str:
        """How the index calls them."""
        return f"{self.tenant}/{self.hash}"

    @property
    def member(self) -> str:
        """How the erasures call them."""
        return f"{self.tenant} {self.owner}"

    @property
    def erasing(self) -> str:
        """The chats that are still to be gone through."""
        return TenantKeys(self.tenant).erasing(self.hash)

    @property
    def leaving(self) -> str:
        """The lists that a chat is still to be taken out of."""
        return TenantKeys(self.tenant).leaving(self.hash)

    @property
    def own_lists(self) -> tuple[str, str]:
        """The lists that name their chats whoever else has something there."""
        keys = TenantKeys(self.tenant)
        return keys.chats(None), keys.chats(self.hash)


def begin(person: Person, *, is_asked_for: bool) -> ScriptCall[int]:
    """Note that a person is to be erased, with all chats that they have touched so far; returns the Unix ms.

    Without `is_asked_for`, it only says that one which is under way goes on.
    """
    args = (person.scope, person.member, "1" if is_asked_for else "")
    return ScriptCall(load("begin_erasure"), (ERASURES,), args, lambda reply: int(reply[0]))


def settle(person: Person, chat_id: str, kept_ms: int | None) -> ScriptCall[None]:
    """Note that an erasure has gone through a chat, and nothing of the person is left there.

    `kept_ms`: they were about to leave something there, which stays noted for so long.
    """
    keys = (ERASURES, person.leaving)
    args: tuple[Arg, ...] = (person.scope, person.member, chat_id, "" if kept_ms is None else kept_ms)
    return ScriptCall(load("settle_erasure"), keys, args, lambda _reply: None)


def end(person: Person) -> ScriptCall[bool]:
    """Note that nothing is left; False where there is more to go through."""
    keys = (ERASURES, *TenantKeys(person.tenant).of_person(person.hash))
    args = (person.scope, person.member)
    return ScriptCall(load("end_erasure"), keys, args, lambda reply: as_text(reply[0]) == "done")


def list_erasing(person: Person, offset: int) -> Transaction[tuple[list[Touched], int]]:
    """Read some of the chats that an erasure has still to go through, and how many places of the list that were."""
    page = list_touched(person.erasing, offset)

    def parse(replies: Sequence[Any]) -> tuple[list[Touched], int]:
        found = page.parse(replies)
        return [one for one in found if one.chat_id != _AGAIN], len(found)

    return Transaction(page.commands, parse)


@dataclass(frozen=True, slots=True)
class UnderWay:
    """Erasures, each with the Unix ms at which it last went on; `now` in Unix ms."""

    erasures: tuple[tuple[Person, int], ...]
    now: int


def under_way() -> Transaction[UnderWay]:
    """Read which erasures have not gone on for longest."""

    def parse(replies: Sequence[Any]) -> UnderWay:
        words = ((name.split(" "), at) for name, at in scored(replies[0]))
        return UnderWay(tuple((Person(tenant, owner), at) for (tenant, owner), at in words), as_ms(replies[1]))

    page = ("ZRANGE", ERASURES, 0, ERASURES_AT_ONCE - 1, "WITHSCORES")
    return Transaction((page, ("TIME",)), parse)


@dataclass(frozen=True, slots=True)
class Share:
    """What of a person is in a chat: whether they have asked there, and whether they are known as a reader.

    `is_known`: the chat can tell who has asked; where Redis has evicted that, it cannot.
    """

    has_asked: bool
    has_read: bool
    is_known: bool


def look(keys: ChatKeys, person: Person) -> Transaction[Share]:
    """Read what of a person is in a chat."""

    def parse(replies: Sequence[Any]) -> Share:
        (owners, log, born), more, read, has_log = replies
        has_asked = more is not None or person.hash in as_text(owners or "").split()
        return Share(has_asked, read is not None, not has_log or log is not None or born is not None)

    commands = (
        ("HMGET", keys.head, "owners", "log", "born"),
        ("ZSCORE", keys.owners, person.hash),
        ("HGET", keys.readers, person.owner),
        ("EXISTS", keys.log),
    )
    return Transaction(commands, parse)


def owned_by(keys: ChatKeys, generation_ids: Sequence[str], owner: str) -> Transaction[bool]:
    """Tell whether one of these generations is the owner's."""
    commands = tuple(("HGET", keys.gen(one), "owner") for one in generation_ids)
    return Transaction(commands, lambda replies: owner in {as_text(one or "") for one in replies})


def forget_reader(keys: ChatKeys, person: Person) -> Transaction[int]:
    """Take a person out of a chat's readers."""
    return Transaction((("HDEL", keys.readers, person.owner),), lambda replies: int(replies[0]))


def is_being_erased(tenant: str, people: Sequence[str]) -> Transaction[bool]:
    """Tell whether one of these people, by their hashes, is being erased."""
    of_tenant = TenantKeys(tenant)
    commands = tuple(("EXISTS", of_tenant.erasing(one)) for one in people)
    return Transaction(commands, lambda replies: any(map(int, replies)))


def list_active(person: Person, offset: int) -> Transaction[list[str]]:
    """Read some members of the index that stand for generations of theirs which have not ended."""
    key = f"{TenantKeys(person.tenant).active}/{person.hash}"
    page = ("ZRANGE", key, offset, offset + ACTIVE_AT_ONCE - 1)
    return Transaction((page,), lambda replies: list(map(as_text, replies[0])))


@dataclass(frozen=True, slots=True)
class Leaving:
    """What an erasure had begun with when its process died.

    `lists`: of each chat that was being removed, the lists that it is to be taken out of. `read`: chats of others,
    among whose readers the person no longer is.
    """

    lists: Mapping[str, list[tuple[str, int]]]
    read: frozenset[str]


def note_leaving(person: Person, chat_id: str, lists: Sequence[tuple[str, int]], kept_ms: int) -> Transaction[int]:
    """Note which lists a chat is to be taken out of once it is gone: nobody could tell then."""
    fields: list[Arg] = []
    for key, at in lists:
        fields += [f"{key} {chat_id}", at]
    keep = ("PEXPIRE", person.leaving, kept_ms)
    # Also before: a full Redis refuses a script whose first write takes memory.
    return Transaction((keep, ("HSET", person.leaving, *fields), keep), len)


def note_reading(person: Person, chat_id: str, kept_ms: int) -> Transaction[int]:
    """Note that the person is about to be taken out of a chat's readers: then, nobody can tell that they were there."""
    return note_leaving(person, chat_id, [(_READERS, 0)], kept_ms)


def read_leaving(person: Person) -> Transaction[Leaving]:
    """Read what an erasure had begun with."""

    def parse(replies: Sequence[Any]) -> Leaving:
        found = replies[0]
        pairs = found.items() if isinstance(found, Mapping) else zip(found[::2], found[1::2], strict=True)
        lists: dict[str, list[tuple[str, int]]] = {}
        for name, at in pairs:
            key, chat_id = as_text(name).split(" ")
            lists.setdefault(chat_id, []).append((key, int(at)))
        read = frozenset(chat_id for chat_id, (*_, (key, _)) in lists.items() if key == _READERS)
        return Leaving({chat_id: found for chat_id, found in lists.items() if chat_id not in read}, read)

    return Transaction((("HGETALL", person.leaving),), parse)
