"""Makes a chat of the beginning of another one. Without I/O.

A log has no question without its generation, so a copy that would end between the two goes on to the generation.
The log is copied in small steps into a key that expires by itself, and becomes the chat's log in one step: of whoever
dies before that, nothing stays. From then on, the two chats have nothing to do with each other.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final

from chunkspool.effects import Operation
from chunkspool.errors import (
    ChatExists,
    ChatNotFound,
    ChunkspoolError,
    CorruptLog,
    CursorAhead,
    CursorExpired,
    InvalidInput,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
    shown,
)
from chunkspool.events import KNOWN_TYPES, Entry, GenerationStopped, MessageEvent, encode
from chunkspool.ids import checked_id
from chunkspool.operations.erase_chat import erase
from chunkspool.operations.limits import limit_error
from chunkspool.operations.log_sizes import measure_again
from chunkspool.operations.new_messages import RECENT_MAX, recent_keys
from chunkspool.operations.people import find_owners, touch_all
from chunkspool.request import checked_ttl
from chunkspool.results import Fork
from chunkspool.settings import Settings
from chunkspool.states import ENDING_TYPES
from chunkspool.store import digests, forks
from chunkspool.store.chats import Listed, lists_of, owners_of, read_head, unlist
from chunkspool.store.entries import entry_of
from chunkspool.store.erasures import is_being_erased
from chunkspool.store.keys import ChatKeys
from chunkspool.store.log_size import LogSize, measure
from chunkspool.store.pages import entries_that_fit, page_after
from chunkspool.store.positions import Position, checked_position
from chunkspool.store.schedule import NOBODY, Reservation, hash_of
from chunkspool.store.totals import count_sizes
from chunkspool.store.touched import TOUCHED_AT_ONCE

KEPT_AFTER_LOG_MS: Final = 7 * 86_400_000
"""How much longer than its log a chat's counter is kept, as in lua/prelude.lua."""
FIRST_PAGE: Final = 100
"""Entries of the first read, which tells how many of them one step takes."""


def fork(
    source: ChatKeys, target: ChatKeys, settings: Settings, *, at: object, ttl: float | None, owner: str | None
) -> Operation[Fork]:
    """Make `target` of what `source` holds up to and including `at`, and the generation of a question at its end.

    `at` None: of all of it.
    """
    wanted = None if at is None else checked_position(at)
    if wanted is not None and not wanted.seq:
        raise InvalidInput(f"at={shown(at)}: a fork has at least one event, so pass a seq from 1 on, or its cursor")
    if source == target:
        raise InvalidInput(f"a fork of chat {source.chat_id!r} needs an id of its own")
    if owner is not None:
        checked_id("owner", owner)
    ttl_ms = round(checked_ttl(settings.log.ttl if ttl is None else ttl) * 1000)
    making = _Making(source, target, owner)
    try:
        yield from making.check_vacancy(ttl_ms)
        yield from making.copy(wanted)
        size = yield from making.check_vacancy(ttl_ms)
        reserved = yield from _reserve(target, owner, size, settings)
        try:
            yield from making.make(reserved.ttl_ms if ttl is None and reserved.ttl_ms else ttl_ms)
            yield from making.check_source()
        except (ChatExists, ChatNotFound, CorruptLog, CursorAhead, CursorExpired, StoreFull, StoreRefused):
            # After any other error it may be there: what is noted of a chat that is not is found out later.
            with suppress(StoreError):
                yield from _give_back(target, owner, reserved)
            raise
    except ChunkspoolError:
        with suppress(StoreError):
            yield from forks.drop(target, making.token)
        raise
    with suppress(StoreError):  # it was noted before, if not as exactly
        yield from _count(target, hash_of(target.tenant, owner))
    return making.result()


class _Making:
    """One copy: how far it goes, and which generations have not ended in it."""

    def __init__(self, source: ChatKeys, target: ChatKeys, owner: str | None) -> None:
        self.token = secrets.token_hex(6)
        self._source = source
        self._target = target
        self._owner = owner
        self._position = Position(0)
        """Where it stands in the source."""
        self._end = Position(0, self.token)
        """Where the copy ends."""
        self._now = 0
        self._open: dict[str, None] = {}
        self._ended: set[str] = set()
        self._unasked: str | None = None
        """The generation of the message at the end of the copy; its `generation.queued` comes behind that."""
        self._owners: list[str] = []
        self._messages: deque[MessageEvent] = deque(maxlen=RECENT_MAX)

    def check_vacancy(self, ttl_ms: int) -> Operation[LogSize]:
        """Return what the copy takes so far. Raises `ChatExists` where the chat has anything."""
        seen = yield from forks.look(self._target, self.token, ttl_ms)
        if not seen.is_vacant:
            raise ChatExists(self._target.chat_id)
        self._now = seen.now
        return seen.size

    def copy(self, wanted: Position | None) -> Operation[None]:
        """Copy the log up to `wanted`, and end in the copy what has not ended there."""
        kept = yield from digests.extent(self._source)
        last = kept.last if wanted is None else wanted.seq
        if last > kept.last:
            raise CursorAhead(last, kept.last)
        self._position = Position(kept.first - 1)
        limit = FIRST_PAGE
        while self._position.seq < last:
            entries = yield from self._read(min(limit, last - self._position.seq))
            for step in _steps(entries):
                yield from self._stage(step)
            limit = entries_that_fit(entries, forks.STEP_BYTES, forks.STEP_EVENTS) if entries else FIRST_PAGE
        is_other = wanted is not None and wanted.contradicts(self._position.log, self._position.at)
        if self._end.seq != last or is_other:
            raise CursorExpired(last, 1 if is_other else kept.first, kept.last)
        yield from self._go_on_to_generation(kept.last)
        yield from self._end_all()

    def make(self, ttl_ms: int) -> Operation[None]:
        """Let the copy become the chat's log, if its source was not erased meanwhile."""
        owners = yield from self._note_owners(ttl_ms)
        head = yield from read_head(self._source)
        yield from self._check_log()
        outcome = yield from forks.make(
            self._target,
            self.token,
            last=self._end.seq,
            ttl_ms=ttl_ms,
            owners=owners,
            title=head.title if head else None,
            recent=recent_keys(tuple(self._messages)),
        )
        if outcome == "exists":
            raise ChatExists(self._target.chat_id)
        if outcome == "gone":
            raise _lost_copy()

    def check_source(self) -> Operation[None]:
        """Take the chat back where its source was erased while it was made, or one who has asked there is being erased.

        Whoever is erased from now on has the new chat among those that they have touched.
        """
        try:
            yield from self._check_log()
            yield from self._check_owners()
        except (ChatNotFound, CursorAhead, CursorExpired):
            yield from erase(self._target)
            raise

    def _check_owners(self) -> Operation[None]:
        for start in range(0, len(self._owners), TOUCHED_AT_ONCE):
            some = self._owners[start : start + TOUCHED_AT_ONCE]
            if (yield from is_being_erased(self._source.tenant, some)):
                raise ChatNotFound(self._source.chat_id)

    def _check_log(self) -> Operation[None]:
        yield from page_after(self._source, self._position, 1)

    def _note_owners(self, ttl_ms: int) -> Operation[list[str]]:
        """Note whose it is before it is there; return those for whom `head` has room.

        What is in the source is also theirs who have asked there: an erasure of one of them is to find it.
        """
        owners = self._owners = yield from find_owners(self._source)
        kept_ms = ttl_ms + KEPT_AFTER_LOG_MS
        yield from touch_all(self._target, owners, ttl_ms)
        if self._owner is not None:
            whose = hash_of(self._target.tenant, self._owner)
            owners = [*(one for one in owners if one != whose), whose]
        rest = owners[: -forks.OWNERS_MAX]
        for start in range(0, len(rest), TOUCHED_AT_ONCE):
            yield from forks.add_owners(self._target, rest[start : start + TOUCHED_AT_ONCE], kept_ms)
        return owners[-forks.OWNERS_MAX :]

    def result(self) -> Fork:
        """Return what was made."""
        return Fork(self._target.chat_id, self._end.seq, str(self._end))

    def _read(self, limit: int) -> Operation[list[Entry]]:
        """Read on. A hole in the log, which somebody made by hand, is one in the copy, too."""
        try:
            page = yield from page_after(self._source, self._position, limit)
        except CursorExpired as hole:
            if hole.first <= self._position.seq + 1:
                raise  # it is another log by now
            self._position = Position(hole.first - 1)
            return []
        entries = [entry_of(item) for item in page.entries]
        self._position = Position(entries[-1].seq, page.log, entries[-1].at)
        return entries

    def _go_on_to_generation(self, last: int) -> Operation[None]:
        """Copy the rest of what one enqueue wrote: further messages, and the generation that they were asked with."""
        while self._unasked is not None and self._end.seq < last:
            # One by one: mostly there is one, and what comes behind it is not wanted.
            entries = yield from self._read(1)
            if [one.generation_id for one in entries] != [self._unasked]:
                return  # a log that somebody has spoiled
            yield from self._stage(entries)

    def _stage(self, entries: Sequence[Entry]) -> Operation[None]:
        if not (yield from forks.stage(self._target, self.token, self._end.seq, entries)):
            raise _lost_copy()
        newest = entries[-1]
        self._end = Position(newest.seq, self.token, newest.at)
        self._unasked = newest.generation_id if newest.type == "message" else None
        for entry in entries:
            if entry.type == "message" and isinstance(entry.event, MessageEvent):
                self._messages.append(entry.event)
            if entry.type in ENDING_TYPES:
                self._ended.add(entry.generation_id)
                self._open.pop(entry.generation_id, None)
            elif entry.type in KNOWN_TYPES and entry.generation_id not in self._ended:
                self._open.setdefault(entry.generation_id)

    def _end_all(self) -> Operation[None]:
        """End the generations that go on in the source: nobody writes them here."""
        endings = [GenerationStopped(generation_id=one, by="fork") for one in self._open]
        first = self._end.seq + 1
        entries = [Entry(first + i, self._now, event, encode(event)) for i, event in enumerate(endings)]
        for step in _steps(entries):
            yield from self._stage(step)


def _steps(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Return the entries in as many parts as it takes for each to be one step."""
    step: list[Entry] = []
    size = 0
    for entry in entries:
        if step and (len(step) == forks.STEP_EVENTS or size + len(entry.raw) > forks.STEP_BYTES):
            yield step
            step, size = [], 0
        step.append(entry)
        size += len(entry.raw)
    if step:
        yield step


def _reserve(target: ChatKeys, owner: str | None, size: LogSize, settings: Settings) -> Operation[Reservation]:
    """Note the chat before it is there, as an enqueue does. Raises `LimitExceeded`."""
    call = forks.reserve_fork(target, owner, size, settings.policy)
    reserved = yield from call
    if reserved.suspects:
        # One of those that count may have been erased or evicted.
        yield from measure_again(target, reserved.suspects)
        reserved = yield from call
    if reserved.limit:
        raise limit_error(reserved)
    return reserved


def _count(target: ChatKeys, owner_hash: str) -> Operation[None]:
    """Note what the chat takes, and whose it is; that there is none, if so."""
    size = yield from measure(target)
    yield from count_sizes(target.tenant, [(target.chat_id, size)], owner_hash=owner_hash)


def _give_back(target: ChatKeys, owner: str | None, reserved: Reservation) -> Operation[None]:
    """Take back what was noted: there is no such chat, or somebody else has made it."""
    for key, before in zip(lists_of(target.tenant, owner), reserved.asked_before, strict=False):
        yield from unlist(key, [Listed(target.chat_id, reserved.asked)], before)
    owners = yield from owners_of(target)
    yield from _count(target, owners[-1] if owners else NOBODY)


def _lost_copy() -> StoreUnavailable:
    return StoreUnavailable(
        f"the copy was lost while it was made: Redis has evicted it, or a step took more than "
        f"{forks.COPY_MS // 1000} seconds; try again"
    )
