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
from chunkspool.store.pages import Page
from chunkspool.store.positions import Position, checked_position

KEYS = ChatKeys("default", "chat")
NOT_A_FRAME = (b"", b"garbage", b"0 0\n", b"999 1 - 0\n{}", b"2 7\n{}", b"1 9 ffff 0\n{}", b"\xff \xff \xff \xff\n")
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
        self.times: dict[int, int] = {}
        self.now = 100
        self.name = b"abc123"
        self.last = 0
        self.active = ["a", "b"]
        self.known = {"a": "running", "b": "running"}
        self.frames: list[bytes] = []
        self.exists = True
        self.append_deltas(1)

    def append(self, *events: bytes, lost: bool = False) -> None:
        """Append a batch and publish its frame, which may get lost."""
        first, before = self.last + 1, self.times.get(self.last, 0)
        self.now += 1
        for event in events:
            self.last += 1
            self.log[self.last], self.times[self.last] = event, self.now
        if not lost:
            header = b"%d %d %b %d\n" % (first, self.now, self.name, before)
            self.frames.append(header + b"\n".join(events))

    def go_back(self, to: int) -> None:
        """Be an older copy, as a restored snapshot or a replica that lagged is."""
        for seq in range(to + 1, self.last + 1):
            del self.log[seq], self.times[seq]
        self.last = to
        self.frames.clear()

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
        entries = [(b"%d-0" % seq, [b"t", b"%d" % self.times[seq], b"e", raw]) for seq, raw in self.log.items()]
        match name:
            case "GET":
                return b"%d" % self.last if self.exists else None
            case "EXISTS":
                return int(key.rpartition(":")[2] in self.known)
            case "HMGET":
                return [" ".join(self.active).encode() or None, self.name, b"101"]
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
        """Take what came over the channel."""
        frame = read_frame(data)
        assert frame is not None
        self._take(self.cursor.take_frame(frame))

    def finish(self) -> None:
        """Take everything that is left, probing once more when no frame announces anything."""
        while not self.cursor.done:
            if self.cursor.behind:
                self.read_page()
            elif self.chat.frames:
                self.receive()
            elif self.cursor.take_probe(self.probe()):
                raise AssertionError("it would wait for ever")
            else:
                self.cursor.invalidate()

    def probe(self) -> Page:
        """Look how the chat stands."""
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


NO_CURSORS = [
    -1,
    1.0,
    None,
    True,
    2**53 + 1,
    b"1",
    "",
    "-1",
    "x",
    "1.",
    "1.a",
    "1.a-",
    "1.-",
    "1.A-1",
    "1.a-g",
    "٣",
    "1\n",
]


@pytest.mark.parametrize("value", [*NO_CURSORS, "9" * 16, "1." + "a" * 13 + "-1", "1.a-" + "1" * 13, "1" * 5000])
def test_an_invalid_cursor_is_rejected(value: object) -> None:
    """Only seqs, and what the cursor of an entry says."""
    with pytest.raises(InvalidCursor):
        checked_position(value)
    with pytest.raises(InvalidCursor):
        Cursor(KEYS, value, "idle")


@pytest.mark.parametrize("until", ["", "a/b", "{", None, 7])
def test_an_invalid_until_is_rejected(until: Any) -> None:
    """`until` is "idle", "forever" or an id."""
    with pytest.raises(InvalidId, match="until"):
        Cursor(KEYS, 0, until)


@given(st.integers(0, 2**53), st.text("0123456789abcdef", max_size=12), st.integers(0, 2**44))
def test_a_position_is_read_as_it_was_written(seq: int, log: str, at: int) -> None:
    """Whatever it knows of the log."""
    assert checked_position(str(Position(seq, log, at))) == Position(seq, log, at)


def test_another_log_is_never_spliced() -> None:
    """A frame of another chat of the same name is looked into, and the reader stays with its own."""
    reader = up_to_date_reader("forever")
    reader.receive_frame(b"2 7 ffff 101\n" + encode(TextDelta(generation_id="a", text="not ours")))
    assert (reader.taken, reader.cursor.behind) == ([], True)
    reader.chat.append_deltas(1)
    reader.read_page()
    reader.read_page()
    assert (reader.taken, reader.cursor.behind) == ([2], False)


def test_a_chat_that_was_made_again_is_told() -> None:
    """Whether its log is shorter or longer by now."""
    for number in (1, 3):
        reader = up_to_date_reader("forever")
        reader.chat.append_deltas(2)
        reader.read_page()
        reader.receive()
        made = SimulatedChat()
        made.name = b"def456"
        made.append_deltas(number)
        reader.chat = made
        reader.cursor.invalidate()
        with pytest.raises((CursorExpired, CursorAhead)):
            reader.read_page()


@pytest.mark.parametrize("seen", ["frames", "a page", "nothing"])
@pytest.mark.parametrize("new", [0, 1, 2, 3, 5])
def test_a_log_that_went_back_is_told(new: int, seen: str) -> None:
    """However far it has come again: what stands under a seq now is not what the reader has seen there."""
    reader = up_to_date_reader("forever")
    reader.chat.append_deltas(1)
    reader.chat.append_deltas(1)
    for _ in range(2):
        reader.receive()
    assert reader.taken == [2, 3]
    reader.chat.go_back(1)
    for _ in range(new):
        reader.chat.append_deltas(1)
    with pytest.raises((CursorExpired, CursorAhead)):
        tell(reader, seen)
    assert reader.taken == [2, 3]


def tell(reader: SimulatedReader, seen: str) -> None:
    """Let the reader learn of it by what comes in, or by the look at a quiet chat."""
    if seen == "frames":
        while reader.chat.frames:
            reader.receive()
    if seen == "a page":
        reader.cursor.invalidate()
    if not reader.cursor.behind:
        assert not reader.cursor.take_probe(reader.probe())
        reader.cursor.invalidate()
    reader.read_page()


def test_a_cursor_from_outside_notices_it_too() -> None:
    """A page or an EventSource that comes back has the position as text."""
    chat = SimulatedChat()
    chat.append_deltas(3)
    mark = str(Position(3, "abc123", chat.times[3]))
    back = SimulatedReader(chat, 0, "forever")
    back.cursor = Cursor(KEYS, mark, "forever")
    back.read_page()
    assert back.taken == [4]
    chat.go_back(2)
    chat.append_deltas(5)
    expired = SimulatedReader(chat, 0, "forever")
    expired.cursor = Cursor(KEYS, mark, "forever")
    with pytest.raises(CursorExpired) as told:
        expired.read_page()
    assert (told.value.requested, told.value.first) == (3, 1)


def test_a_generation_whose_hash_is_gone_is_not_waited_for() -> None:
    """Whatever `head` says: it expired in the queue while the chat lived on."""
    reader = up_to_date_reader("idle")
    reader.chat.complete("b")
    reader.receive()
    reader.read_page()
    assert not reader.cursor.done
    del reader.chat.known["a"]
    assert not reader.cursor.take_probe(reader.probe())
    reader.cursor.invalidate()
    reader.read_page()
    assert reader.cursor.done
