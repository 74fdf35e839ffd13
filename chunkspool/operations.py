"""What Spool and AsyncSpool do, step by step and without I/O.

Each operation is a generator: it yields a step (a script call, reads, or a message to publish), is sent that step's
result, and returns the operation's. So the sync and the async face share one logic and differ in the driver only.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from chunkspool import scripts
from chunkspool.calls import Call, Reads, as_text
from chunkspool.chat import ChatStatus, Generation, GenerationStatus, Snapshot, Stop
from chunkspool.cursor import PAGE, Page, checked_cursor, last_seq, newest, page_after
from chunkspool.entries import opened, seq_of
from chunkspool.errors import (
    ChatBusy,
    ChatNotFound,
    CorruptLog,
    CursorAhead,
    CursorExpired,
    EnqueueFailed,
    GenerationNotFound,
    HandedOver,
    InvalidInput,
    NotClaimed,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
    shown,
)
from chunkspool.events import Entry, GenerationFailed, encode
from chunkspool.fold import Answer, fold
from chunkspool.ids import new_generation_id
from chunkspool.keys import RESENT, UNENDED, ChatKeys, checked_id, place_of
from chunkspool.request import Claim, GenerationRequest, checked_on_active, checked_reason, checked_ttl, checked_wait
from chunkspool.scripts import Appended, Claimed, Enqueued, OnActive, Played, StopReply
from chunkspool.settings import Settings
from chunkspool.steps import Pause

T = TypeVar("T")
MAX_LIMIT = 10_000
"""Entries of one `read`: their events are decoded in one go."""
HELD_POLL = 0.5
"""Seconds between two looks at a generation that another attempt holds: it may end long before its lease does."""
UNENDED_MS = 86_400_000
"""A generation that has neither ended nor been found lost within a day is forgotten by the sweep."""
RACES = 100
"""How often an operation begins again because the chat changed under it. Each time, somebody else got on."""


@dataclass(frozen=True, slots=True)
class Publish:
    """Hand the generation to a worker. It raises `EnqueueFailed`."""

    tenant: str
    chat_id: str
    generation_id: str


Step = Call[Any] | Reads[Any] | Publish | Pause
Operation = Generator[Step, Any, T]


def enqueue(
    keys: ChatKeys,
    settings: Settings,
    request: GenerationRequest,
    *,
    on_active: OnActive,
    ttl: float | None,
    request_id: str | None,
    owner: str | None,
) -> Operation[Generation]:
    """Make a generation and hand it to a worker; leave no ghost when the broker is away."""
    encoded = request.encoded(settings.max_request_bytes)
    ttl_ms = round(checked_ttl(settings.ttl if ttl is None else ttl) * 1000)
    checked_on_active(on_active)
    for kind, given in (("owner", owner), ("request_id", request_id)):
        if given is not None:
            checked_id(kind, given)
    generation_id = new_generation_id()
    # Before the generation itself: from its first moment on, a revoke and the sweep can find it.
    yield _remember_place(keys, generation_id, ttl_ms)
    try:
        made: Enqueued = yield from _made(
            keys,
            on_active,
            partial(
                scripts.enqueue,
                keys,
                generation_id,
                encoded,
                model=request.model,
                on_active=on_active,
                ttl_ms=ttl_ms,
                request_id=request_id,
                owner=owner,
            ),
        )
    except (ChatBusy, CorruptLog, StoreFull, StoreRefused):
        yield _forget_places(keys, [generation_id])
        raise
    if made.outcome != "created":
        yield _forget_places(keys, [generation_id])
    generation = Generation(made.generation_id, keys.chat_id, made.after)
    if made.outcome == "created" or (yield _is_queued(keys, generation.id)):
        # A repeated request whose generation still waits is published again: the first caller may have died between
        # its two steps, and a second message is harmless (claim).
        yield from _publish(keys, generation.id, request_id)
    return generation


def _made(keys: ChatKeys, on_active: OnActive, call: Callable[..., Call[Enqueued]]) -> Operation[Enqueued]:
    """Make `call` with the active generations, again whenever these have changed meanwhile. Raises `ChatBusy`."""
    for _ in range(RACES):
        active: tuple[str, ...] = () if on_active == "allow" else (yield _active(keys))
        made: Enqueued = yield call(active=active)
        if made.outcome != "changed":
            break
    if made.outcome in {"busy", "changed"}:
        raise ChatBusy(keys.chat_id, made.active or active)
    return made


def _publish(keys: ChatKeys, generation_id: str, request_id: str | None) -> Operation[None]:
    try:
        yield Publish(keys.tenant, keys.chat_id, generation_id)
    except EnqueueFailed as error:
        failed = GenerationFailed(
            generation=generation_id,
            code="enqueue_failed",
            message="The request could not be handed to a worker.",
            retryable=True,
        )
        try:
            ended: Appended = yield scripts.append(
                keys, generation_id, attempt=0, index=1, lease_ms=0, events=(encode(failed),), ending="failed"
            )
            if ended.outcome == "fenced":
                return  # the message did arrive: a worker has it
            if request_id is not None:
                yield scripts.withdraw(keys, generation_id, request_id)
        except StoreError as away:
            error.add_note(f"The generation could not be ended either, and is queued until the sweep ends it: {away}")
        raise


def read(keys: ChatKeys, after: object, limit: int) -> Operation[list[Entry]]:
    """Return up to `limit` entries after the cursor. Raises `CorruptLog` where the first of them cannot be decoded."""
    cursor = checked_cursor(after)
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= MAX_LIMIT:
        raise InvalidInput(f"limit={shown(limit)}: pass a whole number from 1 to {MAX_LIMIT}")
    page: Page = yield page_after(keys, cursor, limit)
    entries: list[Entry] = []
    for item in page.entries:
        try:
            entries.append(opened(item))
        except CorruptLog:
            if not entries:
                raise
            break  # what stands before it is returned first; the next read raises
    return entries


def stop(keys: ChatKeys, generation_id: str | None, by: str, reason: str | None) -> Operation[tuple[Stop, ...]]:
    """Stop one generation, or all that are active in the chat."""
    checked_reason(reason)
    if generation_id is None:
        wanted: tuple[str, ...] = yield _active_of_existing(keys)
    else:
        wanted = (checked_id("generation_id", generation_id),)
    stops = []
    for one in wanted:
        reply: StopReply = yield scripts.stop(keys, one, by=by, reason=reason)
        if reply.outcome == "gone":
            if generation_id is None:
                continue
            raise GenerationNotFound(keys.chat_id, one)
        stops.append(Stop(one, reply.outcome))
    return tuple(stops)


def revoke(task_id: str) -> Operation[Stop | None]:
    """Stop the generation, in whichever chat it is; None for a task that is no generation (any more)."""
    keys: ChatKeys | None = yield _place(task_id)
    if keys is None:
        return None
    try:
        stops = yield from stop(keys, task_id, "revoke", None)
    except GenerationNotFound:
        return None
    return stops[0]


def snapshot(keys: ChatKeys) -> Operation[Snapshot]:
    """Fold what is kept of the chat. An entry that cannot be decoded, or is no longer kept, is passed over."""
    status: ChatStatus = yield from chat_status(keys)
    cursor, answers = status.first - 1, tuple[Answer, ...]()
    while True:
        try:
            page: Page = yield page_after(keys, cursor, PAGE)
        except CursorExpired as gap:
            cursor = gap.first - 1
            continue
        except CorruptLog as foreign:
            if foreign.seq is None:
                raise
            return Snapshot(keys.chat_id, answers, cursor, status.active)
        events = []
        for item in page.entries:
            cursor = item.seq
            if isinstance(item, Entry):
                events.append(item.event)
        answers = fold(events, onto=answers)
        if cursor >= page.last:
            return Snapshot(keys.chat_id, answers, cursor, page.active)


def mark_played(keys: ChatKeys, reader: str, seq: object) -> Operation[int]:
    """Remember that the reader has played up to `seq`; return how far it has, which is never less than before."""
    checked_id("reader", reader)
    wanted = checked_cursor(seq)
    marked: Played = yield scripts.mark_played(keys, reader, wanted)
    if marked.outcome == "gone":
        raise ChatNotFound(keys.chat_id)
    if marked.outcome == "ahead":
        raise CursorAhead(wanted, marked.seq)
    return marked.seq


def played(keys: ChatKeys, reader: str) -> Reads[int]:
    """Return the read of how far the reader has played: 0 if it never said. It raises `ChatNotFound`."""
    field = checked_id("reader", reader)

    def parse(replies: Sequence[Any]) -> int:
        if replies[0] is None:
            raise ChatNotFound(keys.chat_id)
        return int(replies[1] or 0)

    return Reads((("GET", keys.seq), ("HGET", keys.readers, field)), parse)


def chat_status(keys: ChatKeys) -> Operation[ChatStatus]:
    """Say how the chat stands."""
    seen: _Seen = yield _seen(keys)
    if seen.last is None:
        raise ChatNotFound(keys.chat_id)
    found: list[GenerationStatus | None] = yield _statuses(keys, seen.generations, seen.now)
    generations = sorted((g for g in found if g), key=lambda g: g.after)
    active = seen.active if seen.first <= seen.last else ()  # see page_after
    return ChatStatus(keys.chat_id, seen.first, seen.last, active, tuple(generations), seen.now)


def erase(keys: ChatKeys) -> Operation[None]:
    """Erase the chat; no error if there is none."""
    for _ in range(RACES):
        seen: _Seen = yield _seen(keys)
        requests: list[str] = yield _request_ids(keys, seen.generations)
        done: bool = yield scripts.erase(
            keys, active=seen.active, generations=seen.generations, request_ids=requests, known=seen.known
        )
        if done:
            if seen.generations:
                yield _forget_places(keys, seen.generations)
            return
    raise StoreUnavailable(f"chat {keys.chat_id!r} changes faster than it can be erased; stop it first")


def claim(
    keys: ChatKeys, generation_id: str, settings: Settings, wait: float, *, leaving: Callable[[], bool]
) -> Operation[Claim]:
    """Take a generation for one more attempt; wait up to `wait` seconds for another attempt that holds it.

    Raises `GenerationNotFound`, `NotClaimed`, or, once this process is `leaving`, `HandedOver`.
    """
    checked_id("generation_id", generation_id)
    wait = checked_wait(wait)
    token = secrets.token_hex(8)
    while True:
        if leaving():
            raise HandedOver(f"generation {generation_id} is not begun: this process is about to end")
        claimed: Claimed = yield scripts.claim(
            keys,
            generation_id,
            token=token,
            lease_ms=round(settings.lease * 1000),
            max_attempts=settings.max_attempts,
            model=settings.model,
            continues=settings.recovery == "continue",
        )
        if claimed.outcome == "claimed":
            return (yield from _prepared(keys, generation_id, settings, claimed))
        if claimed.outcome == "gone":
            raise GenerationNotFound(keys.chat_id, generation_id)
        pause = min(claimed.held_ms / 1000, HELD_POLL)
        if claimed.outcome != "held" or wait < pause:
            raise NotClaimed(generation_id, claimed.outcome)
        yield Pause(pause)
        wait -= pause


def _prepared(keys: ChatKeys, generation_id: str, settings: Settings, claimed: Claimed) -> Operation[Claim]:
    request = GenerationRequest.stored(claimed.request)
    prefix: str | None = ""
    if claimed.attempt > 1 and settings.recovery == "continue":
        prefix = yield from _text_to_continue(keys, generation_id)
    return Claim(claimed.attempt, request.for_model(prefix or ""), restarts=prefix is None)


def _text_to_continue(keys: ChatKeys, generation_id: str) -> Operation[str | None]:
    """Return what the earlier attempts have said; None if that is not text alone, or not all there."""
    after: int = yield _after(keys, generation_id)
    answers: tuple[Answer, ...] = ()
    while True:
        try:
            page: Page = yield page_after(keys, after, PAGE)
            events = [opened(item).event for item in page.entries]
        except (CursorExpired, CorruptLog):
            return None
        answers = fold((event for event in events if event.generation == generation_id), onto=answers)
        after += len(events)
        if after >= page.last or not events:
            break
    said = answers[0] if answers else None
    if said is None or said.tool_calls or (said.reasoning and not said.text):
        return None
    return said.text


@dataclass(frozen=True, slots=True)
class _Seen:
    """All that names the keys of a chat, at one moment. `known` is the size of `gens`."""

    first: int
    last: int | None
    active: tuple[str, ...]
    generations: tuple[str, ...]
    known: int
    now: int


def _seen(keys: ChatKeys) -> Reads[_Seen]:
    def parse(replies: Sequence[Any]) -> _Seen:
        seq, oldest, active, gens, now, latest = replies
        last = last_seq(seq, latest)
        ids = tuple(as_text(active or "").split())
        known = tuple(map(as_text, gens))
        nothing_kept = (last or 0) + 1
        first = min(seq_of(oldest[0][0]), nothing_kept) if oldest else nothing_kept
        ms = int(now[0]) * 1000 + int(now[1]) // 1000
        return _Seen(first, last, ids, tuple(dict.fromkeys((*known, *ids))), len(known), ms)

    return Reads(
        (
            ("GET", keys.seq),
            ("XRANGE", keys.log, "-", "+", "COUNT", 1),
            ("HGET", keys.head, "active"),
            ("ZRANGE", keys.gens, 0, -1),
            ("TIME",),
            newest(keys),
        ),
        parse,
    )


def _active(keys: ChatKeys) -> Reads[tuple[str, ...]]:
    return Reads((("HGET", keys.head, "active"),), lambda replies: tuple(as_text(replies[0] or "").split()))


def _active_of_existing(keys: ChatKeys) -> Reads[tuple[str, ...]]:
    """Return the read of the active generations that raises `ChatNotFound` where there is no chat."""

    def parse(replies: Sequence[Any]) -> tuple[str, ...]:
        if last_seq(replies[0], replies[2]) is None:
            raise ChatNotFound(keys.chat_id)
        return tuple(as_text(replies[1] or "").split())

    return Reads((("GET", keys.seq), ("HGET", keys.head, "active"), newest(keys)), parse)


def _remember_place(keys: ChatKeys, generation_id: str, ttl_ms: int) -> Reads[int]:
    now = time.time_ns() // 1_000_000
    return Reads(
        (
            ("SET", place_of(generation_id), f"{keys.tenant} {keys.chat_id}", "PX", ttl_ms),
            ("ZADD", UNENDED, now, keys.unended(generation_id)),
            ("ZREMRANGEBYSCORE", UNENDED, "-inf", now - UNENDED_MS),
            ("PEXPIRE", UNENDED, UNENDED_MS),
        ),
        len,
    )


def _forget_places(keys: ChatKeys, generations: Sequence[str]) -> Reads[int]:
    return Reads(
        (
            ("DEL", *map(place_of, generations)),
            ("ZREM", UNENDED, *map(keys.unended, generations)),
            ("ZREM", RESENT, *map(keys.unended, generations)),
        ),
        len,
    )


def _place(generation_id: str) -> Reads[ChatKeys | None]:
    def parse(replies: Sequence[Any]) -> ChatKeys | None:
        return ChatKeys(*as_text(replies[0]).split()) if replies[0] else None

    return Reads((("GET", place_of(generation_id)),), parse)


def _after(keys: ChatKeys, generation_id: str) -> Reads[int]:
    return Reads((("HGET", keys.gen(generation_id), "after"),), lambda replies: int(replies[0] or 0))


def _is_queued(keys: ChatKeys, generation_id: str) -> Reads[bool]:
    return Reads((("HGET", keys.gen(generation_id), "status"),), lambda replies: as_text(replies[0]) == "queued")


def _request_ids(keys: ChatKeys, generations: Sequence[str]) -> Reads[list[str]]:
    commands = tuple(("HGET", keys.gen(one), "request_id") for one in generations)
    return Reads(commands, lambda replies: [as_text(found) for found in replies if found])


_FIELDS = ("status", "attempt", "after", "created", "started", "ended", "lease", "stop", "owner", "lost")


def _statuses(keys: ChatKeys, generations: Sequence[str], now: int) -> Reads[list[GenerationStatus | None]]:
    commands = tuple(("HMGET", keys.gen(one), *_FIELDS) for one in generations)
    return Reads(
        commands, lambda replies: [_status(one, reply, now) for one, reply in zip(generations, replies, strict=True)]
    )


def _status(generation_id: str, fields: Sequence[Any], now: int) -> GenerationStatus | None:
    if fields[0] is None:
        return None
    state: Any = as_text(fields[0])
    number = [None if value is None else int(value) for value in fields[1:7]]
    if state == "running" and (number[5] or 0) <= now:
        state = "stalled"
    elif fields[9] is not None:
        state = "lost"
    return GenerationStatus(
        id=generation_id,
        state=state,
        attempt=number[0] or 0,
        after=number[1] or 0,
        created=number[2] or 0,
        started=number[3],
        ended=number[4],
        lease_until=number[5],
        stop_asked=fields[7] is not None,
        owner=as_text(fields[8]) or None if fields[8] is not None else None,
    )
