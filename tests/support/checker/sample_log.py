"""A log that keeps every promise, with its observations, for the checker's tests."""

from __future__ import annotations

import json
from typing import Any

from support.checker.observations import EnqueuedGeneration, ModelOutput, Observations, Reading
from support.checker.raw_log import RawChat, RawEntry

CHAT = "chat"
STEP_MS = 100


def call_text(call: int, *pieces: int) -> str:
    """Return the model's text in `call`: each piece names the call and itself."""
    return "".join(f"<{call}.{piece}>" for piece in pieces)


def event(kind: str, generation: str, **fields: Any) -> dict[str, Any]:
    """Return an event."""
    return {"type": kind, "generation": generation, **fields}


def queued(generation: str) -> dict[str, Any]:
    """Return a `generation.queued`."""
    return event("generation.queued", generation)


def started(generation: str, attempt: int, **fields: Any) -> dict[str, Any]:
    """Return a `generation.started`."""
    return event("generation.started", generation, attempt=attempt, **fields)


def delta(generation: str, call: int, *pieces: int) -> dict[str, Any]:
    """Return a `text.delta`."""
    return event("text.delta", generation, text=call_text(call, *pieces))


def ended(generation: str, how: str, **fields: Any) -> dict[str, Any]:
    """Return an ending of the kind `how`."""
    return event(f"generation.{how}", generation, **fields)


EVENTS = (
    queued("restarts"),
    started("restarts", 1),
    delta("restarts", 1, 0, 1),
    queued("continues"),
    started("continues", 1),
    delta("continues", 2, 0),
    started("restarts", 2),
    delta("restarts", 3, 0),
    started("continues", 2, continues=True),
    delta("continues", 4, 0),
    delta("restarts", 3, 1, 2),
    ended("restarts", "completed"),
    delta("continues", 4, 1),
    queued("stops"),
    started("continues", 3, continues=True),
    started("continues", 3),
    delta("continues", 5, 0, 1),
    ended("continues", "completed"),
    started("stops", 1),
    delta("stops", 6, 0),
    ended("stops", "stopped", by="user"),
    queued("fails"),
    started("fails", 1),
    started("fails", 2),
    ended("fails", "failed", code="too_many_attempts", message="…"),
)
ENQUEUED = (
    EnqueuedGeneration(
        "restarts", (ModelOutput(1, call_text(1, 0, 1, 2), whole=False), ModelOutput(3, call_text(3, 0, 1, 2)))
    ),
    EnqueuedGeneration(
        "continues",
        (
            ModelOutput(2, call_text(2, 0, 1), whole=False),
            ModelOutput(4, call_text(4, 0, 1, 2), prefix=call_text(2, 0), whole=False),
            ModelOutput(5, call_text(5, 0, 1), began=1550),
        ),
    ),
    EnqueuedGeneration(
        "stops", (ModelOutput(6, call_text(6, 0, 1), whole=False),), frozenset({"user"}), stop_accepted=True
    ),
    EnqueuedGeneration("fails", (), may_fail=frozenset({"too_many_attempts"})),
)


def chat_of(events: tuple[dict[str, Any], ...]) -> RawChat:
    """Return a chat whose events are 100 ms apart, starting at 100 ms."""
    entries = [RawEntry(f"{n}-0", n * STEP_MS, json.dumps(one).encode()) for n, one in enumerate(events, 1)]
    return RawChat(CHAT, len(entries), tuple(entries))


def reading_of(chat: RawChat, after: int, upto: int, **how: Any) -> Reading:
    """Return what a reader receives from one cursor to another."""
    entries = [(entry.seq or 0, entry.data) for entry in chat.entries if after < (entry.seq or 0) <= upto]
    return Reading("reader", after, tuple(entries), **how)


VALID_LOG = chat_of(EVENTS)
OBSERVATIONS = Observations(
    ENQUEUED,
    (
        reading_of(VALID_LOG, 0, 7),
        reading_of(VALID_LOG, 7, len(EVENTS), until="idle", ended=True, complete=True),
        reading_of(VALID_LOG, 3, 12, until="restarts", ended=True),
        reading_of(VALID_LOG, 21, 21, until="idle", ended=True),
    ),
)
