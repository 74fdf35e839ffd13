"""The promises of a chat as a small model in plain Python: what each script must answer, and what the log must hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from chunkspool.states import EndState, OnActive
from chunkspool.store.scripts import (
    AppendReply,
    ClaimReply,
    EnqueueReply,
    LastBatch,
    LoseReply,
    StopReply,
    UnpublishReply,
)

MAX_ATTEMPTS = 3
ENDED = frozenset({"completed", "stopped", "failed"})
GIVEN_UP = frozenset({"released", "abandoned"})


@dataclass(slots=True)
class Promised:
    """One generation. `seqs[i]` is the seq of the current attempt's event with index i + 1."""

    after: int
    request_id: str | None
    request: bytes
    status: Any = "queued"
    attempt: int = 0
    token: str = ""
    alive: bool = False
    seqs: list[int] = field(default_factory=list)
    stop: dict[str, Any] | None = None
    released: int = 0
    """The attempt that gave it up, if one did."""
    spared: int = 0
    """Attempts that do not count, because they were given up in order."""
    publishers: set[str] = field(default_factory=set)
    """Callers that publish its message or have."""


@dataclass(slots=True)
class PromisedChat:
    """One chat. `log[i]` is the event with seq i + 1."""

    log: list[dict[str, Any]] = field(default_factory=list)
    generations: dict[str, Promised] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)
    active: list[str] = field(default_factory=list)

    def enqueue(
        self, one: str, request_id: str | None, request: bytes, on_active: OnActive, seen: Sequence[str]
    ) -> EnqueueReply:
        """Make a generation, once for its id and once for its request id."""
        if one in self.generations:
            return EnqueueReply("created", one, self.generations[one].after)
        if request_id in self.requests:
            same = self.requests[request_id]
            return EnqueueReply("same", same, self.generations[same].after)
        if on_active != "allow" and list(seen) != self.active:
            return EnqueueReply("changed")
        if on_active == "reject" and seen:
            return EnqueueReply("busy", active=tuple(seen))
        for other in seen if on_active == "replace" else ():
            self.stop(other, "replace", None)
        self.generations[one] = Promised(len(self.log), request_id, request, publishers={one})
        if request_id is not None:
            self.requests[request_id] = one
        self.active.append(one)
        self._say("generation.queued", one)
        return EnqueueReply("created", one, self.generations[one].after)

    def claim(self, one: str, token: str, *, continues: bool) -> ClaimReply:
        """Give the generation to a new attempt, unless it has ended, was stopped, or its attempt is alive."""
        gen = self.generations.get(one)
        if gen is None:
            return ClaimReply("gone")
        if gen.status in ENDED:
            return ClaimReply("ended", status=gen.status)
        if token == gen.token:
            return ClaimReply("claimed", gen.attempt, gen.request, gen.request_id)
        return self._claim(one, gen, token, continues=continues)

    def append(
        self, one: str, attempt: int, index: int, events: Sequence[dict[str, Any]], ending: LastBatch | None
    ) -> AppendReply:
        """Write what is new of a batch of the newest attempt; what is old keeps its seqs."""
        gen = self.generations.get(one)
        if gen is None:
            return AppendReply("gone")
        if attempt != gen.attempt:
            return AppendReply("fenced")
        last = index + len(events) - 1
        old = bool(events) and last <= len(gen.seqs)
        if not old and gen.status in ENDED:
            return AppendReply("ended", status=gen.status)
        if not old and index > len(gen.seqs) + 1:
            return AppendReply("gap", first=len(gen.seqs) + 1)
        if not old:
            self._write(one, gen, events[len(gen.seqs) + 1 - index :], ending)
        seqs = (gen.seqs[index - 1], gen.seqs[last - 1]) if events else (0, 0)
        if not old and ending in GIVEN_UP and gen.status == "stopped":
            # The stop's event follows what the attempt had to say.
            seqs = (seqs[0] or len(self.log), len(self.log))
        return AppendReply("ok", *seqs, stop_asked=gen.stop is not None, status=gen.status)

    def stop(self, one: str, by: str, reason: str | None) -> StopReply:
        """End a generation that no live attempt holds; ask the attempt of any other."""
        gen = self.generations.get(one)
        if gen is None:
            return StopReply("gone")
        if gen.status in ENDED:
            return StopReply("ended", gen.status)
        event = {"type": "generation.stopped", "by": by, "reason": reason}
        if gen.alive and gen.status == "running":
            gen.stop = gen.stop or event
            return StopReply("stopping")
        self._end(one, "stopped", gen.stop or event)
        return StopReply("stopped")

    def lose(self, one: str) -> LoseReply:
        """End a generation that no live attempt holds, because its message is nowhere."""
        gen = self.generations.get(one)
        if gen is None:
            return LoseReply("gone")
        if gen.status in ENDED:
            return LoseReply("ended")
        if gen.alive:
            return LoseReply("alive")
        if gen.stop is not None:
            self._end(one, "stopped", gen.stop)
            return LoseReply("stopped")
        self._end(one, "failed", {"type": "generation.failed", "code": "lost"})
        return LoseReply("lost")

    def publish_again(self, one: str, token: str) -> tuple[str, str] | None:
        """Count one more publisher of a generation that waits."""
        gen = self.generations.get(one)
        if gen is None or gen.status != "queued":
            return None
        gen.publishers.add(token)
        return "", ""

    def unpublish(self, one: str, request_id: str | None, token: str) -> UnpublishReply:
        """End a generation when the last of its publishers has failed and no worker has it."""
        gen = self.generations.get(one)
        if gen is None:
            return UnpublishReply("gone")
        if gen.status in ENDED:
            return UnpublishReply("ended")
        if gen.attempt:
            return UnpublishReply("claimed")
        gen.publishers.discard(token)
        if gen.publishers:
            return UnpublishReply("kept")
        self._end(one, "failed", {"type": "generation.failed", "code": "enqueue_failed"})
        if request_id is not None and self.requests.get(request_id) == one:
            del self.requests[request_id]
        return UnpublishReply("failed")

    def erase(self, seen: Sequence[str], known: int) -> bool:
        """Forget everything, if it is what the caller has seen."""
        if list(seen) != self.active or known != len(self.generations):
            return False
        self.log, self.generations, self.requests, self.active = [], {}, {}, []
        return True

    def _claim(self, one: str, gen: Promised, token: str, *, continues: bool) -> ClaimReply:
        if gen.stop is not None:
            self._end(one, "stopped", gen.stop)
            return ClaimReply("stopped", status="stopped")
        if gen.alive:
            return ClaimReply("held")
        spared = gen.spared + (gen.released == gen.attempt > 0)
        if gen.attempt - spared == MAX_ATTEMPTS:
            self._end(one, "failed", {"type": "generation.failed", "code": "too_many_attempts"})
            return ClaimReply("failed", status="failed")
        gen.status, gen.attempt, gen.token, gen.alive = "running", gen.attempt + 1, token, True
        gen.seqs, gen.spared = [], spared
        self._say("generation.started", one, attempt=gen.attempt, continues=continues and gen.attempt > 1)
        return ClaimReply("claimed", gen.attempt, gen.request, gen.request_id)

    def _write(self, one: str, gen: Promised, new: Sequence[dict[str, Any]], ending: LastBatch | None) -> None:
        ends = ending in ENDED
        for event in new[:-1] if ends else new:
            gen.seqs.append(self._add(one, event))
        gen.alive = ending not in GIVEN_UP
        if ending in GIVEN_UP and gen.stop is None:
            gen.released = gen.attempt if ending == "released" else gen.released
        elif ending in GIVEN_UP:
            self._end(one, "stopped", gen.stop)
        elif ends and gen.stop is not None:
            gen.seqs.append(self._end(one, "stopped", gen.stop))
        elif ends:
            gen.seqs.append(self._end(one, ending, new[-1]))

    def _end(self, one: str, how: EndState, event: dict[str, Any]) -> int:
        gen = self.generations[one]
        gen.status, gen.alive = how, False
        self.active.remove(one)
        return self._add(one, event)

    def _say(self, kind: str, one: str, **fields: Any) -> None:
        self._add(one, {"type": kind, **fields})

    def _add(self, one: str, event: dict[str, Any]) -> int:
        self.log.append({"generation": one, **event})
        return len(self.log)


def agrees(promised: dict[str, Any], stored: bytes) -> bool:
    """Tell whether a stored event says what was promised; it may say more (a model, a message)."""
    event = json.loads(stored)
    return all(event.get(name) == value for name, value in promised.items())
