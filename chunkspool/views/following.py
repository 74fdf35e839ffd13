"""Following a chat: its events as they are in the log, from any cursor on."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from chunkspool.dialects.native import NativeEncoder
from chunkspool.effects import drive
from chunkspool.errors import CorruptLog
from chunkspool.events import Entry
from chunkspool.reading.replay_report import report_failed_replay
from chunkspool.results import ChatStatus
from chunkspool.spool.sync import Spool
from chunkspool.store.positions import checked_position
from chunkspool.views.calls import SpoolCall
from chunkspool.views.event_stream import EventStream


def follow(
    spool: Spool, chat_id: str, cursor: int | str = 0, *, waits: bool = False, times: bool = False
) -> EventStream | None:
    """Return the stream of the chat's events behind `cursor`: a seq, or the `id:` of an event (`Last-Event-ID`).

    It ends when nothing is active; with `waits` it stays open then. None means that nothing will come: answer 204, and
    an EventSource does not reconnect. `times`: each event's time stands in a comment before it. Raises `ChatNotFound`,
    `InvalidCursor`, `CursorAhead`, `CursorExpired` or a `StoreError`.
    """
    with report_failed_replay(spool.observer):
        return drive(find_stream(chat_id, cursor, waits=waits, times=times), lambda call: call.make(spool))


def find_stream(
    chat_id: str, cursor: int | str, *, waits: bool, times: bool
) -> Generator[SpoolCall[Any], Any, EventStream | None]:
    """Do what `follow` says, for whoever drives it."""
    # A malformed cursor is an error, not a 0: otherwise a client's bug would replay the whole chat.
    after = str(checked_position(cursor))
    # The status comes first: an ending that is written between the two is then found by the read.
    status = yield from SpoolCall[ChatStatus](lambda spool: spool.status(chat_id, generation_ids=()))
    # What is wrong must be found before the stream starts: afterwards no HTTP status can be sent.
    has_newer = yield from _has_newer(chat_id, after)
    if not (has_newer or status.active or waits):
        return None
    return EventStream(chat_id, after, "forever" if waits else "idle", NativeEncoder(times=times))


def _has_newer(chat_id: str, after: str) -> Generator[SpoolCall[Any], Any, bool]:
    try:
        page = yield from SpoolCall[list[Entry]](lambda spool: spool.read(chat_id, after, 1))
    except CorruptLog as error:
        if error.seq is None:
            raise
        return True  # the stream says so in its place
    return bool(page)
