"""What a hub asks of Redis and its readers, without Redis: subscriptions, probes, pings."""

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
    """Counts its wake-ups."""

    def __init__(self) -> None:
        """Start at zero."""
        self.wakes = 0

    def set(self) -> None:
        """Count one."""
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


def join_all(channels: ChannelTable, *readers: Reader) -> None:
    """Let the readers join and catch up."""
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


def test_readers_of_one_chat_share_a_subscription() -> None:
    """There is one SUBSCRIBE for the first reader and one UNSUBSCRIBE after the last."""
    channels, first, second = ChannelTable(), reader(), reader()
    join_all(channels, first, second)
    channels.leave(first)
    assert channels.take_commands() is None
    channels.leave(second)
    channels.leave(second)
    assert channels.take_commands() == PendingCommands(unsubscribe=(channel(),))
    channels.confirm_unsubscribe(channel())
    assert (channels.take_commands(), len(channels)) == (PendingCommands(), 0)


def test_subscriptions_wait_for_a_connection() -> None:
    """Commands are issued once there is a connection, and again after it was lost."""
    channels, one = ChannelTable(), reader()
    channels.join(one)
    assert channels.take_commands() is None
    channels.connect()
    assert channels.take_commands() == PendingCommands(subscribe=(channel(),))
    assert channels.take_commands() is None
    channels.disconnect()
    channels.connect()
    assert channels.take_commands() == PendingCommands(subscribe=(channel(),))


def test_a_reader_that_leaves_before_the_reply_is_unsubscribed_after_it() -> None:
    """Replies to SUBSCRIBE and UNSUBSCRIBE do not say which request they answer, so one is awaited at a time."""
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


@pytest.mark.parametrize("joins", ["before", "after"])
def test_a_connection_lost_while_a_channel_is_left_keeps_nobody_waiting(joins: str) -> None:
    """The reply to its UNSUBSCRIBE never comes: whoever joined is subscribed on the next connection."""
    channels, one, two = ChannelTable(), reader(), reader()
    join_all(channels, one)
    channels.leave(one)
    assert channels.take_commands() == PendingCommands(unsubscribe=(channel(),))
    if joins == "before":
        channels.join(two)
    channels.disconnect()
    if joins == "after":
        channels.join(two)
    channels.connect()
    assert channels.take_commands() == PendingCommands(subscribe=(channel(),))
    channels.confirm_subscribe(channel())
    assert two.listening


def test_a_frame_is_parsed_once_for_all_readers() -> None:
    """Readers of a chat share its entries."""
    channels, one, two = ChannelTable(), reader(), reader()
    join_all(channels, one, two)
    channels.take_frame(channel(), frame(1, "a", "b"))
    assert [item.seq for item in one.ready] == [1, 2]
    assert one.ready[0] is two.ready[0]
    channels.take_frame(channel("unknown"), frame(1, "a"))


def test_only_a_confirmed_reader_trusts_frames() -> None:
    """Events before the confirmation are in the log, so the reader goes there first."""
    channels, one = ChannelTable(), reader()
    channels.connect()
    channels.join(one)
    channels.take_commands()
    channels.confirm_subscribe(channel())
    assert one.cursor.behind
    channels.take_frame(channel(), frame(1, "a"))
    assert not one.ready


def test_a_frame_during_a_read_sends_the_reader_to_the_log_again() -> None:
    """The page may already hold it, so it is not taken, but it is not forgotten either."""
    one = reader()
    one.cursor.behind = True
    one.cursor.page()
    one.offer(parse(frame(1, "a")))
    assert one.cursor.take_page(Page((), 0, ())) == ()
    assert one.cursor.behind
    one.cursor.page()
    assert one.cursor.take_page(Page(parse(frame(1, "a")).items, 1, ())) != ()
    assert not one.cursor.behind


def test_a_readers_buffer_limits_its_events() -> None:
    """Further events are left to the log, and nothing is taken out of order afterwards."""
    one = reader()
    for seq in range(1, 2 * BUFFER_EVENTS):
        one.offer(parse(frame(seq, "a")))
    assert [item.seq for item in one.ready] == list(range(1, BUFFER_EVENTS + 1))
    assert one.cursor.behind
    one.ready.clear()
    one.offer(parse(frame(BUFFER_EVENTS + 1, "a")))
    assert not one.ready


def test_a_readers_buffer_limits_its_bytes() -> None:
    """Large events fill the buffer sooner; a reader that keeps up never runs out of room."""
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


def test_an_empty_buffer_accepts_an_oversized_frame() -> None:
    """Otherwise it would have to be read from the log every time."""
    one = reader()
    one.offer(parse(frame(1, "x" * 2 * BUFFER_BYTES)))
    assert [item.seq for item in one.ready] == [1]


def run_ticks(channels: ChannelTable, number: int = TICKS) -> list[int]:
    """Let time pass; return how many chats are probed in each tick."""
    counts = []
    for _ in range(number):
        channels.note_sign_of_life()
        channels.tick()
        probed = 0
        while channels.has_probes:
            probes = channels.take_probes()
            probed += len(probes)
            for probe in probes:
                channels.take_probe_reply(probe, Page((), 0, ("g",)))
        counts.append(probed)
    return counts


def test_quiet_chats_are_probed_once_a_round_spread_over_its_ticks() -> None:
    """A round has TICKS ticks; each tick probes its share of the chats."""
    channels = ChannelTable()
    join_all(channels, *(reader(f"chat-{number}") for number in range(1000)))
    assert run_ticks(channels) == [0] * TICKS
    for _ in range(3):
        assert run_ticks(channels) == [1000 // TICKS] * TICKS


def test_chats_with_frames_are_not_probed() -> None:
    """Their frames say everything that a probe could."""
    channels, one = ChannelTable(), reader()
    join_all(channels, one)
    for seq in range(1, 4):
        channels.take_frame(channel(), frame(seq, "a"))
        assert sum(run_ticks(channels)) == 0
    assert sum(run_ticks(channels)) == 1


def test_readers_of_one_chat_share_a_probe() -> None:
    """Readers share a probe if they need the same information."""
    channels = ChannelTable()
    join_all(channels, reader(), reader(), reader(until="idle"), reader(until="some-generation"))
    run_ticks(channels)
    channels.tick()
    for _ in range(TICKS - 1):
        channels.tick()
    assert sorted(len(probe.readers) for probe in channels.take_probes()) == [1, 3]


def test_a_probe_wakes_only_readers_that_are_behind() -> None:
    """The others are not woken."""
    channels, ahead, behind = ChannelTable(), reader(seq=3), reader(seq=2)
    join_all(channels, ahead, behind)
    run_ticks(channels, 2 * TICKS - 1)
    channels.tick()
    [probe] = channels.take_probes()
    channels.take_probe_reply(probe, Page((), 3, ()))
    assert (ahead.cursor.behind, behind.cursor.behind) == (False, True)


def test_a_probe_overtaken_by_a_frame_is_ignored() -> None:
    """It shows an older state of the chat."""
    channels, one = ChannelTable(), reader()
    join_all(channels, one)
    run_ticks(channels, 2 * TICKS - 1)
    channels.tick()
    [probe] = channels.take_probes()
    channels.take_frame(channel(), frame(1, "a"))
    channels.take_probe_reply(probe, Page((), 0, ()))
    assert not one.cursor.behind


def test_a_probes_error_is_raised_by_the_readers_own_read() -> None:
    """Only an unreachable Redis concerns the hub."""
    channels, one = ChannelTable(), reader()
    join_all(channels, one)
    run_ticks(channels, 2 * TICKS - 1)
    channels.tick()
    [probe] = channels.take_probes()
    with pytest.raises(StoreUnavailable):
        channels.take_probe_reply(probe, StoreUnavailable("away"))
    channels.take_probe_reply(probe, ChatNotFound("chat"))
    assert one.cursor.behind


def test_all_chats_are_probed_at_once_after_a_reconnect() -> None:
    """The round trips have a limited size."""
    channels = ChannelTable()
    readers = [reader(f"chat-{number}") for number in range(3 * PROBES)]
    join_all(channels, *readers)
    channels.disconnect()
    channels.connect()
    commands = channels.take_commands()
    assert commands is not None
    for name in commands.subscribe:
        channels.confirm_subscribe(name)
    assert [len(channels.take_probes()) for _ in range(3)] == [PROBES] * 3
    assert not channels.has_probes
    assert not any(one.cursor.behind for one in readers)


def test_a_silent_connection_is_pinged_and_then_given_up() -> None:
    """After one silent round it gets a PING; after another without an answer it counts as lost."""
    channels = ChannelTable()
    join_all(channels, reader())
    issued = []
    for _ in range(2 * TICKS):
        channels.tick()
        issued.append(channels.take_commands())
    assert issued == [PendingCommands(ping=True) if tick == TICKS else None for tick in range(2 * TICKS)]
    with pytest.raises(StoreUnavailable, match="PING"):
        channels.tick()


def test_an_answered_ping_is_a_sign_of_life() -> None:
    """The connection is kept and pinged again after another silent round."""
    channels = ChannelTable()
    join_all(channels, reader())
    pings = 0
    for _ in range(10 * TICKS):
        channels.tick()
        commands = channels.take_commands()
        if commands is not None and commands.ping:
            pings += 1
            channels.note_sign_of_life()
    assert 4 <= pings <= 10


def test_a_table_is_settled_once_everything_is_subscribed() -> None:
    """Only then has a connection proved that it works."""
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


def test_a_failure_wakes_every_reader_with_the_error() -> None:
    """The table no longer holds them; they may join again."""
    channels, one, two = ChannelTable(), reader(), reader("other")
    join_all(channels, one, two)
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
    """The garbage collector may run at any moment and only leaves a note."""
    channels, one = ChannelTable(), reader()
    join_all(channels, one)
    channels.drop(one)
    assert one.joined
    assert channels.take_commands() == PendingCommands(unsubscribe=(channel(),))
    assert not one.joined


def test_an_ending_makes_an_idle_reader_check_for_active_generations() -> None:
    """It reads one page, not one per frame."""
    one = reader(until="idle")
    one.offer(parse(frame(1, "a")))
    assert not one.cursor.behind
    one.offer(parse(b"2 1 abc 1\n" + encode(GenerationCompleted(generation_id="g"))))
    assert one.cursor.behind
    assert [item.seq for item in one.ready] == [1, 2]
