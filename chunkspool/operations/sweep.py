"""Finds generations whose message is lost: it is sent anew, and what stays lost is ended. Without I/O.

A message is lost when its generation shows no sign of life and the message can be nowhere: the queue is empty, or
workers have taken generations that were enqueued later. A long queue alone loses nothing. kombu's Redis transport loses
the message that a worker has popped and not yet noted when it dies; a broker that loses its data loses all of them.
A generation that is still without a sign of life after `lost_after` seconds fails: no reader waits for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chunkspool.effects import Operation, Publish
from chunkspool.settings import Settings
from chunkspool.store import scripts
from chunkspool.store.commands import Reads, as_text
from chunkspool.store.index import UNENDED_MS
from chunkspool.store.keys import FRONT, RESENT, SWEEPING, UNENDED, ChatKeys
from chunkspool.store.scripts import LoseReply

PAGE = 500
_ENDED = frozenset({"completed", "stopped", "failed"})


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A generation of the index as it stands. Times are Unix ms; `sent` is that of its newest message.

    `taken`: a worker has had it.
    """

    member: str
    keys: ChatKeys
    generation_id: str
    status: str
    enqueued: int
    alive_until: int
    sent: int
    taken: bool

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to end."""
        return self.status in _ENDED

    def silent(self, now: int, for_ms: int) -> bool:
        """Tell whether it has shown no sign of life for so long."""
        return now - self.alive_until >= for_ms

    def passed_over(self, front: int, now: int, for_ms: int) -> bool:
        """Tell whether its newest message is in no queue that has come to `front`, and in nobody's hands."""
        since = max(self.sent, self.alive_until)
        return since < front and now - since >= for_ms


def sweep(settings: Settings, *, queue_is_empty: bool) -> Operation[tuple[str, ...]]:
    """Send anew and end what is lost; return the ids of what has ended. Raises `EnqueueFailed`.

    It does nothing while another process sweeps or has just done so.
    """
    lost_ms = round(settings.lost_after * 1000)
    # Until then a message that a dead worker holds comes back by itself.
    resend_ms = min(lost_ms, round((settings.redelivery + settings.lease) * 1000))
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
            if one.ended or not one.passed_over(seen.now + 1 if queue_is_empty else front, seen.now, resend_ms):
                continue
            if not one.silent(seen.now, lost_ms):
                yield Publish(one.keys.tenant, one.keys.chat_id, one.generation_id)
                yield _resent(one.member, seen.now)
                continue
            reply: LoseReply = yield scripts.lose(one.keys, one.generation_id, silent_ms=lost_ms)
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
        pairs = zip(found, replies[2::2], replies[3::2], strict=True)
        return _Seen(tuple(_candidate(*one, *state) for one, *state in pairs), int(replies[1] or 0), ms)

    states = (
        read
        for member, _, keys, one in found
        for read in (
            ("HMGET", keys.gen(one), "status", "created", "lease", "started"),
            ("ZSCORE", RESENT, member),
        )
    )
    return Reads((("TIME",), ("GET", FRONT), *states), parse)


def _resent(member: str, now: int) -> Reads[int]:
    return Reads((("ZADD", RESENT, now, member), ("PEXPIRE", RESENT, UNENDED_MS)), len)


def _candidate(
    member: str, scored: int, keys: ChatKeys, generation_id: str, fields: Sequence[Any], resent: Any
) -> _Candidate:
    status, created, lease, started = fields
    # The score is by the clock of whoever enqueued; what Redis's own clock says goes before.
    enqueued = int(created or scored)
    alive_until = max(enqueued, int(lease or 0))
    sent = max(enqueued, int(float(resent or 0)))
    return _Candidate(
        member, keys, generation_id, as_text(status or ""), enqueued, alive_until, sent, taken=started is not None
    )


def _parts(member: str) -> tuple[ChatKeys, str]:
    tenant, chat_id, generation_id = member.split(" ")
    return ChatKeys(tenant, chat_id), generation_id


def _noted(front: int, over: Sequence[str]) -> Reads[int]:
    """Return the step that remembers how far the queue has come, and forgets what is over."""
    commands: list[tuple[str | int, ...]] = [("SET", FRONT, front, "PX", UNENDED_MS), ("PEXPIRE", UNENDED, UNENDED_MS)]
    if over:
        commands += [("ZREM", UNENDED, *over), ("ZREM", RESENT, *over)]
    return Reads(tuple(commands), len)
