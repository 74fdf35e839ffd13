"""Which channels the readers of a hub need, and who hears what comes in on them. No I/O, no clock, no lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from chunkspool.errors import StoreUnavailable
from chunkspool.reading.cursor import Page
from chunkspool.reading.reader import Reader
from chunkspool.store.commands import Reads
from chunkspool.store.entries import read_frame

TICKS = 20
"""Ticks of a round. In each round every quiet chat is looked at once, in each tick a part of them."""
LOOKS = 50
"""Chats that are looked at in one round trip: a larger one would keep the frames waiting."""


class _State(Enum):
    OFF = auto()
    ASKED = auto()
    ON = auto()
    LEAVING = auto()


@dataclass(eq=False, slots=True)
class Line:
    """One channel. `heard`: something came in since it was last visited."""

    channel: bytes
    readers: dict[Reader, None] = field(default_factory=dict)
    state: _State = _State.OFF
    heard: bool = True


@dataclass(frozen=True, slots=True)
class Orders:
    """What is to be asked of Redis on the hub's connection."""

    join: tuple[bytes, ...] = ()
    leave: tuple[bytes, ...] = ()
    ping: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """A cheap read that tells whether `readers`, who wait, have missed something."""

    line: Line
    reads: Reads[Page]
    readers: tuple[Reader, ...]


class Lines:
    """The channels of one connection. A hub tells it what happens and does what it says."""

    def __init__(self, stir: Callable[[], object] = lambda: None) -> None:
        """Start without readers and without a connection. `stir` is called when a reply brings new orders or looks."""
        self._stir = stir
        self._by_channel: dict[bytes, Line] = {}
        self._readers = 0
        self._unsettled: dict[Line, None] = {}
        self._doubtful: dict[Line, None] = {}
        self._dropped: deque[Reader] = deque()
        self._unanswered = 0
        self._linked = False
        self._tick = TICKS
        self._round: list[Line] = []
        self._silent = False
        self._pinging = False
        self._ping_due = False

    def __len__(self) -> int:
        """Return the number of readers."""
        return self._readers

    def join(self, reader: Reader) -> None:
        """Bring the frames of its chat to `reader`; it is told when that has begun."""
        channel = reader.cursor.channel.encode()
        line = self._by_channel.get(channel)
        if line is None:
            line = self._by_channel[channel] = Line(channel)
            self._unsettled[line] = None
        line.readers[reader] = None
        reader.joined = True
        self._readers += 1
        if line.state is _State.ON:
            reader.confirm()

    def leave(self, reader: Reader) -> None:
        """Bring nothing to `reader` any more. One that has not joined is no error."""
        if reader.joined:
            self._part(self._by_channel[reader.cursor.channel.encode()], reader)

    def drop(self, reader: Reader) -> None:
        """Have `reader` leave soon. It may be called at any moment in any thread, also by the garbage collector."""
        self._dropped.append(reader)

    def linked(self) -> None:
        """Begin with a new connection."""
        self._linked, self._silent, self._pinging, self._ping_due = True, False, False, False
        self._unanswered, self._tick = 0, TICKS

    def lost(self) -> None:
        """Remember that the connection is gone, and with it all subscriptions."""
        self._linked = False
        self._let_go()
        self._doubtful.clear()
        self._by_channel = {channel: line for channel, line in self._by_channel.items() if line.readers}
        self._unsettled = dict.fromkeys(self._by_channel.values())
        for line in self._unsettled:
            line.state = _State.OFF

    def orders(self) -> Orders | None:
        """Return what is to be sent now; it counts as sent."""
        self._let_go()
        if not self._linked or not (self._unsettled or self._ping_due):
            return None
        join, leave = [], []
        for line in self._unsettled:
            if line.readers and line.state is _State.OFF:
                line.state = _State.ASKED
                join.append(line.channel)
            elif not line.readers and line.state is _State.ON:
                line.state = _State.LEAVING
                leave.append(line.channel)
            elif not line.readers and line.state is _State.OFF:
                del self._by_channel[line.channel]
        self._unsettled.clear()
        self._unanswered += len(join) + len(leave)
        ping, self._ping_due = self._ping_due, False
        return Orders(tuple(join), tuple(leave), ping)

    def frame(self, channel: bytes, data: bytes) -> None:
        """Pass on what was published."""
        line = self._by_channel.get(channel)
        if line is not None and line.readers:
            line.heard = True
            frame = read_frame(data)
            for reader in line.readers:
                reader.offer(frame)

    def subscribed(self, channel: bytes) -> None:
        """Redis has confirmed. Those who listened on an earlier connection may have missed something: look."""
        line = self._by_channel[channel]
        line.state = _State.ON
        self._unanswered -= 1
        if not line.readers:
            self._unsettled[line] = None
        for reader in line.readers:
            if reader.listening:
                self._doubtful[line] = None
            else:
                reader.confirm()
        self._stir()

    def unsubscribed(self, channel: bytes) -> None:
        """Redis has confirmed. Somebody may have come meanwhile."""
        line = self._by_channel[channel]
        line.state = _State.OFF
        self._unanswered -= 1
        self._unsettled[line] = None
        self._stir()

    def alive(self) -> None:
        """Note that something came in on the connection."""
        self._silent = self._pinging = False

    def tick(self) -> None:
        """Have the quiet chats of this tick looked at. Raises `StoreUnavailable` if the connection is dead."""
        if self._tick >= TICKS:
            self._begin_round()
        visited = len(self._round)
        for line in self._round[visited * self._tick // TICKS : visited * (self._tick + 1) // TICKS]:
            if line.readers and line.state is _State.ON and not line.heard:
                self._doubtful[line] = None
            line.heard = False
        self._tick += 1

    @property
    def at_rest(self) -> bool:
        """Whether all is subscribed as it should be, and nobody in doubt: Redis does what it is there for."""
        return self._linked and not (self._unsettled or self._unanswered or self._doubtful)

    @property
    def in_doubt(self) -> bool:
        """Whether there are chats to be looked at now."""
        return bool(self._doubtful)

    def looks(self) -> list[Look]:
        """Return the next looks to take, in one round trip."""
        looks: list[Look] = []
        while self._doubtful and len(looks) < LOOKS:
            line = next(iter(self._doubtful))
            del self._doubtful[line]
            line.heard = False
            looks += _looks_of(line)
        return looks

    def looked(self, look: Look, seen: Page | Exception) -> None:
        """Wake those who are behind. An error is theirs to find: their own read runs into it, too.

        A frame that came in meanwhile makes the look needless: it fits, or it has shown them that they are behind.
        Raises `StoreUnavailable` if that is what was seen: the connection then is of no use, either.
        """
        if isinstance(seen, StoreUnavailable):
            raise seen
        if look.line.heard:
            return
        for reader in look.readers:
            if isinstance(seen, Exception) or not reader.cursor.agrees(seen):
                reader.suspect()

    def fail(self, error: Exception) -> None:
        """Raise `error` in all readers, and be rid of them."""
        for line in self._by_channel.values():
            for reader in tuple(line.readers):
                self._part(line, reader)
                reader.fail(error)

    def _let_go(self) -> None:
        while self._dropped:
            self.leave(self._dropped.popleft())

    def _part(self, line: Line, reader: Reader) -> None:
        del line.readers[reader]
        reader.joined = reader.listening = False
        self._readers -= 1
        if not line.readers:
            self._unsettled[line] = None

    def _begin_round(self) -> None:
        if self._silent and self._pinging:
            raise StoreUnavailable("Redis is away: no answer to PING")
        self._ping_due = self._pinging = self._silent
        self._silent = True
        self._round, self._tick = list(self._by_channel.values()), 0


def _looks_of(line: Line) -> Iterator[Look]:
    """Yield one look for all readers of a line who want to know the same; those who will read anyhow need none."""
    asking: dict[tuple[tuple[str | bytes | int, ...], ...], tuple[Reads[Page], list[Reader]]] = {}
    for reader in line.readers:
        if not reader.cursor.behind and not reader.cursor.done:
            reads = reader.cursor.look()
            asking.setdefault(reads.commands, (reads, []))[1].append(reader)
    for reads, readers in asking.values():
        yield Look(line, reads, tuple(readers))
