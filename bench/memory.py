"""Figure 4: the memory that a log takes beside the JSON that is stored in it."""

from __future__ import annotations

from typing import Any

from bench.ground import Ground
from bench.report import Line, at_most

EVENTS, BATCH = 10_000, 100
LIMIT = 1.4


def measured(ground: Ground) -> list[Line]:
    """Write text deltas of 20 characters, and ask the server how much the log takes."""
    chat = ground.claimed()
    event = chat.event
    for _ in range(EVENTS // BATCH):
        ground.store.send(chat.batch((event,) * BATCH))
    entries: Any = ground.client.xrange(chat.keys.log)
    payload = sum(len(fields[b"e"]) for _, fields in entries)
    taken = int(ground.client.memory_usage(chat.keys.log, samples=0) or 0)
    each = f"{taken / len(entries):.0f} B an event of {payload / len(entries):.0f} B"
    return [at_most(f"memory of a log of {EVENTS:,} text deltas / its JSON", taken / payload, LIMIT, " x", each)]
