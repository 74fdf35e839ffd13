"""Keeps a chat's digest close behind its log, so that no reader has to read what is old. Without I/O."""

from __future__ import annotations

import math
import time

from chunkspool.effects import Operation
from chunkspool.errors import ChatNotFound
from chunkspool.operations.digest_making import Behind, Changed, Making, find_chain
from chunkspool.store import blocks, digests
from chunkspool.store.keys import ChatKeys

RACES = 3
"""How often to begin again because the chat changed meanwhile."""


def keep_digest(keys: ChatKeys, *, within: float = math.inf, has_large: bool = False) -> Operation[bool]:
    """Store what is new of the log in blocks, as far as it fills them; return whether nothing is left to do.

    False: `within` seconds were not enough, or another process does the same. `has_large`: also look where few events
    are new, because they may be large. Raises `StoreError` or `CorruptLog`.
    """
    if not has_large and not is_behind((yield from digests.lag(keys))):
        return True
    late_at = time.monotonic() + within
    at_least = 1 if has_large else blocks.BLOCK_EVENTS
    distrusted = ""
    for _ in range(RACES):
        try:
            kept = yield from digests.extent(keys)
        except ChatNotFound:
            return True
        chain = yield from find_chain(keys)
        making = Making(keys, kept, chain, late_at, 0, distrusted=distrusted, stores=True)
        if kept.last - making.seq < at_least:
            return True
        try:
            return (yield from making.store(at_least))
        except Behind:
            return False
        except Changed:
            distrusted = chain.name if making.is_at_chain else ""
    return True


def is_behind(events: int) -> bool:
    """Tell whether a digest that lacks so many events is worth the work."""
    return events >= blocks.BLOCK_EVENTS
