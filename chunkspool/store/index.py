"""The index across chats: where a generation is by its id alone, and what the sweep of a queue goes through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from chunkspool.errors import InvalidId
from chunkspool.states import ENDED, TURNS, KnownTurn
from chunkspool.store.commands import Command, Transaction, as_text
from chunkspool.store.keys import ChatKeys, QueueKeys, TenantKeys, place_of

INDEX_MS: Final = 7 * 86_400_000
"""A generation of which neither a worker nor a sweep has heard for a week is forgotten by the sweep."""
PLACE_MS: Final = 600_000
"""How long a place is kept at least. The sweep renews it while its generation has not ended, so that one that runs for
longer than its chat is kept after the last event can be revoked by its id to the end."""
YOUNG_MS: Final = 60_000
"""So long after it was indexed, a generation without a hash may be one that is just being made."""
INDEX_PAGE: Final = 500
"""Generations that the sweep looks at in one round trip."""
_MEMBER_PARTS: Final = 3
_PLACE, _OLD_PLACE = 6, 2
"""Words of a place: lua/schedule_prelude.lua. Before there was a schedule, it had the chat's alone."""
Turn = Literal[""] | KnownTurn


def waits(keys: ChatKeys, generation_id: str) -> Transaction[bool]:
    """Tell whether a generation waits for its turn."""
    command = ("ZSCORE", TenantKeys(keys.tenant).active, keys.member(generation_id))
    return Transaction((command,), lambda replies: replies[0] is not None and not float(replies[0]))


def find_place(generation_id: str, db: int) -> Transaction[ChatKeys | None]:
    """Read which chat a generation is in; None for an id that is not known."""

    def parse(replies: Sequence[Any]) -> ChatKeys | None:
        if replies[0] is None:
            return None
        words = as_text(replies[0]).split()
        if len(words) not in (_OLD_PLACE, _PLACE):
            raise ValueError(f"{len(words)} words are no place")
        tenant, chat_id = words[:2]
        return ChatKeys(tenant, chat_id, db)

    return Transaction((("GET", place_of(generation_id)),), parse)


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a queue's index: a generation, and the ms at which it was put there."""

    name: str
    keys: ChatKeys
    generation_id: str
    score: int


@dataclass(frozen=True, slots=True)
class IndexPage:
    """Members of the index; `foreign` are those that no chunkspool wrote. `size` counts both.

    `watermark`: how far the queue has come; `swept`: when it was swept last, or 0; `now`: the time. All in Unix ms by
    Redis's clock.
    """

    members: tuple[Member, ...]
    foreign: tuple[str, ...]
    size: int
    watermark: int
    swept: int
    now: int


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A generation of the index as it stands. Times are Unix ms; `published` is that of its newest message.

    `sent` is that of its first. `claimed`: a worker has had it. `republished`: the sweep has published it again.
    `turn`: how the schedule has it, "" where that does not know it. `place_ms`: how long its place will be kept.
    `behind`: it waits until those before it in its chat have ended. `outcome_marked`: its outcome is still to be told;
    `outcome_wanted`: it will be, or whoever ended it is of a version that marks none.
    """

    member: Member
    status: str
    task: str
    enqueued: int
    alive_until: int
    published: int
    sent: int
    claimed: bool
    republished: bool
    place_ms: int
    expires: int = 0
    turn: Turn = ""
    behind: bool = False
    outcome_marked: bool = False
    outcome_wanted: bool = False

    @property
    def waits(self) -> bool:
        """Whether it waits for its turn: it has no message."""
        return self.status == "queued" and self.turn == "waits"

    @property
    def waits_behind(self) -> bool:
        """Whether it waits for others of its chat: it has no message, and no turn yet."""
        return self.status == "queued" and self.behind

    def is_over(self, now: int) -> bool:
        """Tell whether there is nothing left to end. One that was indexed a moment ago may not have been made yet."""
        return self.status in ENDED or (not self.status and not 0 <= now - self.member.score < YOUNG_MS)

    def has_expired(self, now: int) -> bool:
        """Tell whether it waits and is no longer wanted."""
        return self.status == "queued" and 0 < self.expires <= now

    def is_fading(self, place_ms: int) -> bool:
        """Tell whether its place, which is to be kept for `place_ms`, would expire before the next sweeps."""
        return bool(self.status) and self.status not in ENDED and self.place_ms < place_ms // 2

    def is_passed_over(self, watermark: int, now: int, for_ms: int) -> bool:
        """Tell whether its newest message is in no queue that has come to `watermark`, and in nobody's hands."""
        since = max(self.published, self.alive_until)
        return since < watermark and now - since >= for_ms

    def is_lost(self, now: int, for_ms: int) -> bool:
        """Tell whether it stayed silent for so long even after its message was published again.

        A generation that has only waited for long is not lost: its first message may have been popped a moment ago.
        """
        return self.republished and now - max(self.published, self.alive_until) >= for_ms


def place_ms_of(sweep_interval: float) -> int:
    """Return how long a place is to be kept, where sweeps come every so many seconds."""
    return max(PLACE_MS, round(4000 * sweep_interval))


def lock_sweep(queue: QueueKeys, pause_ms: int) -> Transaction[int]:
    """Ask to sweep; return 0 to one process in each `pause_ms`, to the others the ms for which they are locked out."""
    take = ("SET", queue.sweep_lock, "1", "NX", "PX", pause_ms)
    return Transaction((take, ("PTTL", queue.sweep_lock)), lambda replies: 0 if replies[0] else max(1, replies[1]))


def renew_sweep_lock(queue: QueueKeys, pause_ms: int) -> Transaction[int]:
    """Take a lock that belongs to nobody any more."""
    return Transaction((("SET", queue.sweep_lock, "1", "PX", pause_ms),), len)


def list_unfinished(queue: QueueKeys, offset: int, db: int) -> Transaction[IndexPage]:
    """Read up to `INDEX_PAGE` members of the index from `offset` on."""

    def parse(replies: Sequence[Any]) -> IndexPage:
        found, watermark, time = replies
        named = scored(found)
        members = [_member(name, score, db) for name, score in named]
        foreign = tuple(name for (name, _), member in zip(named, members, strict=True) if member is None)
        known = tuple(member for member in members if member is not None)
        now = as_ms(time)
        reached, _, swept = as_text(watermark or "0").partition(" ")
        # What lies ahead was written before the server's clock was set back.
        reached_ms, swept_ms = (ms if ms <= now else 0 for ms in (int(reached), int(swept or 0)))
        return IndexPage(known, foreign, len(named), reached_ms, swept_ms, now)

    page = ("ZRANGE", queue.unfinished, offset, offset + INDEX_PAGE - 1, "WITHSCORES")
    return Transaction((page, ("GET", queue.watermark), ("TIME",)), parse)


def look_up(queue: QueueKeys, member: Member, now: int) -> Transaction[Unfinished]:
    """Read how the generation of a member stands."""
    fields = ("status", "task", "created", "lease", "lease_ms", "started", "expires", "outcome", "behind")

    def parse(replies: Sequence[Any]) -> Unfinished:
        of_hash, republished, place_ms, turn, sent, running, marked = replies
        status, task, created, lease, lease_ms, started, expires, outcome, behind = of_hash

        def seen(value: Any, ahead: int = 0) -> int:
            # A time that lies ahead was written before the server's clock was set back: it tells nothing.
            ms = int(float(value or 0))
            return ms if ms <= now + ahead else 0

        enqueued = seen(created or member.score)
        return Unfinished(
            member=member,
            status=as_text(status or ""),
            task=as_text(task or ""),
            enqueued=enqueued,
            alive_until=max(enqueued, seen(lease, int(lease_ms or 0))),
            published=max(enqueued, seen(republished), seen(sent), seen(running)),
            sent=max(enqueued, seen(sent), seen(running)),
            claimed=started is not None,
            republished=republished is not None,
            place_ms=int(place_ms),
            expires=int(expires or 0),
            turn="" if turn is None else TURNS[int(float(turn))],
            behind=behind is not None,
            outcome_marked=marked is not None,
            outcome_wanted=outcome is not None,
        )

    commands = (
        ("HMGET", member.keys.gen(member.generation_id), *fields),
        ("ZSCORE", queue.republished, member.name),
        ("PTTL", place_of(member.generation_id)),
        ("ZSCORE", TenantKeys(member.keys.tenant).active, member.name),
        ("ZSCORE", queue.sent, member.name),
        ("ZSCORE", queue.running, member.name),
        ("HGET", member.keys.outbox, member.generation_id),
    )
    return Transaction(commands, parse)


def note_republished(queue: QueueKeys, member: Member, now: int) -> Transaction[int]:
    """Note that the message of a generation was published again."""
    commands = (("ZADD", queue.republished, now, member.name), ("PEXPIRE", queue.republished, INDEX_MS))
    return Transaction(commands, len)


def note_swept(queue: QueueKeys, watermark: int, now: int, fading: Sequence[Member], place_ms: int) -> Transaction[int]:
    """Note how far the queue has come by `now`, and keep the places that would expire."""
    commands: list[Command] = [
        ("SET", queue.watermark, f"{watermark} {now}", "PX", INDEX_MS),
        ("PEXPIRE", queue.unfinished, INDEX_MS),
        ("PEXPIRE", queue.republished, INDEX_MS),
    ]
    for member in fading:
        # One that is there is kept as it is: it says more.
        place = f"{member.keys.tenant} {member.keys.chat_id}"
        commands.append(("SET", place_of(member.generation_id), place, "NX", "PX", place_ms))
        commands.append(("PEXPIRE", place_of(member.generation_id), place_ms))
    return Transaction(tuple(commands), len)


def forget(queue: QueueKeys, names: Sequence[str]) -> Transaction[int]:
    """Take members out of the index."""
    return Transaction((("ZREM", queue.unfinished, *names), ("ZREM", queue.republished, *names)), len)


def list_again(queue: QueueKeys, members: Sequence[Member]) -> Transaction[int]:
    """Put members back into the index."""
    scores = [part for member in members for part in (member.score, member.name)]
    return Transaction((("ZADD", queue.unfinished, *scores), ("PEXPIRE", queue.unfinished, INDEX_MS)), len)


def scored(reply: Sequence[Any]) -> list[tuple[str, int]]:
    """Return the members of a sorted set with their scores."""
    # RESP3 brings pairs, RESP2 a flat list.
    pairs = reply if reply and isinstance(reply[0], (list, tuple)) else zip(reply[::2], reply[1::2], strict=True)
    return [(as_text(name), int(float(score))) for name, score in pairs]


def as_ms(time_reply: Sequence[Any]) -> int:
    """Return TIME's reply in Unix ms."""
    return int(time_reply[0]) * 1000 + int(time_reply[1]) // 1000


def _member(name: str, score: int, db: int) -> Member | None:
    parts = name.split(" ")
    try:
        return Member(name, ChatKeys(parts[0], parts[1], db), parts[2], score) if len(parts) == _MEMBER_PARTS else None
    except InvalidId:
        return None
