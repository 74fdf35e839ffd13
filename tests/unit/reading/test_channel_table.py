"""What a hub asks of Redis and of its readers, without any Redis: subscriptions, looks, pings."""

from __future__ import annotations

import pytest

from chunkspool.errors import ChatNotFound, StoreUnavailable
from chunkspool.events import GenerationCompleted, TextDelta, encode
from chunkspool.reading.channels import PROBES, TICKS, ChannelTable, PendingCommands
from chunkspool.reading.cursor import Cursor
from chunkspool.reading.reader import BUFFER_BYTES, BUFFER_EVENTS, Reader
from chunkspool.store.entries import Frame, read_frame
from chunkspool.store.keys import ChatKeys
from chunkspool.store.pages import Page


class CountingWaiter:
    """Counts how often it rang."""

    def __init__(self) -> None:
        """Begin at none."""
        self.wakes = 0

    def set(self) -> None:
        """Count."""
        self.wakes += 1


def reader(chat: str = "chat", seq: int = 0, until: str = "forever") -> Reader:
    """Return a reader that has read the log up to `seq`."""
    made = Reader(Cursor(ChatKeys("default", chat), seq, until), CountingWaiter(), 30, None)
    made.cursor.behind = False
    return made


def channel(chat: str = "chat") -> bytes:
    """Return the chat's channel."""
    return ChatKeys("default", chat).live.encode()


def frame(first: int, *texts: str) -> bytes:
    """Return a frame of text deltas."""
    return b"\n".join(
        [b"%d 1 abc %d" % (first, first > 1), *(encode(TextDelta(generation_id="g", text=text)) for text in texts)]
    )


def parse(data: bytes) -> Frame:
    """Return the frame in a message."""
    found = read_frame(data)
    assert found is not None
    return found


def following(channels: ChannelTable, *readers: Reader) -> None:
    """Have the readers join and be up to date."""
    channels.connect()
    for one in readers:
        channels.join(one)
    commands = channels.take_commands()
    assert commands is not None
    for name in commands.subscribe:
        channels.confirm_subscribe(name)
    for one in readers:
        assert one.listening
        one.cursor.behind = False
        one.cursor.page()


def test_readers_of_one_chat_ask_once() -> None:
    """One SUBSCRIBE for the first, one UNSUBSCRIBE for the last."""
    channels, first, second = ChannelTable(), reader(), reader()
    following(channels, first, second)
    channels.leave(first)
    assert channels.take_commands() is None
    channels.leave(second)
    channels.leave(second)
    assert channels.take_commands() == PendingCommands(unsubscribe=(channel(),))
    channels.confirm_unsubscribe(channel())
    assert (channels.take_commands(), len(channels)) == (PendingCommands(), 0)


def test_nothing_is_asked_without_a_connection() -> None:
    """What is wanted is asked for when there is one, and again after it was lost."""
    channels, one = ChannelTable(), reader()
    channels.join(one)
    assert channels.take_commands() is None
    channels.connect()
    assert channels.take_commands() == PendingCommands(subscribe=(channel(),))
    assert channels.take_commands() is None
    channels.disconnect()
    channels.connect()
    assert channels.take_commands() == PendingCommands(subscribe=(channel(),))


def test_who_leaves_before_the_reply_is_unsubscribed_after_it() -> None:
    """The replies of SUBSCRIBE and UNSUBSCRIBE cannot be told apart by who asked: one is awaited at a time."""
    channels, one, two = ChannelTable(), reader(), reader()
    channels.connect()
    channels.join(one)
    channels.take_commands()
    channels.leave(one)
    assert channels.take_commands() == PendingCommands()
    channels.confirm_subscribe(channel())
    assert channels.take_commands() == PendingCommands(unsubscribe=(channel(),))
    channels.join(two)
    assert channels.take_commands() is None
    assert not two.listening
    channels.confirm_unsubscribe(channel())
    assert channels.take_commands() == PendingCommands(subscribe=(channel(),))
    channels.confirm_subscribe(channel())
    assert two.listening


def test_a_frame_is_read_once_for_all() -> None:
    """Readers of a chat share its entries."""
    channels, one, two = ChannelTable(), reader(), reader()
    following(channels, one, two)
    channels.take_frame(channel(), frame(1, "a", "b"))
    assert [item.seq for item in one.ready] == [1, 2]
    assert one.ready[0] is two.ready[0]
    channels.take_frame(channel("unknown"), frame(1, "a"))


def test_only_a_confirmed_reader_trusts_frames() -> None:
    """What came before the confirmation is in the log: the reader is sent there first."""
    channels, one = ChannelTable(), reader()
    channels.connect()
    channels.join(one)
    channels.take_commands()
    channels.confirm_subscribe(channel())
    assert one.cursor.behind
    channels.take_frame(channel(), frame(1, "a"))
    assert not one.ready


def test_a_frame_during_a_read_sends_the_reader_to_the_log_again() -> None:
    """It is not taken, for the page may hold it; but it is not forgotten either."""
    one = reader()
    one.cursor.behind = True
    one.cursor.page()
    one.offer(parse(frame(1, "a")))
    assert one.cursor.take_page(Page((), 0, ())) == ()
    assert one.cursor.behind
    one.cursor.page()
    assert one.cursor.take_page(Page(parse(frame(1, "a")).items, 1, ())) != ()
    assert not one.cursor.behind


def test_a_reader_holds_only_so_many_events() -> None:
    """What comes on top is left to the log, and nothing is taken out of order afterwards."""
    one = reader()
    for seq in range(1, 2 * BUFFER_EVENTS):
        one.offer(parse(frame(seq, "a")))
    assert [item.seq for item in one.ready] == list(range(1, BUFFER_EVENTS + 1))
    assert one.cursor.behind
    one.ready.clear()
    one.offer(parse(frame(BUFFER_EVENTS + 1, "a")))
    assert not one.ready


def test_a_reader_holds_only_so_many_bytes() -> None:
    """Large events fill the buffer sooner; one that keeps up is never short of room."""
    one, text = reader(), "x" * (BUFFER_BYTES // 10)
    for seq in range(1, 100):
        one.offer(parse(frame(seq, text)))
        if seq > 1:
            one.ready.popleft()
    assert (len(one.ready), one.cursor.behind) == (1, False)
    for seq in range(100, 200):
        one.offer(parse(frame(seq, text)))
    assert 5 < len(one.ready) < 11
    assert one.cursor.behind


def test_a_frame_larger_than_the_buffer_is_taken_by_who_has_nothing() -> None:
    """Otherwise it would have to be read from the log each time."""
    one = reader()
    one.offer(parse(frame(1, "x" * 2 * BUFFER_BYTES)))
    assert [item.seq for item in one.ready] == [1]


def ticks(channels: ChannelTable, number: int = TICKS) -> list[int]:
    """Let time pass; return how many chats are looked at in each tick."""
    counts = []
    for _ in range(number):
        channels.note_sign_of_life()
        channels.tick()
        looked_at = 0
        while channels.has_probes:
            looks = channels.take_probes()
            looked_at += len(looks)
            for look in looks:
                channels.take_probe_reply(look, Page((), 0, ("g",)))
        counts.append(looked_at)
    return counts


def test_quiet_chats_are_looked_at_once_a_round_and_spread() -> None:
    """A round is so many ticks; in each of them a part of the chats has its turn."""
    channels = ChannelTable()
    following(channels, *(reader(f"chat-{number}") for number in range(1000)))
    assert ticks(channels) == [0] * TICKS
    for _ in range(3):
        assert ticks(channels) == [1000 // TICKS] * TICKS


def test_chats_that_speak_are_not_looked_at() -> None:
    """Their frames tell all that a look could tell."""
    channels, one = ChannelTable(), reader()
    following(channels, one)
    for seq in range(1, 4):
        channels.take_frame(channel(), frame(seq, "a"))
        assert sum(ticks(channels)) == 0
    assert sum(ticks(channels)) == 1


def test_readers_of_one_chat_share_a_look() -> None:
    """As far as they want to know the same."""
    channels = ChannelTable()
    following(channels, reader(), reader(), reader(until="idle"), reader(until="some-generation"))
    ticks(channels)
    channels.tick()
    for _ in range(TICKS - 1):
        channels.tick()
    assert sorted(len(look.readers) for look in channels.take_probes()) == [1, 3]


def test_a_look_wakes_only_those_who_are_behind() -> None:
    """The others sleep on."""
    channels, ahead, behind = ChannelTable(), reader(seq=3), reader(seq=2)
    following(channels, ahead, behind)
    ticks(channels, 2 * TICKS - 1)
    channels.tick()
    [look] = channels.take_probes()
    channels.take_probe_reply(look, Page((), 3, ()))
    assert (ahead.cursor.behind, behind.cursor.behind) == (False, True)


def test_a_look_that_a_frame_has_overtaken_is_ignored() -> None:
    """It shows the chat as it was before."""
    channels, one = ChannelTable(), reader()
    following(channels, one)
    ticks(channels, 2 * TICKS - 1)
    channels.tick()
    [look] = channels.take_probes()
    channels.take_frame(channel(), frame(1, "a"))
    channels.take_probe_reply(look, Page((), 0, ()))
    assert not one.cursor.behind


def test_an_error_is_for_the_reader_to_find() -> None:
    """Its own read raises it where it is iterated; only a Redis that is away is the hub's matter."""
    channels, one = ChannelTable(), reader()
    following(channels, one)
    ticks(channels, 2 * TICKS - 1)
    channels.tick()
    [look] = channels.take_probes()
    with pytest.raises(StoreUnavailable):
        channels.take_probe_reply(look, StoreUnavailable("away"))
    channels.take_probe_reply(look, ChatNotFound("chat"))
    assert one.cursor.behind


def test_after_a_lost_connection_all_are_looked_at_at_once() -> None:
    """In round trips of limited size."""
    channels = ChannelTable()
    readers = [reader(f"chat-{number}") for number in range(3 * PROBES)]
    following(channels, *readers)
    channels.disconnect()
    channels.connect()
    commands = channels.take_commands()
    assert commands is not None
    for name in commands.subscribe:
        channels.confirm_subscribe(name)
    assert [len(channels.take_probes()) for _ in range(3)] == [PROBES] * 3
    assert not channels.has_probes
    assert not any(one.cursor.behind for one in readers)


def test_a_silent_connection_is_asked_and_then_given_up() -> None:
    """PING after a round without a word; another round without an answer, and it is dead."""
    channels = ChannelTable()
    following(channels, reader())
    said = []
    for _ in range(2 * TICKS):
        channels.tick()
        said.append(channels.take_commands())
    assert said == [PendingCommands(ping=True) if tick == TICKS else None for tick in range(2 * TICKS)]
    with pytest.raises(StoreUnavailable, match="PING"):
        channels.tick()


def test_an_answered_ping_is_a_sign_of_life() -> None:
    """The connection is kept, and asked again when it is silent for another round."""
    channels = ChannelTable()
    following(channels, reader())
    pings = 0
    for _ in range(10 * TICKS):
        channels.tick()
        commands = channels.take_commands()
        if commands is not None and commands.ping:
            pings += 1
            channels.note_sign_of_life()
    assert 4 <= pings <= 10


def test_it_is_at_rest_when_all_is_subscribed_and_nobody_in_doubt() -> None:
    """Only then has a connection proved its worth."""
    channels, one = ChannelTable(), reader()
    channels.join(one)
    states = [channels.is_settled]
    channels.connect()
    states.append(channels.is_settled)
    channels.take_commands()
    states.append(channels.is_settled)
    channels.confirm_subscribe(channel())
    states.append(channels.is_settled)
    channels.disconnect()
    states.append(channels.is_settled)
    assert states == [False, False, False, True, False]


def test_failing_leaves_nobody_behind() -> None:
    """Each reader is woken with the error and held no longer; it may come again."""
    channels, one, two = ChannelTable(), reader(), reader("other")
    following(channels, one, two)
    error = StoreUnavailable("away")
    channels.fail(error)
    assert (len(channels), one.joined, two.joined) == (0, False, False)
    for each in (one, two):
        with pytest.raises(StoreUnavailable) as raised:
            next(each.refill())
        assert raised.value is not error
    channels.join(one)
    assert len(channels) == 1


def test_a_dropped_reader_leaves_with_the_next_commands() -> None:
    """The garbage collector only leaves a note, at whatever moment it comes."""
    channels, one = ChannelTable(), reader()
    following(channels, one)
    channels.drop(one)
    assert one.joined
    assert channels.take_commands() == PendingCommands(unsubscribe=(channel(),))
    assert not one.joined


def test_an_ending_makes_an_idle_reader_ask_whether_that_was_all() -> None:
    """One page, not one for every frame."""
    one = reader(until="idle")
    one.offer(parse(frame(1, "a")))
    assert not one.cursor.behind
    one.offer(parse(b"2 1 abc 1\n" + encode(GenerationCompleted(generation_id="g"))))
    assert one.cursor.behind
    assert [item.seq for item in one.ready] == [1, 2]
