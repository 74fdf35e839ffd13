"""Tells how a chat stands and what it holds: read, snapshot, status, how far readers have read. Without I/O."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from chunkspool.effects import Operation
from chunkspool.errors import ChatContended, ChatNotFound, CorruptLog, CursorAhead, CursorExpired, InvalidInput, shown
from chunkspool.events import Entry
from chunkspool.ids import checked_id
from chunkspool.operations.digests import make_digest
from chunkspool.operations.folding import fold_digest
from chunkspool.results import ChatStatus, GenerationStatus, Snapshot, Transcript, Waiting
from chunkspool.store import queries, scripts
from chunkspool.store.entries import entry_of
from chunkspool.store.keys import ChatKeys
from chunkspool.store.listing import list_ids, read_statuses, read_transcripts
from chunkspool.store.pages import page_after
from chunkspool.store.positions import checked_position
from chunkspool.store.schedule import hash_of, position
from chunkspool.store.touched import touch

MAX_LIMIT = 10_000
"""Entries of one `read`, whose events are decoded in one go; answers of one page of a snapshot."""
TOLD_OF_WAITING = 5
"""Generations of a chat of which is told when their turn comes: each costs a call."""
RACES = 5
"""How often a snapshot begins again because the chat was erased under it."""


def read(keys: ChatKeys, after: object, limit: int) -> Operation[list[Entry]]:
    """Return up to `limit` entries after the cursor. Raises `CorruptLog` where the first of them cannot be decoded."""
    cursor = checked_position(after)
    _check_limit(limit)
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


def snapshot(
    keys: ChatKeys, before: object = None, limit: int | None = None, within: float | None = None
) -> Operation[Snapshot]:
    """Fold what is kept of the chat. An entry that cannot be decoded, or is no longer kept, is passed over."""
    bound = None if before is None else checked_position(before).seq
    if limit is not None:
        _check_limit(limit)
    for _ in range(RACES):
        digest = yield from make_digest(keys, within)
        all_of_them = digest.generations()
        older = [one for one in all_of_them if bound is None or one[1] < bound]
        chosen = older if limit is None else older[-limit:]
        try:
            answers = yield from fold_digest(
                digest, None if len(chosen) == len(all_of_them) else {one for one, _ in chosen}
            )
        except (CursorAhead, CursorExpired):
            continue  # the chat was erased, or has expired, in the middle
        rest = chosen[0][1] if len(chosen) < len(older) else None
        waiting = yield from _waiting(keys, digest.active[:TOLD_OF_WAITING], digest.active)
        return Snapshot(keys.chat_id, answers, digest.seq, digest.active, digest.cursor, rest, waiting)
    raise ChatContended(keys.chat_id, "be folded")


def status(
    keys: ChatKeys,
    generation_ids: Collection[str] | None = None,
    before: str | None = None,
    limit: int | None = None,
) -> Operation[ChatStatus]:
    """Tell how the chat stands, and its newest generations, or these."""
    _check_page(generation_ids, before, limit)
    found = yield from queries.outline(keys)
    if found.last is None:
        raise ChatNotFound(keys.chat_id)
    rest = None
    if generation_ids is None:
        older = [one for one in (yield from list_ids(keys, found.active)) if before is None or one < before]
        chosen = older if limit is None else older[-limit:]
        rest = chosen[0] if len(chosen) < len(older) else None
    else:
        chosen = list(dict.fromkeys(generation_ids))
    wanted = set(chosen)
    others = [one for one in found.active if one not in wanted]
    seen = yield from read_statuses(keys, [*chosen, *others])
    # Where the log has expired, so have its generations (see `store.pages.chat_state`); one may expire before it.
    known = {generation.generation_id for generation in seen}
    active = tuple(one for one in found.active if one in known) if found.first <= found.last else ()
    generations = [one for one in seen if one.generation_id in wanted]
    generations.sort(key=lambda generation: generation.after)
    generations = yield from _with_positions(keys, generations, active)
    return ChatStatus(
        keys.chat_id,
        found.first,
        found.last,
        active,
        tuple(generations),
        found.now,
        rest,
        pinned=found.pinned,
        ttl=None if found.ttl_ms is None else found.ttl_ms / 1000,
        expires=found.expires,
    )


def _check_page(generation_ids: Collection[str] | None, before: str | None, limit: int | None) -> None:
    if limit is not None:
        _check_limit(limit)
    if generation_ids is not None and (before is not None or limit is not None):
        raise InvalidInput("pass either generation_ids, or before and limit")
    for one in (*(generation_ids or ()), *(() if before is None else (before,))):
        checked_id("generation_id", one)


def _with_positions(
    keys: ChatKeys, generations: list[GenerationStatus], active: Sequence[str]
) -> Operation[list[GenerationStatus]]:
    """Say of the first that wait for their turn when it comes."""
    queued = [one.generation_id for one in generations if one.state == "queued"]
    waiting = yield from _waiting(keys, queued[:TOLD_OF_WAITING], active)
    told = {one.generation_id: one for one in waiting}
    return [
        replace(one, ahead=told[one.generation_id].ahead, wait=told[one.generation_id].wait)
        if one.generation_id in told
        else one
        for one in generations
    ]


def _waiting(keys: ChatKeys, generation_ids: Collection[str], active: Sequence[str]) -> Operation[tuple[Waiting, ...]]:
    """Say when the turn comes of those of these that wait for it: in their line, or after others of the chat."""
    told, rest = {}, []
    for each_id in generation_ids:
        place = yield from position(keys, each_id)
        if place is None:
            rest.append(each_id)
        else:
            told[each_id] = Waiting(each_id, place.ahead, None if place.wait_ms is None else place.wait_ms / 1000)
    # Nothing is before the oldest.
    behind = yield from queries.behind(keys, [one for one in rest if one in active[1:]])
    if behind:
        # Those before the oldest are before all.
        first = told.get(active[0]) or (yield from position(keys, active[0]))
        for each_id in behind:
            told[each_id] = Waiting(each_id, active.index(each_id) + (first.ahead if first else 0), None)
    return tuple(told[one] for one in generation_ids if one in told)


def transcript(keys: ChatKeys) -> Operation[Transcript | None]:
    """Return the chat's newest transcript; None where there is none."""
    found = yield from queries.outline(keys)
    if found.last is None:
        raise ChatNotFound(keys.chat_id)
    holder = yield from queries.transcript_holder(keys)
    held = (yield from queries.transcripts(keys, [holder])) if holder else []
    if not held and (holder or not (yield from queries.has_identity(keys))):
        # `head` was evicted, or what it names.
        held = yield from read_transcripts(keys, (yield from list_ids(keys, found.active)))
    return max(held, key=lambda one: one.after, default=None)


def mark_read(keys: ChatKeys, reader: str, seq: object) -> Operation[int]:
    """Note that the reader has read up to `seq`; return how far it has, which is never less than before."""
    checked_id("reader", reader)
    wanted = checked_position(seq if isinstance(seq, int) else None).seq
    reply = yield from scripts.mark_read(keys, reader, wanted)
    if reply.outcome == "new":
        yield from touch(keys.tenant, keys.chat_id, [hash_of(keys.tenant, reader)], reply.kept_ms)
        reply = yield from scripts.mark_read(keys, reader, wanted, is_noted=True)
    if reply.outcome == "gone":
        raise ChatNotFound(keys.chat_id)
    if reply.outcome == "ahead":
        raise CursorAhead(wanted, reply.seq)
    return reply.seq


def last_read(keys: ChatKeys, reader: str) -> Operation[int]:
    """Return the seq up to which the reader has read, 0 if it never said. Raises `ChatNotFound`."""
    return (yield from queries.last_read(keys, reader))


def _check_limit(limit: int) -> None:
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= MAX_LIMIT:
        raise InvalidInput(f"limit={shown(limit)}: pass a whole number from 1 to {MAX_LIMIT}")
