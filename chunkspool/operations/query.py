"""Tells how a chat stands and what it holds: read, snapshot, status, how far readers have played. Without I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chunkspool.effects import Operation
from chunkspool.errors import ChatNotFound, CorruptLog, CursorAhead, CursorExpired, InvalidInput, shown
from chunkspool.events import Entry
from chunkspool.fold import Answer, fold
from chunkspool.reading.cursor import PAGE, Page, checked_cursor, last_seq, newest, page_after
from chunkspool.results import ChatStatus, GenerationStatus, Snapshot
from chunkspool.store import scripts
from chunkspool.store.commands import Reads, as_text
from chunkspool.store.entries import opened, seq_of
from chunkspool.store.keys import ChatKeys, checked_id
from chunkspool.store.scripts import Played

MAX_LIMIT = 10_000
"""Entries of one `read`: their events are decoded in one go."""


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


def chat_status(keys: ChatKeys) -> Operation[ChatStatus]:
    """Say how the chat stands."""
    moment: Seen = yield seen(keys)
    if moment.last is None:
        raise ChatNotFound(keys.chat_id)
    found: list[GenerationStatus | None] = yield _statuses(keys, moment.generations, moment.now)
    generations = sorted((g for g in found if g), key=lambda g: g.after)
    active = moment.active if moment.first <= moment.last else ()  # see page_after
    return ChatStatus(keys.chat_id, moment.first, moment.last, active, tuple(generations), moment.now)


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


@dataclass(frozen=True, slots=True)
class Seen:
    """All that names the keys of a chat, at one moment. `known` is the size of `gens`."""

    first: int
    last: int | None
    active: tuple[str, ...]
    generations: tuple[str, ...]
    known: int
    now: int


def seen(keys: ChatKeys) -> Reads[Seen]:
    """Return the read of all that names the keys of a chat."""

    def parse(replies: Sequence[Any]) -> Seen:
        seq, oldest, active, gens, now, latest = replies
        last = last_seq(seq, latest)
        ids = tuple(as_text(active or "").split())
        known = tuple(map(as_text, gens))
        nothing_kept = (last or 0) + 1
        first = min(seq_of(oldest[0][0]), nothing_kept) if oldest else nothing_kept
        ms = int(now[0]) * 1000 + int(now[1]) // 1000
        return Seen(first, last, ids, tuple(dict.fromkeys((*known, *ids))), len(known), ms)

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
