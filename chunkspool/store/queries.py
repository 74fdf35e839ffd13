"""The small reads that operations make: what is active, how generations stand, how far a reader has read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from chunkspool.errors import ChatNotFound
from chunkspool.ids import checked_id
from chunkspool.request import stored_transcript
from chunkspool.results import GenerationStatus, Transcript
from chunkspool.states import SeenState
from chunkspool.store.commands import Transaction, as_bytes, as_text
from chunkspool.store.entries import seq_of
from chunkspool.store.index import as_ms
from chunkspool.store.keys import ChatKeys
from chunkspool.store.pages import active_ids, last_seq, newest_entry


@dataclass(frozen=True, slots=True)
class ChatLoad:
    """The ids of the active generations, None where `head` was evicted; the bytes that the log takes in Redis.

    `recent`: keys of the messages that the log got last. `ttl_ms`: the chat's own TTL, None without one.
    """

    active: tuple[str, ...] | None
    log_bytes: int
    recent: tuple[str, ...] = ()
    pinned: bool = False
    ttl_ms: int | None = None


def load(keys: ChatKeys) -> Transaction[ChatLoad]:
    """Read how much a chat has to do and to keep; nothing where there is no chat."""

    def parse(replies: Sequence[Any]) -> ChatLoad:
        (found, log, born, recent, pinned, ttl), size = replies
        is_evicted = size is not None and found is None and log is None and born is None
        # What the log had that has expired, the next one does not have.
        known = () if size is None else tuple(as_text(recent or "").split())
        return ChatLoad(
            active=None if is_evicted else active_ids(found),
            log_bytes=int(size or 0),
            recent=known,
            pinned=size is not None and pinned is not None,
            ttl_ms=_number(ttl),
        )

    fields = ("active", "log", "born", "recent", "pinned", "ttl")
    return Transaction((("HMGET", keys.head, *fields), ("MEMORY", "USAGE", keys.log)), parse)


def is_busy(keys: ChatKeys) -> Transaction[bool]:
    """Tell whether something is active in the chat."""
    return Transaction((("HGET", keys.head, "active"),), lambda replies: bool(replies[0]))


def behind(keys: ChatKeys, generation_ids: Sequence[str]) -> Transaction[tuple[str, ...]]:
    """Tell which of these wait for others of the chat."""
    commands = tuple(("HMGET", keys.gen(one), "status", "behind") for one in generation_ids)

    def parse(replies: Sequence[Any]) -> tuple[str, ...]:
        found = zip(generation_ids, replies, strict=True)
        return tuple(one for one, (status, waits) in found if waits and as_text(status or "") == "queued")

    return Transaction(commands, parse)


def has_request(keys: ChatKeys, request_id: str) -> Transaction[bool]:
    """Tell whether a generation was made with this request id."""
    return Transaction((("EXISTS", keys.request(request_id)),), lambda replies: bool(replies[0]))


def active_in_existing(keys: ChatKeys) -> Transaction[tuple[str, ...]]:
    """Read the ids of the active generations. It raises `ChatNotFound` where there is no chat."""

    def parse(replies: Sequence[Any]) -> tuple[str, ...]:
        if last_seq(replies[0], replies[2]) is None:
            raise ChatNotFound(keys.chat_id)
        return active_ids(replies[1])

    return Transaction((("GET", keys.seq), ("HGET", keys.head, "active"), newest_entry(keys)), parse)


@dataclass(frozen=True, slots=True)
class Origin:
    """How a generation was enqueued: with which request id, and for which queue and task. "" where it is not known."""

    request_id: str
    queue: str
    task: str
    is_queued: bool


def origins(keys: ChatKeys, generation_ids: Sequence[str]) -> Transaction[list[Origin]]:
    """Read how these generations were enqueued; of one that has expired, nothing is known."""
    commands = tuple(("HMGET", keys.gen(one), "request_id", "queue", "task", "status") for one in generation_ids)

    def parse(replies: Sequence[Any]) -> list[Origin]:
        found = ([as_text(field or "") for field in reply] for reply in replies)
        return [Origin(request_id, queue, task, status == "queued") for request_id, queue, task, status in found]

    return Transaction(commands, parse)


@dataclass(frozen=True, slots=True)
class StoredTrace:
    """What is kept of a generation's trace: the contexts of its enqueue and of its newest attempt, "" without one.

    `created` is when it was enqueued, 0 if that is not known, and `now` the same clock's time: Unix seconds.
    """

    enqueue: str
    attempt: str
    queue: str
    created: float
    now: float


def trace_of(keys: ChatKeys, generation_id: str) -> Transaction[StoredTrace]:
    """Read a generation's trace."""
    key = keys.gen(checked_id("generation_id", generation_id))
    fields = ("HMGET", key, "trace", "span", "queue", "created")

    def parse(replies: Sequence[Any]) -> StoredTrace:
        enqueue, attempt, queue, created = replies[0]
        seconds, microseconds = replies[1]
        now = int(seconds) + int(microseconds) / 1_000_000
        # What is no context is no reason not to run.
        of_enqueue, of_attempt = (as_bytes(found or b"").decode("ascii", "replace") for found in (enqueue, attempt))
        return StoredTrace(of_enqueue, of_attempt, as_text(queue or b""), int(created or 0) / 1000, now)

    return Transaction((fields, ("TIME",)), parse)


def cursor_before(keys: ChatKeys, generation_id: str) -> Transaction[int]:
    """Read the cursor before a generation's first event."""
    return Transaction((("HGET", keys.gen(generation_id), "after"),), lambda replies: int(replies[0] or 0))


def first_start(keys: ChatKeys, generation_id: str) -> Transaction[int]:
    """Read the seq of a generation's first generation.started, which an attempt has written by now."""

    def parse(replies: Sequence[Any]) -> int:
        began, newest = replies[0]
        # One whose first attempt was an older version's has no `began`.
        return int(began or newest or 0)

    return Transaction((("HMGET", keys.gen(generation_id), "began", "seq"),), parse)


def transcript_holder(keys: ChatKeys) -> Transaction[str | None]:
    """Read the id of the generation that holds the chat's transcript; None where none does."""
    command = ("HGET", keys.head, "transcript")
    return Transaction((command,), lambda replies: None if replies[0] is None else as_text(replies[0]))


def has_identity(keys: ChatKeys) -> Transaction[bool]:
    """Tell whether the chat's `head` knows of which log it is; else it was evicted."""
    return Transaction((("HGET", keys.head, "log"),), lambda replies: bool(replies[0]))


def transcripts(keys: ChatKeys, generation_ids: Sequence[str]) -> Transaction[list[Transcript]]:
    """Read the transcripts that these generations hold: of a chat's generations, the newest of its client has one."""
    commands = tuple(("HMGET", keys.gen(one), "after", "transcript") for one in generation_ids)

    def parse(replies: Sequence[Any]) -> list[Transcript]:
        found = zip(generation_ids, replies, strict=True)
        return [Transcript(one, int(after), stored_transcript(raw)) for one, (after, raw) in found if after and raw]

    return Transaction(commands, parse)


def last_read(keys: ChatKeys, reader: str) -> Transaction[int]:
    """Read the seq up to which the reader has read: 0 if it never said. It raises `ChatNotFound`."""
    field = checked_id("reader", reader)

    def parse(replies: Sequence[Any]) -> int:
        if replies[0] is None:
            raise ChatNotFound(keys.chat_id)
        return int(replies[1] or 0)

    return Transaction((("GET", keys.seq), ("HGET", keys.readers, field)), parse)


@dataclass(frozen=True, slots=True)
class ChatOutline:
    """Which seqs a chat has kept (`first` is `last + 1` when none), and what is active; `now` in Unix ms.

    `expires`: the Unix ms at which the log does, None where none is kept. `ttl_ms`: the chat's own, None without one.
    """

    first: int
    last: int | None
    active: tuple[str, ...]
    now: int
    pinned: bool = False
    ttl_ms: int | None = None
    expires: int | None = None


def outline(keys: ChatKeys) -> Transaction[ChatOutline]:
    """Read it at one moment."""

    def parse(replies: Sequence[Any]) -> ChatOutline:
        seq, oldest, (found, pinned, ttl), now, latest, left_ms = replies
        last = last_seq(seq, latest)
        nothing_kept = (last or 0) + 1
        first = min(seq_of(oldest[0][0]), nothing_kept) if oldest else nothing_kept
        return ChatOutline(
            first=first,
            last=last,
            active=active_ids(found),
            now=as_ms(now),
            pinned=bool(oldest) and pinned is not None,
            ttl_ms=_number(ttl),
            expires=as_ms(now) + int(left_ms) if int(left_ms) >= 0 else None,
        )

    return Transaction(
        (
            ("GET", keys.seq),
            ("XRANGE", keys.log, "-", "+", "COUNT", 1),
            ("HMGET", keys.head, "active", "pinned", "ttl"),
            ("TIME",),
            newest_entry(keys),
            ("PTTL", keys.log),
        ),
        parse,
    )


_FIELDS = ("status", "attempt", "after", "created", "started", "ended", "lease", "lease_ms", "stop", "owner", "lost")


def statuses(keys: ChatKeys, generation_ids: Sequence[str]) -> Transaction[list[GenerationStatus]]:
    """Read how these generations stand; one that has expired is left out."""
    commands = tuple(("HMGET", keys.gen(one), *_FIELDS) for one in generation_ids)

    def parse(replies: Sequence[Any]) -> list[GenerationStatus]:
        now, *found = replies
        pairs = zip(generation_ids, found, strict=True)
        return [_status(one, fields, as_ms(now)) for one, fields in pairs if fields[0] is not None]

    # By the time of this very moment: by an earlier one, a lease that was renewed since lies too far ahead.
    return Transaction((("TIME",), *commands), parse)


def _status(generation_id: str, fields: Sequence[Any], now: int) -> GenerationStatus:
    status, attempt, after, created, started, ended, lease, lease_ms, stop, owner, lost = fields
    state = cast("SeenState", as_text(status))
    # As in lua/prelude.lua: a lease that ends later than it is long was written before the clock was set back.
    if state == "running" and not now < int(lease or 0) <= now + int(lease_ms or lease or 0):
        state = "stalled"
    elif lost is not None:
        state = "lost"
    return GenerationStatus(
        generation_id=generation_id,
        state=state,
        attempt=int(attempt or 0),
        after=int(after or 0),
        created=int(created or 0),
        started=_number(started),
        ended=_number(ended),
        lease_until=_number(lease),
        stop_asked=stop is not None,
        owner=as_text(owner) if owner else None,
    )


def _number(value: Any) -> int | None:
    return None if value is None else int(value)
