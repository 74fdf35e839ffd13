"""Erases a person: every chat in which they have asked, and what else is noted of them. Without I/O.

What is to be gone through is set aside first, under the person's name, and each chat leaves that list when nothing of
the person is left in it. So whoever dies in the middle leaves a note, by which the sweep goes on; and what is asked
meanwhile belongs to no erasure, so each has an end.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Final

from chunkspool.effects import Operation
from chunkspool.errors import ChatContended, CorruptLog, StoreRefused
from chunkspool.ids import checked_id
from chunkspool.operations.endings import tell_stopped
from chunkspool.operations.erase_chat import Removed, remove_chat
from chunkspool.operations.outcomes import forget_owner
from chunkspool.operations.people import find_lists, leave_lists
from chunkspool.results import ErasedOwner
from chunkspool.store import erasures, scripts
from chunkspool.store.erasures import Leaving, Person
from chunkspool.store.index import YOUNG_MS
from chunkspool.store.keys import ChatKeys
from chunkspool.store.listing import list_ids
from chunkspool.store.schedule import note
from chunkspool.store.touched import TOUCHED_AT_ONCE, Touched

_LOG = logging.getLogger("chunkspool.audit")
SILENT_MS: Final = 60_000
"""An erasure that has not gone on for so long was left by its process: the sweep goes on with it."""
SWEEP_SECONDS: Final = 2.0
"""How long one sweep goes on with erasures; the next sweep does the rest."""
KEPT_MS: Final = 86_400_000
"""How long it is noted at least that somebody was about to leave something in a chat: the sweep looks at it earlier."""
LEAVING_MS: Final = 30 * 86_400_000
"""How long it is noted which lists a chat is to be taken out of; the sweep does it earlier."""


def erase_owner(tenant: str, owner: str, db: int) -> Operation[ErasedOwner]:
    """Erase what an owner has left until now. Raises `InvalidId` or `StoreError`; the sweep does what is left then."""
    person = Person(tenant, checked_id("owner", owner))
    # Before it begins: what is asked from then on is not to be stopped.
    active = yield from _list_active(person)
    now = yield from erasures.begin(person, is_asked_for=True)
    erasing = _Erasing(person, db, now)
    yield from erasing.stop(active)
    return (yield from erasing.run(math.inf))


def go_on_erasing(db: int) -> Operation[None]:
    """Go on with erasures whose processes have died, for a bounded time. A chat that is broken stops no other's."""
    late_at = time.monotonic() + SWEEP_SECONDS
    under_way = yield from erasures.under_way()
    for person, at in under_way.erasures:
        if under_way.now - at >= SILENT_MS and time.monotonic() < late_at:
            now = yield from erasures.begin(person, is_asked_for=False)
            yield from _Erasing(person, db, now).run(late_at)


def _list_active(person: Person) -> Operation[list[str]]:
    active: list[str] = []
    while True:
        page = yield from erasures.list_active(person, len(active))
        active += page
        if len(page) < erasures.ACTIVE_AT_ONCE:
            return list(dict.fromkeys(active))


class _Erasing:
    """One go at an erasure, from where it stands."""

    def __init__(self, person: Person, db: int, now: int) -> None:
        self._person = person
        self._db = db
        self._now = now
        self._done = ErasedOwner(person.tenant, person.hash)
        self._left = Leaving({}, frozenset())

    def run(self, late_at: float) -> Operation[ErasedOwner]:
        """Go on until all is erased, or `late_at`; return what was."""
        self._left = yield from erasures.read_leaving(self._person)
        is_over = False
        while not is_over and not self._done.failed and (yield from self._go_through(late_at)):
            # Their outcomes may have outlived their chats.
            yield from forget_owner(self._person.tenant, self._person.owner)
            # There is more where another erasure was asked for while this one was under way.
            is_over = yield from erasures.end(self._person)
        self._report(is_over=is_over)
        return self._done

    def _go_through(self, late_at: float) -> Operation[bool]:
        """Erase chat by chat; return whether none is left."""
        while True:
            chats, places = yield from erasures.list_erasing(self._person, len(self._done.failed))
            for one in chats:
                if time.monotonic() >= late_at:
                    return False
                try:
                    yield from self._erase_from(one)
                except (CorruptLog, StoreRefused, ChatContended) as error:
                    self._done = replace(self._done, failed=(*self._done.failed, (one.chat_id, error)))
            if places < TOUCHED_AT_ONCE:
                return not self._done.failed

    def _erase_from(self, chat: Touched) -> Operation[None]:
        """Erase the person from a chat: all of it, if they have asked there."""
        keys = ChatKeys(self._person.tenant, chat.chat_id, self._db)
        share = yield from erasures.look(keys, self._person)
        stays: int | None = None
        if (
            share.has_asked
            or chat.chat_id in self._left.lists
            or (yield from self._has_generation(keys, is_known=share.is_known))
        ):
            yield from self._erase_all(keys)
        elif share.has_read:
            yield from erasures.note_reading(self._person, chat.chat_id, LEAVING_MS)
            yield from erasures.forget_reader(keys, self._person)
            self._done = replace(self._done, readings=self._done.readings + 1)
        elif chat.chat_id not in self._left.read and self._now - chat.at < YOUNG_MS:
            # They may be about to ask there in this moment. The sweep will see.
            stays = KEPT_MS
        yield from erasures.settle(self._person, chat.chat_id, stays)

    def _has_generation(self, keys: ChatKeys, *, is_known: bool) -> Operation[bool]:
        """Tell whether a generation of the chat is theirs, where its head does not say so: it may have been evicted."""
        if not is_known:
            return True
        generation_ids = yield from list_ids(keys)
        for start in range(0, len(generation_ids), TOUCHED_AT_ONCE):
            some = generation_ids[start : start + TOUCHED_AT_ONCE]
            if (yield from erasures.owned_by(keys, some, self._person.owner)):
                return True
        return False

    def _erase_all(self, keys: ChatKeys) -> Operation[None]:
        """Erase the chat, and take it out of everybody's lists.

        Which these are is only known as long as the chat is there, so it is noted before.
        """
        lists = dict(self._left.lists.get(keys.chat_id, ()))
        lists |= dict((yield from find_lists(keys)))
        # At least one, so that it is noted that the chat was being removed; no chat stands anywhere with this ms.
        noted = [*lists.items()] or [(self._person.erasing, 0)]
        for start in range(0, len(noted), TOUCHED_AT_ONCE):
            some = noted[start : start + TOUCHED_AT_ONCE]
            yield from erasures.note_leaving(self._person, keys.chat_id, some, LEAVING_MS)
        removed = yield from remove_chat(keys)
        yield from leave_lists(keys.chat_id, noted)
        self._note(removed)

    def stop(self, active: Sequence[str]) -> Operation[None]:
        """Stop what of theirs has not ended: nothing more is to be paid for, nor written."""
        for member in active:
            tenant, chat_id, generation_id = member.split(" ")
            try:
                reply = yield from scripts.stop(
                    ChatKeys(tenant, chat_id, self._db), generation_id, by="erase", reason=None
                )
            except (CorruptLog, StoreRefused):
                continue  # the chat will be among those that failed
            if reply.outcome == "stopped":
                yield from tell_stopped(reply.ages)
            if reply.outcome in {"stopped", "stopping"}:
                self._done = replace(self._done, stopped=self._done.stopped + 1)
            if reply.outcome in {"stopped", "ended"}:
                yield from note(("end", member))

    def _note(self, removed: Removed) -> None:
        if not removed.bytes_removed:
            return  # it was gone: whoever removed it has died before it was noted
        self._done = replace(
            self._done,
            chats=self._done.chats + 1,
            generations=self._done.generations + removed.generations,
            requests=self._done.requests + removed.requests,
            bytes_removed=self._done.bytes_removed + removed.bytes_removed,
        )

    def _report(self, *, is_over: bool) -> None:
        """Write the line by which it can be proved later that this was done."""
        said = {name: value for name, value in asdict(self._done).items() if name != "failed"}
        said |= {"failed": len(self._done.failed), "complete": is_over}
        words = " ".join(f"{name}={value}" for name, value in said.items())
        _LOG.info("an owner was erased: %s", words, extra={"erasure": said})
