"""Figure 4: the memory that a log takes, compared with the JSON stored in it."""

from __future__ import annotations

from typing import Any

from bench.harness.environment import Environment
from bench.harness.report import Figure, at_most

EVENTS, BATCH = 10_000, 100
LIMIT = 1.4


def measure(environment: Environment) -> list[Figure]:
    """Write text deltas of 20 characters, and ask the server how much it has allocated for them.

    MEMORY USAGE is unsuitable: its estimate for a stream's index in Redis 7 exceeds what the whole stream takes.
    """
    chat = environment.new_claimed_chat()
    event = chat.event
    environment.store.send(chat.next_append((event,)))
    before = _allocated_bytes(environment)
    for _ in range(EVENTS // BATCH):
        environment.store.send(chat.next_append((event,) * BATCH))
    taken = _allocated_bytes(environment) - before
    payload = EVENTS * len(event)
    each = f"{taken / EVENTS:.0f} B an event of {len(event)} B"
    return [at_most(f"memory of a log of {EVENTS:,} text deltas / its JSON", taken / payload, LIMIT, " x", each)]


def _allocated_bytes(environment: Environment) -> int:
    memory: Any = environment.client.info("memory")
    return int(memory["used_memory"])
