"""The doors to the making of a fork: a copy grows in the new chat's slot, and becomes its log in one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from chunkspool.events import Entry
from chunkspool.policy import Policy
from chunkspool.store.commands import Arg, ScriptCall, Transaction, as_text
from chunkspool.store.index import as_ms
from chunkspool.store.keys import SIZES_DUE, ChatKeys
from chunkspool.store.log_size import LogSize, log_size_of
from chunkspool.store.schedule import LOOK_AT, Reservation, hash_of, words_of
from chunkspool.store.scripts import load

COPY_MS: Final = 60_000
"""How long a copy is kept after each step. Of whoever dies in the middle, nothing stays for longer."""
OWNERS_MAX: Final = 64
"""Owners for whom a chat's `head` has room, as in lua/enqueue.lua."""
STEP_EVENTS: Final = 256
STEP_BYTES: Final = 256 * 1024
"""What one step copies at most; a single event may be larger."""


@dataclass(frozen=True, slots=True)
class Vacancy:
    """Whether a chat has nothing at all, and what the copy takes that is to become its log; `now` in Unix ms."""

    is_vacant: bool
    size: LogSize
    now: int


def look(target: ChatKeys, token: str, ttl_ms: int) -> Transaction[Vacancy]:
    """Read whether `target` may be made, and how large the copy is: its size as a log that is kept for `ttl_ms`."""
    keys = target.writer(token)
    chat = (*keys[:4], keys[6], target.title, target.digest)

    def parse(replies: Sequence[Any]) -> Vacancy:
        *found, size, time = replies
        now = as_ms(time)
        return Vacancy(not any(map(int, found)), log_size_of(int(size or 0), now, ttl_ms), now)

    exists = tuple(("EXISTS", key) for key in chat)
    return Transaction((*exists, ("MEMORY", "USAGE", target.copy(token)), ("TIME",)), parse)


def stage(target: ChatKeys, token: str, after: int, entries: Sequence[Entry]) -> ScriptCall[bool]:
    """Add entries to the copy, which ends with the seq `after`; False where it is gone."""
    args: list[Arg] = [after, COPY_MS]
    for entry in entries:
        args += [entry.seq, entry.at, entry.raw]
    return ScriptCall(
        load("stage_fork"), (target.copy(token),), tuple(args), lambda reply: as_text(reply[0]) == "staged"
    )


def drop(target: ChatKeys, token: str) -> Transaction[None]:
    """Remove the copy."""
    return Transaction((("UNLINK", target.copy(token)),), lambda _replies: None)


def add_owners(target: ChatKeys, owners: Sequence[str], kept_ms: int) -> Transaction[int]:
    """Note those who have something in the chat that is to be made, and for whom its `head` will have no room."""
    scores: list[Arg] = [word for owner in owners for word in (0, owner)]
    return Transaction((("ZADD", target.owners, *scores), ("PEXPIRE", target.owners, kept_ms)), len)


def reserve_fork(target: ChatKeys, owner: str | None, size: LogSize, limits: Policy) -> ScriptCall[Reservation]:
    """Note the chat in the lists and among the logs of its tenant and owner, if no limit speaks against it."""

    def parse(reply: list[Any]) -> Reservation:
        if as_text(reply[0]) == "limited":
            limit, retry_ms, suspects = as_text(reply[1]), int(reply[2]), tuple(map(as_text, reply[3:]))
            return Reservation(limit=limit, retry_ms=None if retry_ms < 0 else retry_ms, suspects=suspects)
        ttl = as_text(reply[1])
        return Reservation(
            ttl_ms=int(ttl) if ttl else None,
            asked=int(reply[2]),
            asked_before=tuple(int(float(one)) if one else None for one in reply[3:]),
        )

    whose = hash_of(target.tenant, owner)
    args: tuple[Arg, ...] = (target.tenant, target.chat_id, whose, size.words, words_of(limits), LOOK_AT)
    return ScriptCall(load("reserve_fork"), (SIZES_DUE,), args, parse)


def make(
    target: ChatKeys,
    token: str,
    *,
    last: int,
    ttl_ms: int,
    owners: Sequence[str],
    title: str | None,
    recent: Sequence[str] = (),
) -> ScriptCall[Literal["made", "exists", "gone"]]:
    """Let the copy become the chat's log, whose identity is `token`. It ends with the seq `last`.

    `owners`: up to `OWNERS_MAX` of those who have something in it, by their hashes; the newest last.
    """

    def parse(reply: list[Any]) -> Literal["made", "exists", "gone"]:
        outcome: Any = as_text(reply[0])
        return outcome  # type: ignore[no-any-return]

    keys = (*target.writer(token), target.copy(token), target.title, target.digest)
    args: tuple[Arg, ...] = (token, last, ttl_ms, " ".join(owners), title or "", " ".join(recent))
    return ScriptCall(load("make_fork"), keys, args, parse)
