"""A small model of a chat in plain Python: what each script must answer and what the log must hold."""

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
class ReferenceGeneration:
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
    uncounted: int = 0
    """Attempts that do not count, because they were given up in order."""
    publishers: set[str] = field(default_factory=set)
    """Callers that publish its message or have."""
    behind: bool = False
    """It waits for those before it in the chat, as far as anybody has told it."""


@dataclass(slots=True)
class ReferenceChat:
    """One chat. `log[i]` is the event with seq i + 1."""

    log: list[dict[str, Any]] = field(default_factory=list)
    generations: dict[str, ReferenceGeneration] = field(default_factory=dict)
    requests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    active: list[str] = field(default_factory=list)

    def enqueue(
        self,
        generation_id: str,
        request_id: str | None,
        request: bytes,
        on_active: OnActive,
        seen: Sequence[str],
        max_active: int,
    ) -> EnqueueReply:
        """Create a generation, once per id and once per request id."""
        if generation_id in self.generations:
            return self._created(generation_id)
        if request_id is not None and request_id in self.requests:
            return self._enqueued_before(*self.requests[request_id], request)
        if on_active in {"reject", "replace"} and list(seen) != self.active:
            return EnqueueReply("changed")
        if on_active == "reject" and seen:
            return EnqueueReply("busy", active=tuple(seen))
        for other_id in seen if on_active == "replace" else ():
            self.stop(other_id, "replace", None)
        if len(self.active) >= max_active:
            return EnqueueReply("limit")
        self.generations[generation_id] = ReferenceGeneration(
            len(self.log),
            request_id,
            request,
            publishers={generation_id},
            behind=on_active == "queue" and bool(self.active),
        )
        if request_id is not None:
            self.requests[request_id] = (generation_id, request)
        self.active.append(generation_id)
        self._add_event("generation.queued", generation_id)
        return self._created(generation_id)

    def free_next(self) -> str | None:
        """Let the oldest begin, if it waited for others."""
        oldest = self.active[0] if self.active else ""
        if not oldest or not self.generations[oldest].behind:
            return None
        self.generations[oldest].behind = False
        return oldest

    def _created(self, generation_id: str) -> EnqueueReply:
        made = self.generations[generation_id]
        return EnqueueReply("created", generation_id, made.after, is_behind=made.behind)

    def _enqueued_before(self, generation_id: str, existing: bytes, request: bytes) -> EnqueueReply:
        if existing != request:
            return EnqueueReply("differs", generation_id)
        return EnqueueReply("same", generation_id, self.generations[generation_id].after)

    def claim(self, generation_id: str, token: str, *, continues: bool) -> ClaimReply:
        """Give the generation to a new attempt unless it has ended, was stopped, or has a live attempt."""
        gen = self.generations.get(generation_id)
        if gen is None:
            return ClaimReply("gone")
        if gen.status in ENDED:
            return ClaimReply("ended", status=gen.status)
        if token == gen.token:
            return ClaimReply("claimed", gen.attempt, gen.request, gen.request_id)
        return self._claim(generation_id, gen, token, continues=continues)

    def append(
        self, generation_id: str, attempt: int, index: int, events: Sequence[dict[str, Any]], ending: LastBatch | None
    ) -> AppendReply:
        """Write the new events of the newest attempt's batch; old ones keep their seqs."""
        gen = self.generations.get(generation_id)
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
            self._write(generation_id, gen, events[len(gen.seqs) + 1 - index :], ending)
        seqs = (gen.seqs[index - 1], gen.seqs[last - 1]) if events else (0, 0)
        if not old and ending in GIVEN_UP and gen.status == "stopped":
            # The stop's event follows what the attempt had to say.
            seqs = (seqs[0] or len(self.log), len(self.log))
        return AppendReply("ok", *seqs, stop_asked=gen.stop is not None, status=gen.status)

    def stop(self, generation_id: str, by: str, reason: str | None) -> StopReply:
        """End a generation without a live attempt; otherwise ask the attempt to stop."""
        gen = self.generations.get(generation_id)
        if gen is None:
            return StopReply("gone")
        if gen.status in ENDED:
            return StopReply("ended", gen.status)
        event = {"type": "generation.stopped", "by": by, "reason": reason}
        if gen.alive and gen.status == "running":
            gen.stop = gen.stop or event
            return StopReply("stopping")
        self._end(generation_id, "stopped", gen.stop or event)
        return StopReply("stopped")

    def lose(self, generation_id: str) -> LoseReply:
        """End a generation without a live attempt because its message is lost."""
        gen = self.generations.get(generation_id)
        if gen is None:
            return LoseReply("gone")
        if gen.status in ENDED:
            return LoseReply("ended")
        if gen.alive:
            return LoseReply("alive")
        if gen.stop is not None:
            self._end(generation_id, "stopped", gen.stop)
            return LoseReply("stopped")
        self._end(generation_id, "failed", {"type": "generation.failed", "code": "lost"})
        return LoseReply("lost")

    def publish_again(self, generation_id: str, token: str) -> tuple[str, str] | None:
        """Count generation_id more publisher of a generation that waits."""
        gen = self.generations.get(generation_id)
        if gen is None or gen.status != "queued":
            return None
        gen.publishers.add(token)
        return "", ""

    def unpublish(self, generation_id: str, request_id: str | None, token: str) -> UnpublishReply:
        """End a generation when the last of its publishers has failed and no worker has it."""
        gen = self.generations.get(generation_id)
        if gen is None:
            return UnpublishReply("gone")
        if gen.status in ENDED:
            return UnpublishReply("ended")
        if gen.attempt:
            return UnpublishReply("claimed")
        gen.publishers.discard(token)
        if gen.publishers:
            return UnpublishReply("kept")
        self._end(generation_id, "failed", {"type": "generation.failed", "code": "enqueue_failed"})
        if request_id is not None and self.requests.get(request_id, ("", b""))[0] == generation_id:
            del self.requests[request_id]
        return UnpublishReply("failed")

    def erase(self, seen: Sequence[str], known: int) -> bool:
        """Forget everything, if the caller's view is up to date."""
        if list(seen) != self.active or known != len(self.generations):
            return False
        self.log, self.generations, self.requests, self.active = [], {}, {}, []
        return True

    def _claim(self, generation_id: str, gen: ReferenceGeneration, token: str, *, continues: bool) -> ClaimReply:
        if gen.stop is not None:
            self._end(generation_id, "stopped", gen.stop)
            return ClaimReply("stopped", status="stopped")
        if gen.alive:
            return ClaimReply("held")
        uncounted = gen.uncounted + (gen.released == gen.attempt > 0)
        if gen.attempt - uncounted == MAX_ATTEMPTS:
            self._end(generation_id, "failed", {"type": "generation.failed", "code": "too_many_attempts"})
            return ClaimReply("failed", status="failed")
        if gen.behind and self.active[0] != generation_id:
            return ClaimReply("behind")
        gen.status, gen.attempt, gen.token, gen.alive = "running", gen.attempt + 1, token, True
        gen.behind = False
        gen.seqs, gen.uncounted = [], uncounted
        self._add_event(
            "generation.started", generation_id, attempt=gen.attempt, continues=continues and gen.attempt > 1
        )
        return ClaimReply("claimed", gen.attempt, gen.request, gen.request_id)

    def _write(
        self, generation_id: str, gen: ReferenceGeneration, new: Sequence[dict[str, Any]], ending: LastBatch | None
    ) -> None:
        ends = ending in ENDED
        for event in new[:-1] if ends else new:
            gen.seqs.append(self._add(generation_id, event))
        gen.alive = ending not in GIVEN_UP
        if ending in GIVEN_UP and gen.stop is None:
            gen.released = gen.attempt if ending == "released" else gen.released
        elif ending in GIVEN_UP:
            self._end(generation_id, "stopped", gen.stop)
        elif ends and gen.stop is not None:
            gen.seqs.append(self._end(generation_id, "stopped", gen.stop))
        elif ends:
            gen.seqs.append(self._end(generation_id, ending, new[-1]))

    def _end(self, generation_id: str, how: EndState, event: dict[str, Any]) -> int:
        gen = self.generations[generation_id]
        gen.status, gen.alive, gen.behind = how, False, False
        self.active.remove(generation_id)
        return self._add(generation_id, event)

    def _add_event(self, kind: str, generation_id: str, **fields: Any) -> None:
        self._add(generation_id, {"type": kind, **fields})

    def _add(self, generation_id: str, event: dict[str, Any]) -> int:
        self.log.append({"generation": generation_id, **event})
        return len(self.log)


def matches(expected: dict[str, Any], stored: bytes) -> bool:
    """Tell whether a stored event matches the expected fields; it may have more (a model, a message)."""
    event = json.loads(stored)
    return all(event.get(name) == value for name, value in expected.items())
