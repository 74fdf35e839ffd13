"""A reader's place in a log: whatever frames and reads bring, each event is taken once, in order, to the right end."""

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


class Chat:
    """What Redis holds of a chat, as far as a cursor asks for it, and the frames that are on their way."""

    def __init__(self) -> None:
        """Two generations are active, and the first event is there."""
        self.log: dict[int, bytes] = {}
        self.times: dict[int, int] = {}
        self.now = 100
        self.name = b"abc123"
        self.last = 0
        self.active = ["a", "b"]
        self.known = {"a": "running", "b": "running"}
        self.frames: list[bytes] = []
        self.exists = True
        self.say(1)

    def write(self, *events: bytes, lost: bool = False) -> None:
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

    def say(self, number: int, *, lost: bool = False) -> None:
        """Append so many deltas."""
        self.write(*(encode(TextDelta(generation_id="a", text=f"{self.last + i}")) for i in range(number)), lost=lost)

    def end(self, generation_id: str, *, lost: bool = False) -> None:
        """Complete a generation."""
        self.active.remove(generation_id)
        self.known[generation_id] = "completed"
        self.write(encode(GenerationCompleted(generation_id=generation_id)), lost=lost)

    def answered(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Answer as Redis would."""
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


class Reader:
    """A cursor and what it has taken."""

    def __init__(self, chat: Chat, after: int = 0, until: str = "idle") -> None:
        """Start after a cursor."""
        self.chat = chat
        self.cursor = Cursor(KEYS, after, until)
        self.taken: list[int] = []

    def read(self, *, late: bool = False) -> None:
        """Read a page if one is wanted; perhaps a frame comes while the read is under way."""
        if self.cursor.behind and not self.cursor.done:
            reads = self.cursor.page()
            page: Page = reads.parse(self.chat.answered(reads.commands))
            if late:
                self.chat.say(1)
                self.hear()
            self._take(self.cursor.take_page(page))

    def hear(self, which: int = 0) -> None:
        """Take a frame that is on its way."""
        if self.chat.frames:
            self.hear_this(self.chat.frames.pop(which))

    def hear_this(self, data: bytes) -> None:
        """Take what came over the channel."""
        frame = read_frame(data)
        assert frame is not None
        self._take(self.cursor.take_frame(frame))

    def finish(self) -> None:
        """Take what is left, looking once more where no frame says that there is something."""
        while not self.cursor.done:
            if self.cursor.behind:
                self.read()
            elif self.chat.frames:
                self.hear()
            elif self.cursor.take_probe(self.probe()):
                raise AssertionError("it would wait for ever")
            else:
                self.cursor.invalidate()

    def probe(self) -> Page:
        """Look how the chat stands."""
        reads = self.cursor.probe()
        return reads.parse(self.chat.answered(reads.commands))

    def _take(self, items: Sequence[Any]) -> None:
        self.taken += [item.seq for item in items]


@given(STEPS, st.integers(0, 3), st.sampled_from(["idle", "b"]))
def test_whatever_comes_in_whatever_order(steps: list[str], after: int, until: str) -> None:
    """Frames that are lost, late, old or none at all, and reads in between: nothing is left out or comes twice."""
    chat = Chat()
    chat.say(2)
    reader, heard = Reader(chat, after, until), [*chat.frames]
    for step in steps:
        match step:
            case "write" | "write many" | "lose":
                chat.say(FIRST_PAGE + 9 if step == "write many" else 2, lost=step == "lose")
            case "end one" if "a" in chat.active:
                chat.end("a")
            case "read" | "read late":
                reader.read(late=step == "read late")
            case "frame":
                heard += chat.frames[:1]
                reader.hear()
            case "old":
                reader.hear_this(heard[len(heard) // 2])
            case "nonsense":
                reader.hear_this(NOT_A_FRAME[len(heard) % len(NOT_A_FRAME)])
        assert reader.taken == list(range(after + 1, reader.cursor.seq + 1))
    for one in [*chat.active]:
        chat.end(one, lost=len(steps) % 2 == 0)
    end = max(seq for seq, raw in chat.log.items() if b"completed" in raw and (until == "idle" or b'"b"' in raw))
    reader.finish()
    assert reader.taken == list(range(after + 1, end + 1))


@pytest.mark.parametrize("until", ["idle", "a", "b", "forever"])
def test_a_chat_at_rest(until: str) -> None:
    """One read brings all of it, and tells whether that is the end."""
    chat = Chat()
    chat.end("a")
    chat.end("b")
    reader = Reader(chat, 0, until)
    reader.read()
    assert reader.taken == ([1, 2] if until == "a" else [1, 2, 3])
    assert reader.cursor.done == (until != "forever")


def following(until: str) -> Reader:
    """Return a reader that is up to date, at seq 1."""
    reader = Reader(Chat(), 1, until)
    reader.read()
    reader.chat.frames.clear()
    assert not reader.cursor.behind
    return reader


def test_a_frame_that_does_not_follow_sends_to_the_log() -> None:
    """The one before it was lost: the reader knows at once."""
    reader = following("forever")
    reader.chat.say(1, lost=True)
    reader.chat.say(1)
    reader.hear()
    assert (reader.taken, reader.cursor.behind) == ([], True)
    reader.read()
    assert (reader.taken, reader.cursor.behind) == ([2, 3], False)


def test_a_frame_that_comes_while_the_log_is_read_is_not_forgotten() -> None:
    """The page may have been read before it: the log is read once more."""
    reader = following("forever")
    reader.cursor.invalidate()
    reader.read(late=True)
    assert (reader.taken, reader.cursor.behind) == ([], True)
    reader.read()
    assert (reader.taken, reader.cursor.behind) == ([2], False)


def test_idle_waits_for_the_last_of_several() -> None:
    """After each ending the chat is asked whether something else is active."""
    reader = following("idle")
    reader.chat.end("a")
    reader.hear()
    assert (reader.taken, reader.cursor.behind, reader.cursor.done) == ([2], True, False)
    reader.read()
    assert (reader.cursor.behind, reader.cursor.done) == (False, False)
    reader.chat.end("b")
    reader.hear()
    reader.read()
    assert (reader.taken, reader.cursor.done) == ([2, 3], True)


def test_a_text_that_speaks_of_endings_is_none() -> None:
    """Only the event itself ends a reader."""
    reader = following("a")
    text = '{"type":"generation.completed","generation":"a"}'
    reader.chat.write(encode(TextDelta(generation_id="a", text=text)))
    reader.hear()
    assert (reader.taken, reader.cursor.done) == ([2], False)


def test_nothing_is_taken_after_the_end() -> None:
    """What else is on its way is another reader's."""
    reader = following("a")
    reader.chat.end("a")
    reader.chat.say(2)
    reader.hear()
    reader.hear()
    assert (reader.taken, reader.cursor.done) == ([2], True)


def test_what_cannot_be_served_is_told() -> None:
    """Trimmed, ahead, a generation that is not there, a chat that is not there."""
    chat = Chat()
    chat.say(4)
    for seq in (1, 2, 3):
        del chat.log[seq]
    with pytest.raises(CursorExpired) as expired:
        Reader(chat, 2).read()
    assert (expired.value.requested, expired.value.first, expired.value.last) == (2, 4, 5)
    with pytest.raises(CursorAhead) as ahead:
        Reader(chat, 6).read()
    assert (ahead.value.requested, ahead.value.last) == (6, 5)
    with pytest.raises(GenerationNotFound):
        Reader(chat, 3, "nothing").read()
    chat.log.clear()
    with pytest.raises(CursorExpired) as empty:
        Reader(chat, 4).read()
    assert (empty.value.first, empty.value.last) == (6, 5)
    chat.exists = False
    with pytest.raises(ChatNotFound):
        Reader(chat, 0).read()


def test_a_lost_counter_is_read_from_the_log() -> None:
    """While the log stands, the chat does."""
    chat = Chat()
    chat.say(4)
    chat.exists = False
    reader = Reader(chat, 2)
    reader.read()
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
def test_what_is_no_cursor(value: object) -> None:
    """Only seqs, and what the cursor of an entry says."""
    with pytest.raises(InvalidCursor):
        checked_position(value)
    with pytest.raises(InvalidCursor):
        Cursor(KEYS, value, "idle")


@pytest.mark.parametrize("until", ["", "a/b", "{", None, 7])
def test_what_is_no_end(until: Any) -> None:
    """`until` is "idle", "forever" or an id."""
    with pytest.raises(InvalidId, match="until"):
        Cursor(KEYS, 0, until)


@given(st.integers(0, 2**53), st.text("0123456789abcdef", max_size=12), st.integers(0, 2**44))
def test_a_position_is_read_as_it_was_written(seq: int, log: str, at: int) -> None:
    """Whatever it knows of the log."""
    assert checked_position(str(Position(seq, log, at))) == Position(seq, log, at)


def test_another_log_is_never_spliced() -> None:
    """A frame of another chat of the same name is looked into, and the reader stays with its own."""
    reader = following("forever")
    reader.hear_this(b"2 7 ffff 101\n" + encode(TextDelta(generation_id="a", text="not ours")))
    assert (reader.taken, reader.cursor.behind) == ([], True)
    reader.chat.say(1)
    reader.read()
    reader.read()
    assert (reader.taken, reader.cursor.behind) == ([2], False)


def test_a_chat_that_was_made_again_is_told() -> None:
    """Whether its log is shorter or longer by now."""
    for number in (1, 3):
        reader = following("forever")
        reader.chat.say(2)
        reader.read()
        reader.hear()
        made = Chat()
        made.name = b"def456"
        made.say(number)
        reader.chat = made
        reader.cursor.invalidate()
        with pytest.raises((CursorExpired, CursorAhead)):
            reader.read()


@pytest.mark.parametrize("seen", ["frames", "a page", "nothing"])
@pytest.mark.parametrize("new", [0, 1, 2, 3, 5])
def test_a_log_that_went_back_is_told(new: int, seen: str) -> None:
    """However far it has come again: what stands under a seq now is not what the reader has seen there."""
    reader = following("forever")
    reader.chat.say(1)
    reader.chat.say(1)
    for _ in range(2):
        reader.hear()
    assert reader.taken == [2, 3]
    reader.chat.go_back(1)
    for _ in range(new):
        reader.chat.say(1)
    with pytest.raises((CursorExpired, CursorAhead)):
        tell(reader, seen)
    assert reader.taken == [2, 3]


def tell(reader: Reader, seen: str) -> None:
    """Let the reader learn of it by what comes in, or by the look at a quiet chat."""
    if seen == "frames":
        while reader.chat.frames:
            reader.hear()
    if seen == "a page":
        reader.cursor.invalidate()
    if not reader.cursor.behind:
        assert not reader.cursor.take_probe(reader.probe())
        reader.cursor.invalidate()
    reader.read()


def test_a_cursor_from_outside_notices_it_too() -> None:
    """A page or an EventSource that comes back has the position as text."""
    chat = Chat()
    chat.say(3)
    mark = str(Position(3, "abc123", chat.times[3]))
    back = Reader(chat, 0, "forever")
    back.cursor = Cursor(KEYS, mark, "forever")
    back.read()
    assert back.taken == [4]
    chat.go_back(2)
    chat.say(5)
    expired = Reader(chat, 0, "forever")
    expired.cursor = Cursor(KEYS, mark, "forever")
    with pytest.raises(CursorExpired) as told:
        expired.read()
    assert (told.value.requested, told.value.first) == (3, 1)


def test_a_generation_whose_hash_is_gone_is_not_waited_for() -> None:
    """Whatever `head` says: it expired in the queue while the chat lived on."""
    reader = following("idle")
    reader.chat.end("b")
    reader.hear()
    reader.read()
    assert not reader.cursor.done
    del reader.chat.known["a"]
    assert not reader.cursor.take_probe(reader.probe())
    reader.cursor.invalidate()
    reader.read()
    assert reader.cursor.done
