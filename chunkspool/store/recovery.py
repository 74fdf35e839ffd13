"""Finds out which generations of a chat are active when `head`, which says so, was evicted while the log stands."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from chunkspool.states import ENDED
from chunkspool.store import queries, scripts
from chunkspool.store.commands import ScriptCall, Transaction
from chunkspool.store.keys import ChatKeys
from chunkspool.store.listing import list_ids, read_statuses


def restore_head(keys: ChatKeys) -> Generator[ScriptCall[Any] | Transaction[Any], Any, None]:
    """Write `head` again, from what the generations' own hashes say.

    Otherwise a second generation would get in beside the running one, and readers would end too early.
    """
    found = yield from queries.outline(keys)
    generation_ids = yield from list_ids(keys, found.active)
    generations = yield from read_statuses(keys, generation_ids)
    generations.sort(key=lambda generation: generation.after)
    active = [one.generation_id for one in generations if one.state not in {*ENDED, "lost"}]
    yield from scripts.restore_head(keys, active)
