"""Pages of a log: the entries after a position and the state of the chat at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from chunkspool.errors import ChatNotFound, CorruptLog, CursorAhead, CursorExpired, GenerationNotFound
from chunkspool.events import Entry
from chunkspool.states import ENDED
from chunkspool.store.commands import Command, Transaction, as_text
from chunkspool.store.entries import Item, at_of, items_of_stream, seq_of
from chunkspool.store.keys import ChatKeys
from chunkspool.store.positions import Position

PAGE: Final = 500
"""Entries of one read: large enough that a replay is not round trips, small enough for a reader's memory."""


@dataclass(frozen=True, slots=True)
class Page:
    """Consecutive entries after a position, and the state of the chat at the same moment.

    `last` is the chat's last seq and `last_at` when that event was written (Unix ms; 0: not known), `log` the log's
    identity. `listed` are the generations that `head` lists, `active` those of them that exist. `head_lost`: which are
    active is not known, because `head` was evicted.
    """

    entries: tuple[Item, ...]
    last: int
    active: tuple[str, ...]
    log: str = ""
    last_at: int = 0
    until_ended: bool = False
    head_lost: bool = False
    listed: tuple[str, ...] = ()


def page_after(
    keys: ChatKeys,
    after: Position,
    limit: int = PAGE,
    generation_id: str | None = None,
    suspects: Sequence[str] = (),
) -> Transaction[Page]:
    """Read up to `limit` entries after `after`, and how the chat stands; see `chat_state`.

    Where the log is another one by now, or an older copy of it that was written on, `after` has expired whatever its
    seq is. It raises `ChatNotFound`, `GenerationNotFound`, `CursorAhead`, `CursorExpired` or `CorruptLog`.
    """
    state = chat_state(keys, generation_id, suspects)
    # The event at the position comes along where it can prove something.
    from_there = bool(after.at)
    start = after.seq if from_there else after.seq + 1
    log = ("XRANGE", keys.log, f"{start}-0", "+", "COUNT", limit + from_there)

    def parse(replies: Sequence[Any]) -> Page:
        *seen, found = replies
        page = state.parse(seen)
        items = items_of_stream(found, page.log)
        there = next((item.at for item in items if item.seq == after.seq), None)
        if from_there:
            items = tuple(item for item in items if item.seq > after.seq)
        if after.contradicts(page.log, there):
            raise CursorExpired(after.seq, 1, page.last)
        return replace(page, entries=_consecutive(items, after.seq, page.last))

    return Transaction((*state.commands, log), parse, limit)


def chat_state(keys: ChatKeys, generation_id: str | None = None, suspects: Sequence[str] = ()) -> Transaction[Page]:
    """Read a page without entries: how the chat stands, and whether `generation_id` has ended.

    `suspects` are generations that were active: those whose hash is gone no longer are, whatever `head` says.
    """
    commands: list[Command] = [
        ("GET", keys.seq),
        ("HMGET", keys.head, "active", "log", "born"),
        newest_entry(keys),
    ]
    commands += [("EXISTS", keys.gen(suspect)) for suspect in suspects]
    if generation_id is not None:
        commands.append(("HGET", keys.gen(generation_id), "status"))

    def parse(replies: Sequence[Any]) -> Page:
        counter, (active, log, born), latest, *rest = replies
        last = last_seq(counter, latest)
        if last is None:
            raise ChatNotFound(keys.chat_id)
        ended = False
        if generation_id is not None:
            if rest[-1] is None:
                raise GenerationNotFound(keys.chat_id, generation_id)
            ended = as_text(rest[-1]) in ENDED
        gone = {suspect for suspect, exists in zip(suspects, rest, strict=False) if not exists}
        # Where the log has expired, so have its generations: nobody waits for one that never ran.
        listed = active_ids(active) if latest else ()
        return Page(
            entries=(),
            last=last,
            active=tuple(one for one in listed if one not in gone),
            log=as_text(log or ""),
            last_at=at_of(latest[0][1]) if latest and seq_of(latest[0][0]) == last else 0,
            until_ended=ended,
            head_lost=bool(latest) and active is None and log is None and born is None,
            listed=listed,
        )

    return Transaction(tuple(commands), parse)


def active_ids(reply: Any) -> tuple[str, ...]:
    """Return the ids in `head`'s field `active`, oldest first; none where it is not set."""
    return tuple(as_text(reply or "").split())


def newest_entry(keys: ChatKeys) -> Command:
    """Return the command that reads the log's last entry, for `last_seq`."""
    return ("XREVRANGE", keys.log, "+", "-", "COUNT", 1)


def last_seq(counter: Any, latest: Any) -> int | None:
    """Return the chat's last seq; where the counter was lost (evicted), the log tells it. None: there is no chat."""
    if counter is not None:
        return int(counter)
    return seq_of(latest[0][0]) if latest else None


def entries_that_fit(items: Sequence[Item], size: int, most: int) -> int:
    """Return how many entries like these have `size` bytes, from 1 to `most`; a few of them tell."""
    some = items[::8]
    bytes_of_some = sum(len(item.raw) for item in some if isinstance(item, Entry))
    return max(1, min(most, size * len(some) // max(bytes_of_some, 1)))


def _consecutive(entries: tuple[Item, ...], after: int, last: int) -> tuple[Item, ...]:
    """Return the entries up to the first hole. Raises for a cursor that the log cannot serve."""
    if after > last:
        raise CursorAhead(after, last)
    if after == last and not entries:
        return ()
    first = entries[0].seq if entries else last + 1
    if first > last and entries:
        raise CorruptLog(first, f"chunkspool wrote only up to {last}")
    if first != after + 1:
        raise CursorExpired(after, first, last)
    for i, entry in enumerate(entries):
        if entry.seq != first + i:
            return entries[:i]
    return entries
