"""Finds generations that nobody will ever go on with, and ends them: no reader waits for ever. Without I/O.

A generation is lost when it has shown no sign of life for `lost_after` seconds and no message of it can be left:
the queue is empty, or workers have taken generations that were enqueued later. A long queue alone loses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chunkspool import scripts
from chunkspool.calls import Reads, as_text
from chunkspool.keys import FRONT, SWEEPING, UNENDED, ChatKeys
from chunkspool.operations import UNENDED_MS, Operation
from chunkspool.scripts import LoseReply
from chunkspool.settings import Settings

PAGE = 500
_ENDED = frozenset({"completed", "stopped", "failed"})


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A generation of the index as it stands. Times are Unix ms; `taken`: a worker has had it."""

    member: str
    keys: ChatKeys
    generation_id: str
    status: str
    enqueued: int
    alive_until: int
    taken: bool

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to end."""
        return self.status in _ENDED

    def silent(self, now: int, for_ms: int) -> bool:
        """Tell whether it has shown no sign of life for so long."""
        return now - self.alive_until >= for_ms


def sweep(settings: Settings, *, queue_is_empty: bool) -> Operation[tuple[str, ...]]:
    """End what is lost and return the ids; do nothing while another process sweeps or has just done so."""
    silent_ms = round(settings.lost_after * 1000)
    if not (yield _begun(settings)):
        return ()
    lost: list[str] = []
    offset = 0
    while True:
        members: list[tuple[str, int]] = yield _page(offset)
        seen: _Seen = yield _looked_up(members)
        front = max([seen.front, *(one.enqueued for one in seen.candidates if one.taken)])
        over = [one.member for one in seen.candidates if one.ended]
        for one in seen.candidates:
            passed_over = queue_is_empty or one.alive_until < front
            if one.ended or not passed_over or not one.silent(seen.now, silent_ms):
                continue
            reply: LoseReply = yield scripts.lose(one.keys, one.generation_id, silent_ms=silent_ms)
            if reply.outcome == "lost":
                lost.append(one.generation_id)
            if reply.outcome != "alive":
                over.append(one.member)
        yield _noted(front, over)
        if len(members) < PAGE:
            return tuple(lost)
        offset += PAGE - len(over)


@dataclass(frozen=True, slots=True)
class _Seen:
    candidates: tuple[_Candidate, ...]
    front: int
    now: int


def _begun(settings: Settings) -> Reads[bool]:
    """Return the step that is true for one process in each `sweep_interval`."""
    pause_ms = max(1, round(settings.sweep_interval * 800))
    return Reads((("SET", SWEEPING, "1", "NX", "PX", pause_ms),), lambda replies: bool(replies[0]))


def _page(offset: int) -> Reads[list[tuple[str, int]]]:
    def parse(replies: Sequence[Any]) -> list[tuple[str, int]]:
        found = replies[0]
        pairs = found if found and isinstance(found[0], (list, tuple)) else zip(found[::2], found[1::2], strict=True)
        return [(as_text(member), int(float(score))) for member, score in pairs]

    return Reads((("ZRANGE", UNENDED, offset, offset + PAGE - 1, "WITHSCORES"),), parse)


def _looked_up(members: Sequence[tuple[str, int]]) -> Reads[_Seen]:
    found = [(member, enqueued, *_parts(member)) for member, enqueued in members]

    def parse(replies: Sequence[Any]) -> _Seen:
        ms = int(replies[0][0]) * 1000 + int(replies[0][1]) // 1000
        candidates = tuple(_candidate(*one, fields) for one, fields in zip(found, replies[2:], strict=True))
        return _Seen(candidates, int(replies[1] or 0), ms)

    states = (("HMGET", keys.gen(one), "status", "created", "lease", "started") for _, _, keys, one in found)
    return Reads((("TIME",), ("GET", FRONT), *states), parse)


def _candidate(member: str, scored: int, keys: ChatKeys, generation_id: str, fields: Sequence[Any]) -> _Candidate:
    status, created, lease, started = fields
    # The score is by the clock of whoever enqueued; what Redis's own clock says goes before.
    enqueued = int(created or scored)
    alive_until = max(enqueued, int(lease or 0))
    return _Candidate(
        member, keys, generation_id, as_text(status or ""), enqueued, alive_until, taken=started is not None
    )


def _parts(member: str) -> tuple[ChatKeys, str]:
    tenant, chat_id, generation_id = member.split(" ")
    return ChatKeys(tenant, chat_id), generation_id


def _noted(front: int, over: Sequence[str]) -> Reads[int]:
    """Return the step that remembers how far the queue has come, and forgets what is over."""
    commands: list[tuple[str | int, ...]] = [("SET", FRONT, front, "PX", UNENDED_MS), ("PEXPIRE", UNENDED, UNENDED_MS)]
    if over:
        commands.append(("ZREM", UNENDED, *over))
    return Reads(tuple(commands), len)
