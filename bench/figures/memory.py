"""Figure 4: the memory that a log takes beside the JSON that is stored in it."""

from __future__ import annotations

from typing import Any

from bench.harness.environment import Ground
from bench.harness.report import Line, at_most

EVENTS, BATCH = 10_000, 100
LIMIT = 1.4


def measured(ground: Ground) -> list[Line]:
    """Write text deltas of 20 characters, and ask the server how much it has allocated for them.

    MEMORY USAGE would not do: of a stream's index, Redis 7 counts an estimate that is more than all of it takes.
    """
    chat = ground.claimed()
    event = chat.event
    ground.store.send(chat.batch((event,)))
    before = _allocated(ground)
    for _ in range(EVENTS // BATCH):
        ground.store.send(chat.batch((event,) * BATCH))
    taken = _allocated(ground) - before
    payload = EVENTS * len(event)
    each = f"{taken / EVENTS:.0f} B an event of {len(event)} B"
    return [at_most(f"memory of a log of {EVENTS:,} text deltas / its JSON", taken / payload, LIMIT, " x", each)]


def _allocated(ground: Ground) -> int:
    memory: Any = ground.client.info("memory")
    return int(memory["used_memory"])
