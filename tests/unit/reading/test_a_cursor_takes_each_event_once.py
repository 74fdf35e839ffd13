"""A reader's cursor takes each event once, in order, and ends correctly, whatever frames and pages arrive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkspool.errors import ChatNotFound, CursorAhead, CursorExpired, GenerationNotFound, InvalidCursor, InvalidId
from chunkspool.events import GenerationCompleted, TextDelta, encode
from chunkspool.reading.cursor import FIRST_PAGE, Cursor
from chunkspool.store.entries import read_frame
from chunkspool.store.keys import ChatKeys
from chunkspool.store.pages import Page, checked_cursor

KEYS = ChatKeys("default", "chat")
NOT_A_FRAME = (b"", b"garbage", b"0 0\n", b"999 1\n{}")
STEPS = st.lists(
    st.sampled_from(
        ["write", "write many", "lose", "end one", "read", "read late", "frame", "frame", "old", "nonsense"]
    ),
    max_size=40,
)


class SimulatedChat:
    """The part of a chat in Redis that a cursor reads, and the frames in flight."""

    def __init__(self) -> None:
        """Start with two active generations and the first event."""
        self.log: dict[int, bytes] = {}
        self.last = 0
        self.active = ["a", "b"]
        self.known = {"a": "running", "b": "running"}
        self.frames: list[bytes] = []
        self.exists = True
        self.append_deltas(1)

    def append(self, *events: bytes, lost: bool = False) -> None:
        """Append a batch and publish its frame, unless it is `lost`."""
        first = self.last + 1
        for event in events:
            self.last += 1
            self.log[self.last] = event
        if not lost:
            self.frames.append(b"%d 7\n%b" % (first, b"\n".join(events)))

    def append_deltas(self, number: int, *, lost: bool = False) -> None:
        """Append `number` deltas."""
        self.append(*(encode(TextDelta(generation_id="a", text=f"{self.last + i}")) for i in range(number)), lost=lost)

    def complete(self, generation_id: str, *, lost: bool = False) -> None:
        """Complete a generation."""
        self.active.remove(generation_id)
        self.known[generation_id] = "completed"
        self.append(encode(GenerationCompleted(generation_id=generation_id)), lost=lost)

    def replies_to(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Return Redis's replies."""
        return [self._answer(*command) for command in commands]

    def _answer(self, name: str, key: str, *rest: Any) -> Any:
        entries = [(b"%d-0" % seq, [b"t", b"7", b"e", raw]) for seq, raw in self.log.items()]
        match name:
            case "GET":
                return b"%d" % self.last if self.exists else None
            case "EXISTS":
                return int(bool(self.log))
            case "HMGET":
                return [" ".join(self.active).encode(), b"7"]
            case "HGET":
                status = self.known.get(key.rpartition(":")[2])
                return status.encode() if status else None
            case "XREVRANGE":
                return entries[-1:]
            case "XRANGE":
                start, limit = int(rest[0].partition("-")[0]), int(rest[-1])
                return [entry for entry in entries if int(entry[0][:-2]) >= start][:limit]
        raise AssertionError(name)


class SimulatedReader:
    """A cursor and the seqs it has taken."""

    def __init__(self, chat: SimulatedChat, after: int = 0, until: str = "idle") -> None:
        """Start after a cursor."""
        self.chat = chat
        self.cursor = Cursor(KEYS, after, until)
        self.taken: list[int] = []

    def read_page(self, *, late: bool = False) -> None:
        """Read a page if one is needed; with `late`, a frame arrives during the read."""
        if self.cursor.behind and not self.cursor.done:
            reads = self.cursor.page()
            page: Page = reads.parse(self.chat.replies_to(reads.commands))
            if late:
                self.chat.append_deltas(1)
                self.receive()
            self._take(self.cursor.take_page(page))

    def receive(self, which: int = 0) -> None:
        """Take one of the frames in flight."""
        if self.chat.frames:
            self.receive_frame(self.chat.frames.pop(which))

    def receive_frame(self, data: bytes) -> None:
        """Take this frame."""
        self._take(self.cursor.take_frame(read_frame(data)))

    def finish(self) -> None:
        """Take everything that is left, probing once more when no frame announces anything."""
        while not self.cursor.done:
            if self.cursor.behind:
                self.read_page()
            elif self.chat.frames:
                self.receive()
            elif self.cursor.agrees(self._probe()):
                raise AssertionError("it would wait forever")
            else:
                self.cursor.invalidate()

    def _probe(self) -> Page:
        reads = self.cursor.probe()
        return reads.parse(self.chat.replies_to(reads.commands))

    def _take(self, items: Sequence[Any]) -> None:
        self.taken += [item.seq for item in items]


@given(STEPS, st.integers(0, 3), st.sampled_from(["idle", "b"]))
def test_no_gaps_and_no_duplicates_in_any_order(steps: list[str], after: int, until: str) -> None:
    """Frames may be lost, late, old or invalid, with reads in between: no gaps, no duplicates."""
    chat = SimulatedChat()
    chat.append_deltas(2)
    reader, heard = SimulatedReader(chat, after, until), [*chat.frames]
    for step in steps:
        match step:
            case "write" | "write many" | "lose":
                chat.append_deltas(FIRST_PAGE + 9 if step == "write many" else 2, lost=step == "lose")
            case "end one" if "a" in chat.active:
                chat.complete("a")
            case "read" | "read late":
                reader.read_page(late=step == "read late")
            case "frame":
                heard += chat.frames[:1]
                reader.receive()
            case "old":
                reader.receive_frame(heard[len(heard) // 2])
            case "nonsense":
                reader.receive_frame(NOT_A_FRAME[len(heard) % len(NOT_A_FRAME)])
        assert reader.taken == list(range(after + 1, reader.cursor.seq + 1))
    for one in [*chat.active]:
        chat.complete(one, lost=len(steps) % 2 == 0)
    end = max(seq for seq, raw in chat.log.items() if b"completed" in raw and (until == "idle" or b'"b"' in raw))
    reader.finish()
    assert reader.taken == list(range(after + 1, end + 1))


@pytest.mark.parametrize("until", ["idle", "a", "b", "forever"])
def test_one_read_is_enough_for_a_chat_at_rest(until: str) -> None:
    """It returns everything and tells whether this is the end."""
    chat = SimulatedChat()
    chat.complete("a")
    chat.complete("b")
    reader = SimulatedReader(chat, 0, until)
    reader.read_page()
    assert reader.taken == ([1, 2] if until == "a" else [1, 2, 3])
    assert reader.cursor.done == (until != "forever")


def up_to_date_reader(until: str) -> SimulatedReader:
    """Return a reader that has caught up, at seq 1."""
    reader = SimulatedReader(SimulatedChat(), 1, until)
    reader.read_page()
    reader.chat.frames.clear()
    assert not reader.cursor.behind
    return reader


def test_a_frame_after_a_lost_one_sends_the_reader_to_the_log() -> None:
    """The gap in the seqs shows at once that the previous frame was lost."""
    reader = up_to_date_reader("forever")
    reader.chat.append_deltas(1, lost=True)
    reader.chat.append_deltas(1)
    reader.receive()
    assert (reader.taken, reader.cursor.behind) == ([], True)
    reader.read_page()
    assert (reader.taken, reader.cursor.behind) == ([2, 3], False)


def test_a_frame_that_arrives_during_a_read_triggers_another_read() -> None:
    """The page may have been read before it, so the log is read once more."""
    reader = up_to_date_reader("forever")
    reader.cursor.invalidate()
    reader.read_page(late=True)
    assert (reader.taken, reader.cursor.behind) == ([], True)
    reader.read_page()
    assert (reader.taken, reader.cursor.behind) == ([2], False)


def test_idle_waits_for_the_last_active_generation() -> None:
    """After each ending the reader checks whether another generation is active."""
    reader = up_to_date_reader("idle")
    reader.chat.complete("a")
    reader.receive()
    assert (reader.taken, reader.cursor.behind, reader.cursor.done) == ([2], True, False)
    reader.read_page()
    assert (reader.cursor.behind, reader.cursor.done) == (False, False)
    reader.chat.complete("b")
    reader.receive()
    reader.read_page()
    assert (reader.taken, reader.cursor.done) == ([2, 3], True)


def test_text_that_looks_like_an_ending_does_not_end_the_reader() -> None:
    """Only the event itself does."""
    reader = up_to_date_reader("a")
    text = '{"type":"generation.completed","generation":"a"}'
    reader.chat.append(encode(TextDelta(generation_id="a", text=text)))
    reader.receive()
    assert (reader.taken, reader.cursor.done) == ([2], False)


def test_nothing_is_taken_after_the_end() -> None:
    """Frames still in flight belong to other readers."""
    reader = up_to_date_reader("a")
    reader.chat.complete("a")
    reader.chat.append_deltas(2)
    reader.receive()
    reader.receive()
    assert (reader.taken, reader.cursor.done) == ([2], True)


def test_an_impossible_cursor_raises_its_error() -> None:
    """Trimmed events, a cursor ahead of the log, an unknown generation, an unknown chat."""
    chat = SimulatedChat()
    chat.append_deltas(4)
    for seq in (1, 2, 3):
        del chat.log[seq]
    with pytest.raises(CursorExpired) as expired:
        SimulatedReader(chat, 2).read_page()
    assert (expired.value.requested, expired.value.first, expired.value.last) == (2, 4, 5)
    with pytest.raises(CursorAhead) as ahead:
        SimulatedReader(chat, 6).read_page()
    assert (ahead.value.requested, ahead.value.last) == (6, 5)
    with pytest.raises(GenerationNotFound):
        SimulatedReader(chat, 3, "nothing").read_page()
    chat.log.clear()
    with pytest.raises(CursorExpired) as empty:
        SimulatedReader(chat, 4).read_page()
    assert (empty.value.first, empty.value.last) == (6, 5)
    chat.exists = False
    with pytest.raises(ChatNotFound):
        SimulatedReader(chat, 0).read_page()


def test_a_lost_counter_is_derived_from_the_log() -> None:
    """The chat exists as long as its log does."""
    chat = SimulatedChat()
    chat.append_deltas(4)
    chat.exists = False
    reader = SimulatedReader(chat, 2)
    reader.read_page()
    assert (reader.taken, reader.cursor.behind) == ([3, 4, 5], False)


@pytest.mark.parametrize("value", [-1, 1.0, "1", None, True, 2**53 + 1, b"1"])
def test_an_invalid_cursor_is_rejected(value: object) -> None:
    """A cursor is a whole number from 0 up."""
    with pytest.raises(InvalidCursor):
        checked_cursor(value)
    with pytest.raises(InvalidCursor):
        Cursor(KEYS, value, "idle")


@pytest.mark.parametrize("until", ["", "a/b", "{", None, 7])
def test_an_invalid_until_is_rejected(until: Any) -> None:
    """`until` is "idle", "forever" or an id."""
    with pytest.raises(InvalidId, match="until"):
        Cursor(KEYS, 0, until)
