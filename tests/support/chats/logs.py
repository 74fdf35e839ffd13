"""Look at a chat's log as it is stored in Redis, without the library's reading code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

from chunkspool.store.keys import ChatKeys

CHAT = "chat"
KEYS = ChatKeys("default", CHAT)
# A script instead of MULTI, which a full Redis 7 rejects.
READ_LOG_AND_COUNTER = "return {redis.call('XRANGE', KEYS[1], '-', '+'), redis.call('GET', KEYS[2])}"
ENDINGS = frozenset({"generation.completed", "generation.stopped", "generation.failed"})


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One entry of a log."""

    seq: int
    event: dict[str, Any]

    @property
    def type(self) -> str:
        """The event's type."""
        return str(self.event["type"])


def read_log(client: Redis, keys: ChatKeys = KEYS) -> list[LogEntry]:
    """Return the whole log; fail unless its seqs are 1, 2, 3 … and the counter equals the last one."""
    found: Any = client.eval(READ_LOG_AND_COUNTER, 2, keys.log, keys.seq)
    entries, counter = found
    assert [entry_id for entry_id, _ in entries] == [b"%d-0" % seq for seq in range(1, len(entries) + 1)]
    assert int(counter or 0) == len(entries)
    events = [dict(zip(fields[::2], fields[1::2], strict=True))[b"e"] for _, fields in entries]
    return [LogEntry(seq, json.loads(event)) for seq, event in enumerate(events, 1)]


def of_generation(log: Sequence[LogEntry], generation_id: str) -> list[LogEntry]:
    """Return the entries of one generation."""
    return [line for line in log if line.event["generation"] == generation_id]


def types_of(log: Sequence[LogEntry], generation_id: str) -> list[str]:
    """Return the types of a generation's events; consecutive text deltas count as one."""
    types = [line.type for line in of_generation(log, generation_id)]
    return [kind for i, kind in enumerate(types) if kind != "text.delta" or i == 0 or types[i - 1] != kind]


def text_of(log: Sequence[LogEntry], generation_id: str) -> str:
    """Return all text of a generation, from any attempt."""
    lines = of_generation(log, generation_id)
    return "".join(str(line.event["text"]) for line in lines if line.type == "text.delta")


def ending_of(log: Sequence[LogEntry], generation_id: str) -> dict[str, Any]:
    """Return a generation's ending; fail unless it has exactly one and nothing after it."""
    lines = of_generation(log, generation_id)
    assert [line for line in lines if line.type in ENDINGS] == lines[-1:]
    return lines[-1].event


def read_generation_field(client: Redis, generation_id: str, field: str, keys: ChatKeys = KEYS) -> bytes | None:
    """Return one field of a generation's hash."""
    found: Any = client.hget(keys.gen(generation_id), field)
    return found if found is None else bytes(found)
