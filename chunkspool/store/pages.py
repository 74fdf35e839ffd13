"""Pages of a log: the entries after a cursor and the state of the chat at one moment, and what a cursor may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from chunkspool.errors import ChatNotFound, CorruptLog, CursorAhead, CursorExpired, GenerationNotFound, InvalidCursor
from chunkspool.states import ENDED
from chunkspool.store.commands import Command, Transaction, as_text
from chunkspool.store.entries import Item, items_of_stream, seq_of
from chunkspool.store.keys import ChatKeys

PAGE: Final = 500
"""Entries of one read: large enough that a replay is not round trips, small enough for a reader's memory."""
MAX_SEQ: Final = 2**53
"""Lua's numbers are exact up to here."""


@dataclass(frozen=True, slots=True)
class Page:
    """Consecutive entries after a cursor, and the state of the chat at the same moment."""

    entries: tuple[Item, ...]
    last: int
    active: tuple[str, ...]
    born: str = ""
    until_ended: bool = False


def checked_cursor(value: object) -> int:
    """Return `value` as a cursor. Raises `InvalidCursor` for anything but a whole number from 0 up."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SEQ:
        return value
    raise InvalidCursor(value)


def page_after(
    keys: ChatKeys, after: int, limit: int = PAGE, generation_id: str | None = None, born: str = ""
) -> Transaction[Page]:
    """Read up to `limit` entries after the cursor `after`, and whether `generation_id` has ended.

    `born` is that of an earlier page, if there was one: where the log is another one by now (Redis came back empty and
    the chat was made again), the cursor has expired whatever its number is.
    It raises `ChatNotFound`, `GenerationNotFound`, `CursorAhead`, `CursorExpired` or `CorruptLog`.
    """
    state = chat_state(keys, generation_id)
    log = ("XRANGE", keys.log, f"{after + 1}-0", "+", "COUNT", limit)

    def parse(replies: Sequence[Any]) -> Page:
        *seen, latest, found = replies
        page = state.parse((last_seq(seen[0], latest), *seen[1:]))
        if after and is_other_log(page.born, born):
            raise CursorExpired(after, 1, page.last)
        entries = _consecutive(items_of_stream(found), after, page.last)
        return replace(page, entries=entries)

    return Transaction((*state.commands, newest_entry(keys), log), parse, limit)


def chat_state(keys: ChatKeys, generation_id: str | None) -> Transaction[Page]:
    """Read a page without entries: how the chat stands, and whether `generation_id` has ended."""
    commands: tuple[Command, ...] = (
        ("GET", keys.seq),
        ("HMGET", keys.head, "active", "born"),
        ("EXISTS", keys.log),
    )
    if generation_id is not None:
        commands += (("HGET", keys.gen(generation_id), "status"),)

    def parse(replies: Sequence[Any]) -> Page:
        if replies[0] is None:
            raise ChatNotFound(keys.chat_id)
        active, born = replies[1]
        ended = False
        if generation_id is not None:
            if replies[3] is None:
                raise GenerationNotFound(keys.chat_id, generation_id)
            ended = as_text(replies[3]) in ENDED
        # Where the log has expired, so have its generations: nobody waits for one that never ran.
        running = active_ids(active) if replies[2] else ()
        return Page((), int(replies[0]), running, as_text(born or ""), ended)

    return Transaction(commands, parse)


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


def is_other_log(born: str, known: str) -> bool:
    """Tell whether a log that was `born` then is another one than the one that is `known`; "" is not known."""
    return "" not in {born, known} and born != known


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
