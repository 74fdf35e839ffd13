"""The doors to outcomes: the outbox of a chat, and the stream of a tenant with the groups that read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from chunkspool.outcomes import DeadOutcome, Outcome, OutcomeLag
from chunkspool.states import EndState
from chunkspool.store.commands import Arg, ScriptCall, Transaction, as_bytes, as_text
from chunkspool.store.index import as_ms, scored
from chunkspool.store.keys import OUTCOME_TENANTS, ChatKeys, TenantKeys
from chunkspool.store.schedule import hash_of
from chunkspool.store.scripts import load

RELAYED_AT_ONCE: Final = 8
"""Outcomes that one script takes."""
WINDOW_MS: Final = 600_000
"""How long an outcome is known to be in the stream after its mark was cleared: see lua/relay_outcomes.lua."""
REGISTERED_MS: Final = 366 * 86_400_000
DEAD_PAGE: Final = 100
_ABSENT: Final = "/"
_MARK, _LAG, _ENTRY = 9, 6, 3


@dataclass(frozen=True, slots=True)
class Mark:
    """What the script that ended a generation noted in the chat's outbox. `first` and `last` are seqs."""

    generation_id: str
    status: EndState
    attempt: int
    created: int
    started: int | None
    first: int
    last: int
    ended: int
    owner: str | None
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Outbox:
    """What of a chat is still to be told, the oldest first, and when it was read (Unix ms)."""

    marks: tuple[Mark, ...]
    now: int


def read_outbox(keys: ChatKeys) -> Transaction[Outbox]:
    """Read it."""

    def parse(replies: Sequence[Any]) -> Outbox:
        found, time = replies
        pairs = found.items() if isinstance(found, Mapping) else zip(found[::2], found[1::2], strict=True)
        marks = [_mark(as_text(generation_id), as_text(words)) for generation_id, words in pairs]
        return Outbox(tuple(sorted(marks, key=lambda one: (one.ended, one.last))), as_ms(time))

    return Transaction((("HGETALL", keys.outbox), ("TIME",)), parse)


def _mark(generation_id: str, text: str) -> Mark:
    words = text.split(" ")
    if len(words) != _MARK:
        raise ValueError(f"{len(words)} words are no mark")
    attempt, created, started, after, last, ended = (int(float(word)) for word in words[1:7])
    status: Any = words[0]
    owner, request_id = (None if word == _ABSENT else word for word in words[7:])
    return Mark(generation_id, status, attempt, created, started or None, after + 1, last, ended, owner, request_id)


def clear_marks(keys: ChatKeys, generation_ids: Sequence[str]) -> Transaction[int]:
    """Take marks out of the outbox: they are told. Returns the time (Unix ms) at which that was done."""
    commands = (("HDEL", keys.outbox, *generation_ids), ("TIME",))
    return Transaction(commands, lambda replies: as_ms(replies[1]))


def forget_seen(tenant: str, generation_ids: Sequence[str], cleared: int) -> Transaction[int]:
    """Let the stream forget soon what it has: their marks were cleared at `cleared`."""
    key = TenantKeys(tenant).outcomes_seen
    scores: list[Arg] = [word for one in generation_ids for word in (cleared + WINDOW_MS, one)]
    commands = (("ZADD", key, "XX", *scores), ("ZREMRANGEBYSCORE", key, "-inf", cleared))
    return Transaction(commands, len)


def mark(keys: ChatKeys, generation_id: str) -> ScriptCall[bool]:
    """Mark what a process of an older version has ended; tell whether that was needed."""
    return ScriptCall(
        load("mark_outcome"), keys.writer(generation_id), (generation_id,), lambda reply: bool(int(reply[0]))
    )


@dataclass(frozen=True, slots=True)
class Relayed:
    """What came of a relay's call. `dropped`: the group that was set aside by it; `groups`: how many are left."""

    outcome: Literal["moved", "late", "nobody"]
    moved: int = 0
    dropped: str = ""
    groups: int = 0


def relay(tenant: str, outcomes: Sequence[Outcome], *, read_at: int, most_bytes: int) -> ScriptCall[Relayed]:
    """Bring up to `RELAYED_AT_ONCE` outcomes, whose marks were read at `read_at`, into the tenant's stream."""
    args: list[Arg] = [read_at, most_bytes]
    for one in outcomes:
        hashes = hash_of(tenant, one.chat_id), hash_of(tenant, one.owner)
        args += [one.generation_id, *hashes, one.ended, one.chat_id, one.encode()]

    def parse(reply: list[Any]) -> Relayed:
        outcome: Any = as_text(reply[0])
        return (
            Relayed(outcome, int(reply[1]), as_text(reply[2]), int(reply[3]))
            if outcome == "moved"
            else Relayed(outcome)
        )

    return _script("relay_outcomes", tenant, args, parse)


@dataclass(frozen=True, slots=True)
class Handed:
    """What a consumer was handed. `found` is None where the group is gone; `cursor` is for the next call."""

    found: tuple[Outcome, ...] | None
    cursor: str = "0-0"
    set_aside: int = 0


def take(
    tenant: str, group: str, consumer: str, *, batch: int, claim_after_ms: int, max_deliveries: int, cursor: str
) -> ScriptCall[Handed]:
    """Hand out up to `batch` outcomes, first those that were abandoned."""

    def parse(reply: list[Any]) -> Handed:
        if as_text(reply[0]) != "ok":
            return Handed(None)
        rows = zip(*(reply[3 + i :: _ENTRY] for i in range(_ENTRY)), strict=True)
        found = tuple(Outcome.decode(as_text(entry), as_bytes(stored), int(n)) for entry, stored, n in rows)
        return Handed(found, as_text(reply[1]), int(reply[2]))

    args = (group, consumer, batch, claim_after_ms, max_deliveries, cursor)
    return _script("next_outcomes", tenant, args, parse)


def acknowledge(tenant: str, group: str, ids: Sequence[str], *, why: str = "", deliveries: int = 0) -> ScriptCall[int]:
    """Say that a group is done with outcomes, or with `why`, that they are to be set aside; returns how many it had."""
    return _script("ack_outcomes", tenant, (group, why, deliveries, *ids), lambda reply: int(reply[0]))


@dataclass(frozen=True, slots=True)
class Dropped:
    """Since when (Unix ms) a group is set aside, and how many outcomes it has lost."""

    at: int
    lost: int


def join(tenant: str, group: str, *, again: bool = False) -> ScriptCall[Dropped | None]:
    """Join a group, or make it; say so where it was set aside, unless it is to begin `again`."""

    def parse(reply: list[Any]) -> Dropped | None:
        return Dropped(int(reply[1]), int(reply[2])) if as_text(reply[0]) == "dropped" else None

    return _script("join_outcomes", tenant, (group, int(again)), parse)


def leave(tenant: str, group: str, consumer: str = "") -> ScriptCall[int]:
    """Take a consumer out of its group, or without one end the group; returns how many groups are left."""
    return _script("leave_outcomes", tenant, (group, consumer), lambda reply: int(reply[0]))


def lag(tenant: str) -> ScriptCall[tuple[OutcomeLag, ...]]:
    """Say how far each group of a tenant is behind."""

    def parse(reply: list[Any]) -> tuple[OutcomeLag, ...]:
        now, *words = reply
        found = []
        for i in range(0, len(words), _LAG):
            undelivered, pending, oldest, dropped, lost = map(int, words[i + 1 : i + _LAG])
            age = max(0, int(now) - oldest) / 1000 if oldest else 0.0
            found.append(OutcomeLag(tenant, as_text(words[i]), undelivered, pending, age, dropped or None, lost))
        return tuple(found)

    return _script("lag_outcomes", tenant, (), parse)


def forget_chat(keys: ChatKeys, cursors: tuple[str, str] = ("-", "-")) -> ScriptCall[tuple[str, str]]:
    """Remove the outcomes of a chat from some entries of the streams; returns where to go on, "" where all is done."""
    return _forget(keys.tenant, "c", keys.chat_id, hash_of(keys.tenant, keys.chat_id), cursors)


def forget_owner(tenant: str, owner: str, cursors: tuple[str, str] = ("-", "-")) -> ScriptCall[tuple[str, str]]:
    """Remove the outcomes of an owner, as `forget_chat` does: their chats may have expired long ago."""
    owner_hash = hash_of(tenant, owner)
    return _forget(tenant, "w", owner_hash, owner_hash, cursors)


def _forget(tenant: str, field: str, value: str, hashed: str, cursors: tuple[str, str]) -> ScriptCall[tuple[str, str]]:
    args = (field, value, hashed, *cursors)
    return _script("forget_outcomes", tenant, args, lambda reply: (as_text(reply[0]), as_text(reply[1])))


def read_dead(tenant: str, before: str | None, limit: int) -> Transaction[tuple[DeadOutcome, ...]]:
    """Read what was set aside, the newest first."""

    def parse(replies: Sequence[Any]) -> tuple[DeadOutcome, ...]:
        return tuple(_dead(as_text(entry), fields) for entry, fields in replies[0])

    end = f"({before}" if before else "+"
    return Transaction((("XREVRANGE", TenantKeys(tenant).outcomes_dead, end, "-", "COUNT", limit),), parse)


def _dead(entry: str, found: Any) -> DeadOutcome:
    pairs = found.items() if isinstance(found, Mapping) else zip(found[::2], found[1::2], strict=True)
    fields = {as_text(name): value for name, value in pairs}
    outcome = Outcome.decode(as_text(fields["id"]), as_bytes(fields["o"]), int(fields["n"]))
    return DeadOutcome(entry, as_text(fields["group"]), int(float(fields["at"])), as_text(fields["why"]), outcome)


def forget_dead(tenant: str, ids: Sequence[str]) -> Transaction[int]:
    """Remove what was set aside; returns how many there were."""
    return Transaction((("XDEL", TenantKeys(tenant).outcomes_dead, *ids),), lambda replies: int(replies[0]))


def register(tenant: str, now: int) -> Transaction[int]:
    """Note across tenants that somebody waits for the outcomes of one: those of generations asked from now on."""
    commands = (("ZADD", OUTCOME_TENANTS, now, tenant), ("PEXPIRE", OUTCOME_TENANTS, REGISTERED_MS))
    return Transaction(commands, len)


def unregister(tenant: str) -> Transaction[int]:
    """Note that nobody waits any more."""
    return Transaction((("ZREM", OUTCOME_TENANTS, tenant),), len)


def list_tenants(limit: int) -> Transaction[list[str]]:
    """Read the tenants that somebody waits for, those first where somebody joined last."""
    command = ("ZREVRANGE", OUTCOME_TENANTS, 0, limit - 1, "WITHSCORES")
    return Transaction((command,), lambda replies: [tenant for tenant, _ in scored(replies[0])])


def _script(name: str, tenant: str, args: Sequence[Arg], parse: Any) -> ScriptCall[Any]:
    keys = TenantKeys(tenant)
    streams = (keys.outcomes, keys.outcomes_seen, keys.outcomes_dead, keys.outcomes_dropped)
    return ScriptCall(load(name), streams, tuple(args), parse)
