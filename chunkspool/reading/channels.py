"""Which channels the readers of a hub need, and who hears what comes in on them. No I/O, no clock, no lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from chunkspool.errors import StoreUnavailable
from chunkspool.observer import NOBODY, Observer, ReaderOverflowed, ReadersChanged
from chunkspool.reading.reader import Reader
from chunkspool.store.commands import Command, Transaction
from chunkspool.store.entries import read_frame
from chunkspool.store.pages import Page

TICKS = 20
"""Ticks of a round. In each round every quiet chat is probed once, in each tick a part of them."""
PROBES = 50
"""Chats that are probed in one round trip: a larger one would keep the frames waiting."""


class _State(Enum):
    """How a channel stands on the connection.

    ::

        OFF ──── SUBSCRIBE sent ────▶ SUBSCRIBING ──── confirmed ────▶ ON
         ▲                                                             │
         └──── confirmed ──── UNSUBSCRIBING ◀──── UNSUBSCRIBE sent ────┘

    A reply names its channel, not the command that it answers. So of each channel one command is under way at a time:
    whoever comes or goes meanwhile only marks the channel as unsettled, and it is looked at again after the reply.
    A lost connection puts every channel to OFF.
    """

    OFF = auto()
    SUBSCRIBING = auto()
    ON = auto()
    UNSUBSCRIBING = auto()


@dataclass(eq=False, slots=True)
class Channel:
    """One channel. `heard`: something came in since it was last visited."""

    name: bytes
    readers: dict[Reader, None] = field(default_factory=dict)
    state: _State = _State.OFF
    heard: bool = True


@dataclass(frozen=True, slots=True)
class PendingCommands:
    """What is to be sent on the hub's connection."""

    subscribe: tuple[bytes, ...] = ()
    unsubscribe: tuple[bytes, ...] = ()
    ping: bool = False


@dataclass(frozen=True, slots=True)
class Probe:
    """A cheap read that tells whether `readers`, who wait, have missed something."""

    channel: Channel
    read: Transaction[Page]
    readers: tuple[Reader, ...]


class ChannelTable:
    """The channels of one connection. A hub tells it what happens and does what it says."""

    def __init__(self, notify: Callable[[], object] = lambda: None, observer: Observer = NOBODY) -> None:
        """Start without readers and without a connection. `notify` is called when a reply brings something to do."""
        self._observer = observer
        self._notify = notify
        self._channels: dict[bytes, Channel] = {}
        self._readers = 0
        # Channels whose state may not be what their readers need; a dict serves as an ordered set.
        self._unsettled: dict[Channel, None] = {}
        # Channels whose readers may have missed something.
        self._stale: dict[Channel, None] = {}
        self._dropped: deque[Reader] = deque()
        self._unanswered = 0
        self._connected = False
        self._tick = TICKS
        self._round: list[Channel] = []
        # Nothing came in for a round: the connection is asked with PING. Nothing for another round: it is dead.
        self._silent = False
        self._pinging = False
        self._ping_due = False

    def __len__(self) -> int:
        """Return the number of readers."""
        return self._readers

    def join(self, reader: Reader) -> None:
        """Bring the frames of its chat to `reader`; it is told when that has begun."""
        name = reader.cursor.channel.encode()
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = Channel(name)
            self._unsettled[channel] = None
        channel.readers[reader] = None
        reader.joined = True
        self._readers += 1
        self._observer.observe(ReadersChanged(1))
        if channel.state is _State.ON:
            reader.confirm()

    def leave(self, reader: Reader) -> None:
        """Bring nothing to `reader` any more. One that has not joined is no error."""
        if reader.joined:
            self._remove(self._channels[reader.cursor.channel.encode()], reader)

    def drop(self, reader: Reader) -> None:
        """Have `reader` leave soon. It may be called at any moment in any thread, also by the garbage collector."""
        self._dropped.append(reader)

    def connect(self) -> None:
        """Begin with a new connection."""
        self._connected, self._silent, self._pinging, self._ping_due = True, False, False, False
        self._unanswered, self._tick = 0, TICKS

    def disconnect(self) -> None:
        """Note that the connection is gone, and with it all subscriptions."""
        self._connected = False
        self._remove_dropped()
        self._stale.clear()
        self._channels = {name: channel for name, channel in self._channels.items() if channel.readers}
        self._unsettled = dict.fromkeys(self._channels.values())
        for channel in self._unsettled:
            channel.state = _State.OFF

    def take_commands(self) -> PendingCommands | None:
        """Return what is to be sent now; it counts as sent."""
        self._remove_dropped()
        if not self._connected or not (self._unsettled or self._ping_due):
            return None
        subscribe, unsubscribe = [], []
        for channel in self._unsettled:
            if channel.readers and channel.state is _State.OFF:
                channel.state = _State.SUBSCRIBING
                subscribe.append(channel.name)
            elif not channel.readers and channel.state is _State.ON:
                channel.state = _State.UNSUBSCRIBING
                unsubscribe.append(channel.name)
            elif not channel.readers and channel.state is _State.OFF:
                del self._channels[channel.name]
            # In the two states between, a reply is under way, which makes the channel unsettled again if need be.
        self._unsettled.clear()
        self._unanswered += len(subscribe) + len(unsubscribe)
        ping, self._ping_due = self._ping_due, False
        return PendingCommands(tuple(subscribe), tuple(unsubscribe), ping)

    def take_frame(self, name: bytes, data: bytes) -> None:
        """Pass on what was published: parsed once for all its readers."""
        channel = self._channels.get(name)
        if channel is not None and channel.readers:
            channel.heard = True
            frame = read_frame(data)
            if frame is not None:
                for reader in channel.readers:
                    if not reader.offer(frame):
                        self._observer.observe(ReaderOverflowed())

    def confirm_subscribe(self, name: bytes) -> None:
        """Take Redis's confirmation. Those who listened on an earlier connection may have missed something: probe."""
        channel = self._channels[name]
        channel.state = _State.ON
        self._unanswered -= 1
        if not channel.readers:
            self._unsettled[channel] = None
        for reader in channel.readers:
            if reader.listening:
                self._stale[channel] = None
            else:
                reader.confirm()
        self._notify()

    def confirm_unsubscribe(self, name: bytes) -> None:
        """Take Redis's confirmation. Somebody may have come meanwhile."""
        channel = self._channels[name]
        channel.state = _State.OFF
        self._unanswered -= 1
        self._unsettled[channel] = None
        self._notify()

    def note_sign_of_life(self) -> None:
        """Note that something came in on the connection."""
        self._silent = self._pinging = False

    def tick(self) -> None:
        """Have the quiet chats of this tick probed. Raises `StoreUnavailable` if the connection is dead."""
        if self._tick >= TICKS:
            self._begin_round()
        visited = len(self._round)
        for channel in self._round[visited * self._tick // TICKS : visited * (self._tick + 1) // TICKS]:
            if channel.readers and channel.state is _State.ON and not channel.heard:
                self._stale[channel] = None
            channel.heard = False
        self._tick += 1

    @property
    def is_settled(self) -> bool:
        """Whether all is subscribed as it should be, and nobody may have missed anything: Redis does its work."""
        return self._connected and not (self._unsettled or self._unanswered or self._stale)

    @property
    def has_probes(self) -> bool:
        """Whether there are chats to be probed now."""
        return bool(self._stale)

    def take_probes(self) -> list[Probe]:
        """Return the next probes to send, in one round trip."""
        probes: list[Probe] = []
        while self._stale and len(probes) < PROBES:
            channel = next(iter(self._stale))
            del self._stale[channel]
            channel.heard = False
            probes += _probes_of(channel)
        return probes

    def take_probe_reply(self, probe: Probe, seen: Page | Exception) -> None:
        """Wake those who are behind. An error is theirs to find: their own read runs into it, too.

        A frame that came in meanwhile makes the probe needless: it fits, or it has shown them that they are behind.
        Raises `StoreUnavailable` if that is what was seen: the connection then is of no use, either.
        """
        if isinstance(seen, StoreUnavailable):
            raise seen
        if probe.channel.heard:
            return
        for reader in probe.readers:
            if isinstance(seen, Exception) or not reader.cursor.take_probe(seen):
                reader.mark_stale()

    def fail(self, error: Exception) -> None:
        """Raise `error` in all readers, and be rid of them."""
        for channel in self._channels.values():
            for reader in tuple(channel.readers):
                self._remove(channel, reader)
                reader.fail(error)

    def _remove_dropped(self) -> None:
        while self._dropped:
            self.leave(self._dropped.popleft())

    def _remove(self, channel: Channel, reader: Reader) -> None:
        del channel.readers[reader]
        reader.joined = reader.listening = False
        self._readers -= 1
        self._observer.observe(ReadersChanged(-1))
        if not channel.readers:
            self._unsettled[channel] = None

    def _begin_round(self) -> None:
        if self._silent and self._pinging:
            raise StoreUnavailable("Redis did not answer PING")
        self._ping_due = self._pinging = self._silent
        self._silent = True
        self._round, self._tick = list(self._channels.values()), 0


def _probes_of(channel: Channel) -> Iterator[Probe]:
    """Yield one probe for all readers of a channel who ask the same; those who will read anyhow need none."""
    asking: dict[tuple[Command, ...], tuple[Transaction[Page], list[Reader]]] = {}
    for reader in channel.readers:
        if not reader.cursor.behind and not reader.cursor.done:
            read = reader.cursor.probe()
            asking.setdefault(read.commands, (read, []))[1].append(reader)
    for read, readers in asking.values():
        yield Probe(channel, read, tuple(readers))
