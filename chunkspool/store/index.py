"""Where generations are, by their ids alone: what a revoke asks for, and what the sweep goes through."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from chunkspool.store.commands import Reads, as_text
from chunkspool.store.keys import RESENT, UNENDED, ChatKeys, place_of

UNENDED_MS = 86_400_000
"""A generation that has neither ended nor been found lost within a day is forgotten by the sweep."""


def remember_place(keys: ChatKeys, generation_id: str, ttl_ms: int) -> Reads[int]:
    """Return the step that notes where a generation is, and that it has not ended."""
    now = time.time_ns() // 1_000_000
    return Reads(
        (
            ("SET", place_of(generation_id), f"{keys.tenant} {keys.chat_id}", "PX", ttl_ms),
            ("ZADD", UNENDED, now, keys.unended(generation_id)),
            ("ZREMRANGEBYSCORE", UNENDED, "-inf", now - UNENDED_MS),
            ("PEXPIRE", UNENDED, UNENDED_MS),
        ),
        len,
    )


def forget_places(keys: ChatKeys, generations: Sequence[str]) -> Reads[int]:
    """Return the step that takes that back."""
    return Reads(
        (
            ("DEL", *map(place_of, generations)),
            ("ZREM", UNENDED, *map(keys.unended, generations)),
            ("ZREM", RESENT, *map(keys.unended, generations)),
        ),
        len,
    )


def place(generation_id: str) -> Reads[ChatKeys | None]:
    """Return the read of the chat that a generation is in; None for an id that is not known."""

    def parse(replies: Sequence[Any]) -> ChatKeys | None:
        return ChatKeys(*as_text(replies[0]).split()) if replies[0] else None

    return Reads((("GET", place_of(generation_id)),), parse)
