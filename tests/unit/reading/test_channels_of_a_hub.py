"""What a hub asks of Redis and of its readers, without any Redis: subscriptions, looks, pings."""

from __future__ import annotations

import pytest

from chunkspool.errors import ChatNotFound, StoreUnavailable
from chunkspool.events import GenerationCompleted, TextDelta, encode
from chunkspool.reading.channels import LOOKS, TICKS, Lines, Orders
from chunkspool.reading.cursor import Cursor, Page
from chunkspool.reading.reader import BUFFER_BYTES, BUFFER_EVENTS, Reader
from chunkspool.store.entries import read_frame
from chunkspool.store.keys import ChatKeys


class Bell:
    """Counts how often it rang."""

    def __init__(self) -> None:
        """Begin silent."""
        self.rung = 0

    def set(self) -> None:
        """Ring."""
        self.rung += 1


def reader(chat: str = "chat", seq: int = 0, until: str = "forever") -> Reader:
    """Return a reader that has read the log up to `seq`."""
    made = Reader(Cursor(ChatKeys("default", chat), seq, until), Bell(), 30, None)
    made.cursor.behind = False
    return made


def channel(chat: str = "chat") -> bytes:
    """Return the chat's channel."""
    return ChatKeys("default", chat).live.encode()


def frame(first: int, *texts: str) -> bytes:
    """Return a frame of text deltas."""
    return b"\n".join([b"%d 1" % first, *(encode(TextDelta(generation="g", text=text)) for text in texts)])


def following(lines: Lines, *readers: Reader) -> None:
    """Have the readers join and be up to date."""
    lines.linked()
    for one in readers:
        lines.join(one)
    orders = lines.orders()
    assert orders is not None
    for name in orders.join:
        lines.subscribed(name)
    for one in readers:
        assert one.listening
        one.cursor.behind = False
        one.cursor.page()


def test_readers_of_one_chat_ask_once() -> None:
    """One SUBSCRIBE for the first, one UNSUBSCRIBE for the last."""
    lines, first, second = Lines(), reader(), reader()
    following(lines, first, second)
    lines.leave(first)
    assert lines.orders() is None
    lines.leave(second)
    lines.leave(second)
    assert lines.orders() == Orders(leave=(channel(),))
    lines.unsubscribed(channel())
    assert (lines.orders(), len(lines)) == (Orders(), 0)


def test_nothing_is_asked_without_a_connection() -> None:
    """What is wanted is asked for when there is one, and again after it was lost."""
    lines, one = Lines(), reader()
    lines.join(one)
    assert lines.orders() is None
    lines.linked()
    assert lines.orders() == Orders(join=(channel(),))
    assert lines.orders() is None
    lines.lost()
    lines.linked()
    assert lines.orders() == Orders(join=(channel(),))


def test_who_leaves_before_the_reply_is_unsubscribed_after_it() -> None:
    """The replies of SUBSCRIBE and UNSUBSCRIBE cannot be told apart by who asked: one is awaited at a time."""
    lines, one, two = Lines(), reader(), reader()
    lines.linked()
    lines.join(one)
    lines.orders()
    lines.leave(one)
    assert lines.orders() == Orders()
    lines.subscribed(channel())
    assert lines.orders() == Orders(leave=(channel(),))
    lines.join(two)
    assert lines.orders() is None
    assert not two.listening
    lines.unsubscribed(channel())
    assert lines.orders() == Orders(join=(channel(),))
    lines.subscribed(channel())
    assert two.listening


def test_a_frame_is_read_once_for_all() -> None:
    """Readers of a chat share its entries."""
    lines, one, two = Lines(), reader(), reader()
    following(lines, one, two)
    lines.frame(channel(), frame(1, "a", "b"))
    assert [item.seq for item in one.ready] == [1, 2]
    assert one.ready[0] is two.ready[0]
    lines.frame(channel("unknown"), frame(1, "a"))


def test_only_a_confirmed_reader_trusts_frames() -> None:
    """What came before the confirmation is in the log: the reader is sent there first."""
    lines, one = Lines(), reader()
    lines.linked()
    lines.join(one)
    lines.orders()
    lines.subscribed(channel())
    assert one.cursor.behind
    lines.frame(channel(), frame(1, "a"))
    assert not one.ready


def test_a_frame_during_a_read_sends_the_reader_to_the_log_again() -> None:
    """It is not taken, for the page may hold it; but it is not forgotten either."""
    one = reader()
    one.cursor.behind = True
    one.cursor.page()
    one.offer(read_frame(frame(1, "a")))
    assert one.cursor.take_page(Page((), 0, ())) == ()
    assert one.cursor.behind
    one.cursor.page()
    assert one.cursor.take_page(Page(read_frame(frame(1, "a")).items, 1, ())) != ()
    assert not one.cursor.behind


def test_a_reader_holds_only_so_many_events() -> None:
    """What comes on top is left to the log, and nothing is taken out of order afterwards."""
    one = reader()
    for seq in range(1, 2 * BUFFER_EVENTS):
        one.offer(read_frame(frame(seq, "a")))
    assert [item.seq for item in one.ready] == list(range(1, BUFFER_EVENTS + 1))
    assert one.cursor.behind
    one.ready.clear()
    one.offer(read_frame(frame(BUFFER_EVENTS + 1, "a")))
    assert not one.ready


def test_a_reader_holds_only_so_many_bytes() -> None:
    """Large events fill the buffer sooner; one that keeps up is never short of room."""
    one, text = reader(), "x" * (BUFFER_BYTES // 10)
    for seq in range(1, 100):
        one.offer(read_frame(frame(seq, text)))
        if seq > 1:
            one.ready.popleft()
    assert (len(one.ready), one.cursor.behind) == (1, False)
    for seq in range(100, 200):
        one.offer(read_frame(frame(seq, text)))
    assert 5 < len(one.ready) < 11
    assert one.cursor.behind


def test_a_frame_larger_than_the_buffer_is_taken_by_who_has_nothing() -> None:
    """Otherwise it would have to be read from the log each time."""
    one = reader()
    one.offer(read_frame(frame(1, "x" * 2 * BUFFER_BYTES)))
    assert [item.seq for item in one.ready] == [1]


def ticks(lines: Lines, number: int = TICKS) -> list[int]:
    """Let time pass; return how many chats are looked at in each tick."""
    counts = []
    for _ in range(number):
        lines.alive()
        lines.tick()
        looked_at = 0
        while lines.in_doubt:
            looks = lines.looks()
            looked_at += len(looks)
            for look in looks:
                lines.looked(look, Page((), 0, ("g",)))
        counts.append(looked_at)
    return counts


def test_quiet_chats_are_looked_at_once_a_round_and_spread() -> None:
    """A round is so many ticks; in each of them a part of the chats has its turn."""
    lines = Lines()
    following(lines, *(reader(f"chat-{number}") for number in range(1000)))
    assert ticks(lines) == [0] * TICKS
    for _ in range(3):
        assert ticks(lines) == [1000 // TICKS] * TICKS


def test_chats_that_speak_are_not_looked_at() -> None:
    """Their frames tell all that a look could tell."""
    lines, one = Lines(), reader()
    following(lines, one)
    for seq in range(1, 4):
        lines.frame(channel(), frame(seq, "a"))
        assert sum(ticks(lines)) == 0
    assert sum(ticks(lines)) == 1


def test_readers_of_one_chat_share_a_look() -> None:
    """As far as they want to know the same."""
    lines = Lines()
    following(lines, reader(), reader(), reader(until="idle"), reader(until="some-generation"))
    ticks(lines)
    lines.tick()
    for _ in range(TICKS - 1):
        lines.tick()
    assert sorted(len(look.readers) for look in lines.looks()) == [1, 3]


def test_a_look_wakes_only_those_who_are_behind() -> None:
    """The others sleep on."""
    lines, ahead, behind = Lines(), reader(seq=3), reader(seq=2)
    following(lines, ahead, behind)
    ticks(lines, 2 * TICKS - 1)
    lines.tick()
    [look] = lines.looks()
    lines.looked(look, Page((), 3, ()))
    assert (ahead.cursor.behind, behind.cursor.behind) == (False, True)


def test_a_look_that_a_frame_has_overtaken_is_ignored() -> None:
    """It shows the chat as it was before."""
    lines, one = Lines(), reader()
    following(lines, one)
    ticks(lines, 2 * TICKS - 1)
    lines.tick()
    [look] = lines.looks()
    lines.frame(channel(), frame(1, "a"))
    lines.looked(look, Page((), 0, ()))
    assert not one.cursor.behind


def test_an_error_is_for_the_reader_to_find() -> None:
    """Its own read raises it where it is iterated; only a Redis that is away is the hub's matter."""
    lines, one = Lines(), reader()
    following(lines, one)
    ticks(lines, 2 * TICKS - 1)
    lines.tick()
    [look] = lines.looks()
    with pytest.raises(StoreUnavailable):
        lines.looked(look, StoreUnavailable("away"))
    lines.looked(look, ChatNotFound("chat"))
    assert one.cursor.behind


def test_after_a_lost_connection_all_are_looked_at_at_once() -> None:
    """In round trips of limited size."""
    lines = Lines()
    readers = [reader(f"chat-{number}") for number in range(3 * LOOKS)]
    following(lines, *readers)
    lines.lost()
    lines.linked()
    orders = lines.orders()
    assert orders is not None
    for name in orders.join:
        lines.subscribed(name)
    assert [len(lines.looks()) for _ in range(3)] == [LOOKS] * 3
    assert not lines.in_doubt
    assert not any(one.cursor.behind for one in readers)


def test_a_silent_connection_is_asked_and_then_given_up() -> None:
    """PING after a round without a word; another round without an answer, and it is dead."""
    lines = Lines()
    following(lines, reader())
    said = []
    for _ in range(2 * TICKS):
        lines.tick()
        said.append(lines.orders())
    assert said == [Orders(ping=True) if tick == TICKS else None for tick in range(2 * TICKS)]
    with pytest.raises(StoreUnavailable, match="PING"):
        lines.tick()


def test_an_answered_ping_is_a_sign_of_life() -> None:
    """The connection is kept, and asked again when it is silent for another round."""
    lines = Lines()
    following(lines, reader())
    pings = 0
    for _ in range(10 * TICKS):
        lines.tick()
        orders = lines.orders()
        if orders is not None and orders.ping:
            pings += 1
            lines.alive()
    assert 4 <= pings <= 10


def test_it_is_at_rest_when_all_is_subscribed_and_nobody_in_doubt() -> None:
    """Only then has a connection proved its worth."""
    lines, one = Lines(), reader()
    lines.join(one)
    states = [lines.at_rest]
    lines.linked()
    states.append(lines.at_rest)
    lines.orders()
    states.append(lines.at_rest)
    lines.subscribed(channel())
    states.append(lines.at_rest)
    lines.lost()
    states.append(lines.at_rest)
    assert states == [False, False, False, True, False]


def test_failing_leaves_nobody_behind() -> None:
    """Each reader is woken with the error and held no longer; it may come again."""
    lines, one, two = Lines(), reader(), reader("other")
    following(lines, one, two)
    error = StoreUnavailable("away")
    lines.fail(error)
    assert (len(lines), one.joined, two.joined) == (0, False, False)
    for each in (one, two):
        with pytest.raises(StoreUnavailable) as raised:
            next(each.refill())
        assert raised.value is not error
    lines.join(one)
    assert len(lines) == 1


def test_a_dropped_reader_leaves_with_the_next_orders() -> None:
    """The garbage collector only leaves a note, at whatever moment it comes."""
    lines, one = Lines(), reader()
    following(lines, one)
    lines.drop(one)
    assert one.joined
    assert lines.orders() == Orders(leave=(channel(),))
    assert not one.joined


def test_an_ending_makes_an_idle_reader_ask_whether_that_was_all() -> None:
    """One page, not one for every frame."""
    one = reader(until="idle")
    one.offer(read_frame(frame(1, "a")))
    assert not one.cursor.behind
    one.offer(read_frame(b"2 1\n" + encode(GenerationCompleted(generation="g"))))
    assert one.cursor.behind
    assert [item.seq for item in one.ready] == [1, 2]
