"""Reads the conversation before a generation from the log, for its model. Without I/O.

Each attempt of a generation reads the log as it stood when the first one began, so all of them get the same.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from chunkspool.conversation import conversation
from chunkspool.effects import Operation
from chunkspool.errors import ChatContended, ChatNotFound, CorruptLog, CursorAhead, CursorExpired, DigestUnfinished
from chunkspool.events import Entry, Event, GenerationQueued
from chunkspool.fold import Answer, Folding
from chunkspool.operations.answer_steps import AnswerSteps, ModelMessage
from chunkspool.operations.digests import load_part, make_digest
from chunkspool.operations.history_messages import Budget, build_history
from chunkspool.settings import LogSettings
from chunkspool.store import queries
from chunkspool.store.digests import Digest
from chunkspool.store.keys import ChatKeys
from chunkspool.store.pages import page_after
from chunkspool.store.positions import Position

MOST_SECONDS: Final = 10.0
"""How long all of a chat may be read; usually nearly all of it is read already, and stored as a digest."""
RECENT: Final = 50_000
"""Events at the end of a log that are read where there was no time for all: a second's work, or less."""
FIRST_ANSWERS: Final = 128
GROWTH: Final = 4
"""Answers that are read at first, at most, and how many times as many after them, while the budget is not used up."""


def read_history(
    keys: ChatKeys, generation_id: str, request: Sequence[ModelMessage], settings: LogSettings
) -> Operation[tuple[ModelMessage, ...]]:
    """Return the messages for the model: the conversation as it stood before, and the request's own.

    What cannot be read (any more) is left out. Raises `StoreError`.
    """
    until = yield from queries.first_start(keys, generation_id)
    budget = Budget(settings.history_messages, settings.history_characters)
    messages = tuple(request)
    try:
        digest = yield from _digest(keys)
        if digest is None:
            return messages
        earlier = _generations_before(digest, generation_id, until)
        found = _Found()
        start, size = len(earlier), min(settings.history_messages // 2 + 1, FIRST_ANSWERS)
        while start or not found.answers:
            end, start = start, max(0, start - size)
            own = () if found.answers else (generation_id,)
            found = (yield from _read(digest, {*earlier[start:end], *own}, until)).before(found)
            turns = conversation(found.whole(generation_id))
            asked = turns[-1].messages if turns and turns[-1].answer.generation_id == generation_id else None
            before = turns if asked is None else turns[:-1]
            history = build_history(before, found.steps, request, asked or (), budget)
            messages = history.messages
            if history.is_full or not found.answers:
                break
            size *= GROWTH
    except (ChatNotFound, ChatContended, CorruptLog, CursorAhead, CursorExpired):
        pass  # the chat is being erased, or is not ours: what was found so far is all there is
    return messages


def _digest(keys: ChatKeys) -> Operation[Digest | None]:
    """Return the chat; of one that nobody has read for long, what is recent; None where even that takes too long."""
    try:
        return (yield from make_digest(keys, MOST_SECONDS))
    except DigestUnfinished as late:
        recent = max(0, late.last - RECENT)
    try:
        return (yield from make_digest(keys, MOST_SECONDS, after=recent))
    except DigestUnfinished:
        return None


def _generations_before(digest: Digest, generation_id: str, until: int) -> list[str]:
    before: list[str] = []
    for one, seq in digest.generations():
        if one == generation_id or seq >= until:
            break
        before.append(one)
    return before


@dataclass(slots=True)
class _Found:
    """What was read of some generations: their answers, and the same step by step."""

    answers: tuple[Answer, ...] = ()
    steps: dict[str, AnswerSteps] = field(default_factory=dict)
    queued: set[str] = field(default_factory=set)

    def before(self, later: _Found) -> _Found:
        """Return both."""
        return _Found((*self.answers, *later.answers), {**self.steps, **later.steps}, self.queued | later.queued)

    def whole(self, own: str) -> list[Answer]:
        """Return the answers that are there from their beginning; and `own` in any case."""
        return [one for one in self.answers if one.generation_id in self.queued or one.generation_id == own]


class _Collector:
    """Collects the events of some generations."""

    def __init__(self, wanted: Collection[str]) -> None:
        self._wanted = wanted
        self._folding = Folding()
        self._found = _Found()

    def add(self, event: Event) -> None:
        if event.generation_id not in self._wanted:
            return
        self._folding.add(event)
        self._found.steps.setdefault(event.generation_id, AnswerSteps()).add(event)
        if isinstance(event, GenerationQueued):
            self._found.queued.add(event.generation_id)

    def take(self) -> _Found:
        self._found.answers = self._folding.answers()
        return self._found


def _read(digest: Digest, wanted: Collection[str], until: int) -> Operation[_Found]:
    """Read what these generations had said before the seq `until`."""
    collector = _Collector(wanted)
    # In a block, a generation's deltas are one: where such a block goes on, what was said before is in the log alone.
    whole = replace(digest, blocks=tuple(block for block in digest.blocks if block.last <= until))
    at: int | None = 0 if whole.blocks else None
    while at is not None:
        part = yield from load_part(whole, wanted, at)
        for entry in part.entries:
            collector.add(entry.event)
        at = part.next
    split = next((block for block in digest.blocks if block.first < until < block.last), None)
    if split is not None and split.holds(wanted):
        yield from _read_log(digest.keys, split.first, until, collector)
    return collector.take()


def _read_log(keys: ChatKeys, first: int, until: int, collector: _Collector) -> Operation[None]:
    after = first - 1
    while after < until - 1:
        try:
            page = yield from page_after(keys, Position(after))
        except CursorExpired as gap:
            after = gap.first - 1
            continue
        if not page.entries:
            return
        for item in page.entries:
            if isinstance(item, Entry) and item.seq < until:
                collector.add(item.event)
        after = page.entries[-1].seq
