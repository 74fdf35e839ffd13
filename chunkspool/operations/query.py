"""Tells how a chat stands and what it holds: read, snapshot, status, how far readers have read. Without I/O."""

from __future__ import annotations

from dataclasses import replace

from chunkspool.effects import Operation
from chunkspool.errors import ChatNotFound, CorruptLog, CursorAhead, CursorExpired, InvalidInput, shown
from chunkspool.events import Entry
from chunkspool.fold import Answer, fold
from chunkspool.ids import checked_id
from chunkspool.results import ChatStatus, GenerationStatus, Snapshot, Transcript
from chunkspool.store import queries, scripts
from chunkspool.store.entries import entry_of
from chunkspool.store.keys import ChatKeys
from chunkspool.store.pages import page_after
from chunkspool.store.positions import Position, checked_position
from chunkspool.store.schedule import position

MAX_LIMIT = 10_000
"""Entries of one `read`: their events are decoded in one go."""


def read(keys: ChatKeys, after: object, limit: int) -> Operation[list[Entry]]:
    """Return up to `limit` entries after the cursor. Raises `CorruptLog` where the first of them cannot be decoded."""
    cursor = checked_position(after)
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= MAX_LIMIT:
        raise InvalidInput(f"limit={shown(limit)}: pass a whole number from 1 to {MAX_LIMIT}")
    page = yield from page_after(keys, cursor, limit)
    entries: list[Entry] = []
    for item in page.entries:
        try:
            entries.append(entry_of(item))
        except CorruptLog:
            if not entries:
                raise
            break  # what stands before it is returned first; the next read raises
    return entries


def snapshot(keys: ChatKeys) -> Operation[Snapshot]:
    """Fold what is kept of the chat. An entry that cannot be decoded, or is no longer kept, is passed over."""
    found = yield from status(keys)
    cursor, answers = found.first - 1, tuple[Answer, ...]()
    while True:
        try:
            page = yield from page_after(keys, Position(cursor))
        except CursorExpired as gap:
            cursor = gap.first - 1
            continue
        except CorruptLog as foreign:
            if foreign.seq is None:
                raise
            return Snapshot(keys.chat_id, answers, cursor, found.active, str(cursor))
        events = []
        for item in page.entries:
            cursor = item.seq
            if isinstance(item, Entry):
                events.append(item.event)
        answers = fold(events, onto=answers)
        if cursor >= page.last:
            place = Position(cursor, page.log, page.last_at if cursor == page.last else 0)
            return Snapshot(keys.chat_id, answers, cursor, page.active, str(place))


def status(keys: ChatKeys) -> Operation[ChatStatus]:
    """Tell how the chat stands."""
    found = yield from queries.inventory(keys)
    if found.last is None:
        raise ChatNotFound(keys.chat_id)
    generations = yield from queries.statuses(keys, found.generation_ids, found.now)
    generations.sort(key=lambda generation: generation.after)
    generations = yield from _with_positions(keys, generations)
    # Where the log has expired, so have its generations (see `store.pages.chat_state`); one may expire before it.
    known = {generation.generation_id for generation in generations}
    active = tuple(one for one in found.active if one in known) if found.first <= found.last else ()
    return ChatStatus(keys.chat_id, found.first, found.last, active, tuple(generations), found.now)


def _with_positions(keys: ChatKeys, generations: list[GenerationStatus]) -> Operation[list[GenerationStatus]]:
    """Say of those that wait for their turn when it comes."""
    told: list[GenerationStatus] = []
    for one in generations:
        place = (yield from position(keys, one.generation_id)) if one.state == "queued" else None
        wait = None if place is None or place.wait_ms is None else place.wait_ms / 1000
        told.append(one if place is None else replace(one, ahead=place.ahead, wait=wait))
    return told


def transcript(keys: ChatKeys) -> Operation[Transcript | None]:
    """Return the chat's newest transcript; None where there is none."""
    found = yield from queries.inventory(keys)
    if found.last is None:
        raise ChatNotFound(keys.chat_id)
    # Not only of the generation that `head` names: it may have been evicted.
    held = (yield from queries.transcripts(keys, found.generation_ids)) if found.generation_ids else []
    return max(held, key=lambda one: one.after, default=None)


def mark_read(keys: ChatKeys, reader: str, seq: object) -> Operation[int]:
    """Note that the reader has read up to `seq`; return how far it has, which is never less than before."""
    checked_id("reader", reader)
    wanted = checked_position(seq if isinstance(seq, int) else None).seq
    reply = yield from scripts.mark_read(keys, reader, wanted)
    if reply.outcome == "gone":
        raise ChatNotFound(keys.chat_id)
    if reply.outcome == "ahead":
        raise CursorAhead(wanted, reply.seq)
    return reply.seq


def last_read(keys: ChatKeys, reader: str) -> Operation[int]:
    """Return the seq up to which the reader has read, 0 if it never said. Raises `ChatNotFound`."""
    return (yield from queries.last_read(keys, reader))
