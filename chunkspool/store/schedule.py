"""The doors to the schedule: which generations wait, which are with the workers, and whose turn it is.

What its keys are is said in lua/schedule_prelude.lua.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import quote, unquote

from chunkspool.policy import Policy
from chunkspool.states import Priority
from chunkspool.store.commands import Arg, ScriptCall, Transaction, as_text
from chunkspool.store.keys import ChatKeys, QueueKeys, TenantKeys, place_of
from chunkspool.store.log_size import LogSize
from chunkspool.store.scripts import load

AHEAD: Final = 1
"""Messages at the broker beyond a quarter of what runs, while no worker has said how many slots it has."""
NOTES_MAX: Final = 25
"""Notes that one script takes."""
TAKE_MAX: Final = 15
"""Generations that one script takes out of a queue's lines."""
LOOK_AT: Final = 25
"""Members of an overfull limit, from either end, that are looked at for whether they have ended."""
SLOTS_MS: Final = 20_000
"""How long a worker's slots count after it last said that it has them."""
NOBODY: Final = "/"
"""Stands for the owner of a generation that has none; no id can be this."""
_WORDS = 3

Note = tuple[Literal["wait", "behind", "free", "run", "end"], str] | tuple[Literal["end", "size"], str, LogSize | None]
"""What became of a member of the index: it waits for its turn, or behind others of its chat, or for these no longer; a
worker has claimed it, it has ended, or nothing.

With what the log of its chat takes, where that is known."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """What `reserve` replied: a place in the schedule, or the limit that was met.

    `at_once`: its message may go to the broker now; otherwise it is to wait (`schedule` with a "wait" note).
    `ttl_ms` and `active` are None where the tenant's policy says nothing. `retry_ms`: None where waiting does not help.
    `suspects`: chats that count for a limit of bytes which was met, to be measured again before anybody is refused.
    `outcome_wanted`: somebody waits for the outcomes of the tenant.
    `asked`: the Unix ms that the lists of chats have now (`store.chats.lists_of`); `asked_before`: that before.
    """

    limit: str = ""
    retry_ms: int | None = None
    at_once: bool = False
    ttl_ms: int | None = None
    chat_bytes: int = 0
    active: int | None = None
    suspects: tuple[str, ...] = ()
    asked: int = 0
    asked_before: tuple[int | None, ...] = ()
    outcome_wanted: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """A generation that was taken out of its line: its message is to be published."""

    member: str
    queue: str
    task: str


@dataclass(frozen=True, slots=True)
class WorkerSlots:
    """How many generations a worker can run at once, for a queue that it serves; 0 when it goes."""

    worker: str
    slots: int


def reserve(
    keys: ChatKeys,
    queue: QueueKeys,
    generation_id: str,
    *,
    task: str,
    owner: str | None,
    priority: Priority,
    place_ms: int,
    size: int,
    limits: Policy,
) -> ScriptCall[Reservation]:
    """Note where a generation will be, if no limit speaks against it. `size`: of its request, in bytes."""
    place = " ".join(
        (
            keys.tenant,
            keys.chat_id,
            hash_of(keys.tenant, owner),
            priority,
            quote(queue.queue, safe=""),
            quote(task, safe=""),
        )
    )

    def parse(reply: list[Any]) -> Reservation:
        if as_text(reply[0]) == "limited":
            limit, retry_ms, suspects = as_text(reply[1]), int(reply[2]), tuple(map(as_text, reply[3:]))
            return Reservation(limit=limit, retry_ms=None if retry_ms < 0 else retry_ms, suspects=suspects)
        ttl, active = as_text(reply[2]), as_text(reply[4])
        return Reservation(
            at_once=bool(int(reply[1])),
            ttl_ms=int(ttl) if ttl else None,
            chat_bytes=int(reply[3]),
            active=int(active) if active else None,
            asked=int(reply[5]),
            asked_before=tuple(int(float(one)) if one else None for one in reply[7:]),
            outcome_wanted=bool(int(reply[6])),
        )

    args: tuple[Arg, ...] = (place, place_ms, keys.member(generation_id), AHEAD, words_of(limits), size, LOOK_AT)
    return ScriptCall(load("reserve"), (place_of(generation_id), queue.unfinished), args, parse)


def schedule(
    queue: QueueKeys,
    notes: Sequence[Note],
    *,
    limits: Policy,
    most: int = TAKE_MAX,
    worker: WorkerSlots | None = None,
    tidies: bool = False,
) -> ScriptCall[list[Taken]]:
    """Note what became of generations, and take up to `most` out of the lines of their queues, and of `queue`.

    `tidies`: look also whether the oldest that seem to be with workers are over.
    """

    def parse(reply: list[Any]) -> list[Taken]:
        words = list(map(as_text, reply))
        return [
            Taken(member, unquote(its_queue), unquote(task))
            for member, its_queue, task in zip(*(words[i::_WORDS] for i in range(_WORDS)), strict=True)
        ]

    args: list[Arg] = [AHEAD, words_of(limits), most, quote(queue.queue, safe="")]
    args += [worker.worker if worker else "", worker.slots if worker else 0, SLOTS_MS, LOOK_AT if tidies else 0]
    for what, member, *size in notes:
        args += [what, member, size[0].words if size and size[0] else ""]
    return ScriptCall(load("schedule"), (queue.unfinished,), tuple(args), parse)


def forget(keys: ChatKeys, generations: Sequence[tuple[str, str]]) -> ScriptCall[None]:
    """Take back what `reserve` noted of up to `NOTES_MAX` generations; each is an id and the name of its queue."""
    args: list[Arg] = []
    for generation_id, queue in generations:
        args += [keys.member(generation_id), quote(queue, safe="")]
    places = tuple(place_of(generation_id) for generation_id, _ in generations)
    return ScriptCall(load("forget"), places, tuple(args), lambda _reply: None)


def note(*notes: Note) -> ScriptCall[list[Taken]]:
    """Only note what became of generations; others will take out whose turn it is."""
    return schedule(QueueKeys(""), notes, limits=Policy(), most=0)


@dataclass(frozen=True, slots=True)
class Position:
    """How many generations come before one that waits, and in how many ms its turn comes, if the pace is known."""

    ahead: int
    wait_ms: int | None


def position(keys: ChatKeys, generation_id: str) -> ScriptCall[Position | None]:
    """Say where a generation stands in its line; None for one that waits in none."""

    def parse(reply: list[Any]) -> Position | None:
        if not reply:
            return None
        wait_ms = int(reply[1])
        return Position(int(reply[0]), wait_ms if wait_ms >= 0 else None)

    return ScriptCall(load("position"), (place_of(generation_id),), (keys.member(generation_id),), parse)


def read_policy(tenant: str) -> Transaction[dict[str, str]]:
    """Read what a tenant's policy says, in the units of `Policy.stored`."""

    def parse(replies: Sequence[Any]) -> dict[str, str]:
        found = replies[0]
        pairs = found.items() if isinstance(found, Mapping) else zip(found[::2], found[1::2], strict=True)
        return {as_text(name): as_text(value) for name, value in pairs}

    return Transaction((("HGETALL", TenantKeys(tenant).policy),), parse)


def write_policy(tenant: str, values: Mapping[str, int], unset: Sequence[str]) -> Transaction[int]:
    """Set some limits of a tenant, and give others back to the defaults."""
    key = TenantKeys(tenant).policy
    commands: list[tuple[Arg, ...]] = []
    if unset:
        commands.append(("HDEL", key, *unset))
    if values:
        commands.append(("HSET", key, *(word for pair in values.items() for word in pair)))
    # A policy is kept for as long as the tenant is there: no key without a TTL, but this one's is a year from its use.
    commands.append(("PEXPIRE", key, POLICY_MS))
    return Transaction(tuple(commands), len)


POLICY_MS: Final = 366 * 86_400_000
"""How long a policy is kept after it was last set."""


def hash_of(tenant: str, owner: str | None) -> str:
    """Return what stands for an owner, or a chat, of the tenant in keys that may outlive it."""
    if owner is None:
        return NOBODY
    return hashlib.sha256(f"{tenant}/{owner}".encode()).hexdigest()[:16]


def words_of(limits: Policy) -> str:
    """Return limits as the scripts read them."""
    return " ".join(f"{name} {value}" for name, value in limits.stored().items())
