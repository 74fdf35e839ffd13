"""The index across chats: where a generation is by its id alone, and what the sweep goes through."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from chunkspool.states import ENDED
from chunkspool.store.commands import Command, Transaction, as_text
from chunkspool.store.keys import REPUBLISHED, SWEEP_LOCK, UNFINISHED, WATERMARK, ChatKeys, place_of

INDEX_MS: Final = 86_400_000
"""A generation that has neither ended nor been found lost within a day is forgotten by the sweep."""
INDEX_PAGE: Final = 500
"""Generations that the sweep looks at in one round trip."""


def remember_place(keys: ChatKeys, generation_id: str, ttl_ms: int) -> Transaction[int]:
    """Note where a generation is, and that it has not ended."""
    now = time.time_ns() // 1_000_000
    return Transaction(
        (
            ("SET", place_of(generation_id), f"{keys.tenant} {keys.chat_id}", "PX", ttl_ms),
            ("ZADD", UNFINISHED, now, keys.unfinished(generation_id)),
            ("ZREMRANGEBYSCORE", UNFINISHED, "-inf", now - INDEX_MS),
            ("PEXPIRE", UNFINISHED, INDEX_MS),
        ),
        len,
    )


def forget_places(keys: ChatKeys, generation_ids: Sequence[str]) -> Transaction[int]:
    """Take back what `remember_place` noted."""
    members = tuple(map(keys.unfinished, generation_ids))
    return Transaction(
        (
            ("DEL", *map(place_of, generation_ids)),
            ("ZREM", UNFINISHED, *members),
            ("ZREM", REPUBLISHED, *members),
        ),
        len,
    )


def find_place(generation_id: str) -> Transaction[ChatKeys | None]:
    """Read which chat a generation is in; None for an id that is not known."""

    def parse(replies: Sequence[Any]) -> ChatKeys | None:
        return ChatKeys(*as_text(replies[0]).split()) if replies[0] else None

    return Transaction((("GET", place_of(generation_id)),), parse)


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A generation of the index as it stands. Times are Unix ms; `published` is that of its newest message.

    `claimed`: a worker has had it.
    """

    member: str
    keys: ChatKeys
    generation_id: str
    status: str
    enqueued: int
    alive_until: int
    published: int
    claimed: bool

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to end."""
        return self.status in ENDED

    def is_silent(self, now: int, for_ms: int) -> bool:
        """Tell whether it has shown no sign of life for so long."""
        return now - self.alive_until >= for_ms

    def is_passed_over(self, watermark: int, now: int, for_ms: int) -> bool:
        """Tell whether its newest message is in no queue that has come to `watermark`, and in nobody's hands."""
        since = max(self.published, self.alive_until)
        return since < watermark and now - since >= for_ms


@dataclass(frozen=True, slots=True)
class IndexPage:
    """Generations of the index, how far the queue has come, and the time; both in Unix ms by Redis's clock."""

    generations: tuple[Unfinished, ...]
    watermark: int
    now: int


def lock_sweep(pause_ms: int) -> Transaction[bool]:
    """Ask to sweep; true for one process in each `pause_ms`."""
    return Transaction((("SET", SWEEP_LOCK, "1", "NX", "PX", pause_ms),), lambda replies: bool(replies[0]))


def list_unfinished(offset: int) -> Transaction[list[tuple[str, int]]]:
    """Read up to `INDEX_PAGE` members of the index from `offset` on, each with its score."""

    def parse(replies: Sequence[Any]) -> list[tuple[str, int]]:
        found = replies[0]
        # RESP3 brings pairs, RESP2 a flat list.
        pairs = found if found and isinstance(found[0], (list, tuple)) else zip(found[::2], found[1::2], strict=True)
        return [(as_text(member), int(float(score))) for member, score in pairs]

    return Transaction((("ZRANGE", UNFINISHED, offset, offset + INDEX_PAGE - 1, "WITHSCORES"),), parse)


def look_up(members: Sequence[tuple[str, int]]) -> Transaction[IndexPage]:
    """Read how the generations stand that `list_unfinished` has listed."""
    found = [(member, scored, *_split(member)) for member, scored in members]

    def parse(replies: Sequence[Any]) -> IndexPage:
        now, watermark, *states = replies
        pairs = zip(found, states[::2], states[1::2], strict=True)
        return IndexPage(tuple(_unfinished(*one, *state) for one, *state in pairs), int(watermark or 0), as_ms(now))

    states: list[Command] = []
    for member, _, keys, generation_id in found:
        states.append(("HMGET", keys.gen(generation_id), "status", "created", "lease", "started"))
        states.append(("ZSCORE", REPUBLISHED, member))
    return Transaction((("TIME",), ("GET", WATERMARK), *states), parse)


def note_republished(member: str, now: int) -> Transaction[int]:
    """Note that the message of a generation was published again."""
    return Transaction((("ZADD", REPUBLISHED, now, member), ("PEXPIRE", REPUBLISHED, INDEX_MS)), len)


def note_swept(watermark: int, over: Sequence[str]) -> Transaction[int]:
    """Note how far the queue has come, and forget the members that are over."""
    commands: list[Command] = [("SET", WATERMARK, watermark, "PX", INDEX_MS), ("PEXPIRE", UNFINISHED, INDEX_MS)]
    if over:
        commands += [("ZREM", UNFINISHED, *over), ("ZREM", REPUBLISHED, *over)]
    return Transaction(tuple(commands), len)


def as_ms(time_reply: Sequence[Any]) -> int:
    """Return TIME's reply in Unix ms."""
    return int(time_reply[0]) * 1000 + int(time_reply[1]) // 1000


def _unfinished(
    member: str, scored: int, keys: ChatKeys, generation_id: str, fields: Sequence[Any], republished: Any
) -> Unfinished:
    status, created, lease, started = fields
    # The score is by the clock of whoever enqueued; what Redis's own clock says goes before.
    enqueued = int(created or scored)
    alive_until = max(enqueued, int(lease or 0))
    published = max(enqueued, int(float(republished or 0)))
    state, claimed = as_text(status or ""), started is not None
    return Unfinished(member, keys, generation_id, state, enqueued, alive_until, published, claimed)


def _split(member: str) -> tuple[ChatKeys, str]:
    tenant, chat_id, generation_id = member.split(" ")
    return ChatKeys(tenant, chat_id), generation_id
