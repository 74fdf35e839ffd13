"""Blocks of a digest: a stretch of a log as one value, in which a generation's adjacent deltas are merged."""

from __future__ import annotations

import zlib
from binascii import a2b_base64, b2a_base64
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from chunkspool.events import KNOWN_TYPES, Entry, Event, GenerationStarted
from chunkspool.store.entries import DELTAS, entry_of, item_of

BLOCK_EVENTS: Final = 5_000
BLOCK_BYTES: Final = 1024 * 1024
"""A block is made when this many events, or bytes of them, have come together: a few milliseconds of work."""
MAX_PLAIN: Final = 64 * 1024 * 1024
"""Bytes that a stored block may unpack to; a larger one is not stored, and not unpacked."""
_MERGEABLE_FIELDS: Final = 3
_END: Final = b'"}'
_NOTHING: Final = b"\0"
"""With this, no event begins."""
_COMPRESSION: Final = 1
"""zlib's fastest: another one packs a tenth better and takes three times as long."""


@dataclass(frozen=True, slots=True)
class Block:
    """The events from `first` to `last`, by generation. `at` is when the last was written (Unix ms, Redis's clock).

    `begun` are the generations with an event that this version knows, and the seq of the first one here, in that
    order; `others` those that have none. `restarted` are those whose earlier attempt a further one makes void here.
    `plain` is the block itself, of `size` bytes; None: it is in Redis.
    """

    first: int
    last: int
    at: int
    size: int
    begun: tuple[tuple[str, int], ...]
    others: tuple[str, ...] = ()
    restarted: tuple[str, ...] = ()
    plain: bytes | None = None

    def holds(self, generation_ids: Collection[str] | None) -> bool:
        """Tell whether there is an event of one of these generations in it; None stands for all."""
        if generation_ids is None:
            return True
        return any(one in generation_ids for one, _ in self.begun) or any(one in generation_ids for one in self.others)

    def line(self) -> bytes:
        """Return what the digest's index says of it."""
        return to_json((self.first, self.last, self.at, self.size, self.begun, self.others, self.restarted))

    def entries(self, plain: bytes, generation_ids: Collection[str] | None, log: str) -> Iterator[Entry]:
        """Yield the entries of these generations, one generation after the other; merged ones are of the last's time.

        Raises `ValueError` or `CorruptLog` for what no chunkspool packed.
        """
        head, newline, body = plain.partition(b"\n")
        if not newline:
            raise ValueError("it has no list of its events")
        at = 0
        for generation_id, sizes in _CONTENTS.validate_json(head):
            is_wanted = generation_ids is None or generation_id in generation_ids
            for size in sizes:
                if is_wanted:
                    yield entry_of(item_of(self.last, self.at, body[at : at + size], log))
                at += size
        if at != len(body):
            raise ValueError("its events have another length")


_Line = tuple[int, int, int, int, tuple[tuple[str, int], ...], tuple[str, ...], tuple[str, ...]]
_LINE: Final[TypeAdapter[_Line]] = TypeAdapter(_Line)
_CONTENTS: Final[TypeAdapter[list[tuple[str, list[int]]]]] = TypeAdapter(list[tuple[str, list[int]]])


def blocks_of_index(index: bytes) -> tuple[Block, ...] | None:
    """Return the blocks that an index lists; None where it is not one of ours, or has a hole."""
    try:
        blocks = tuple([Block(*_LINE.validate_json(line)) for line in index.splitlines()])
    except ValidationError:
        return None
    is_whole = all(block.first == before.last + 1 for before, block in pairwise(blocks))
    return blocks if blocks and is_whole else None


def pack(plain: bytes) -> bytes:
    """Return a block as it is stored: in base64, because a client of the app's own may decode all replies as UTF-8."""
    return b2a_base64(zlib.compress(plain, _COMPRESSION), newline=False)


def unpack(stored: bytes) -> bytes:
    """Return a block that was stored. Raises `ValueError` for anything else."""
    unpacking = zlib.decompressobj()
    try:
        plain = unpacking.decompress(a2b_base64(stored), MAX_PLAIN)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if not unpacking.eof:
        raise ValueError("it is cut off, or too large")
    return plain


class BlockBuilder:
    """Makes a block of consecutive entries."""

    def __init__(self, first: int) -> None:
        """`first` is the seq of its first entry."""
        self.first = first
        self.last = first - 1
        self.at = 0
        self._raw_bytes = 0
        self._stretches: dict[str, _Stretch] = {}

    @property
    def is_full(self) -> bool:
        """Whether it is time to make the block."""
        return self.last - self.first + 1 >= BLOCK_EVENTS or self._raw_bytes >= BLOCK_BYTES

    @property
    def is_empty(self) -> bool:
        """Whether it has no entry yet."""
        return self.last < self.first

    def add(self, entries: Iterable[Entry]) -> None:
        """Add the next entries; after them, the block ends there."""
        stretches = self._stretches
        for entry in entries:
            self.last, self.at, raw = entry.seq, entry.at, entry.raw
            self._raw_bytes += len(raw)
            stretch = stretches.get(entry.generation_id)
            if stretch is None:
                if not entry.generation_id:
                    continue
                stretch = stretches[entry.generation_id] = _Stretch(entry.generation_id)
            # Most of what a long chat holds: one more delta of the same kind, without a quote. It is merged unparsed.
            if (
                raw.startswith(stretch.prefix)
                and raw.endswith(_END)
                and b'"' not in (body := raw[len(stretch.prefix) : -2])
            ):
                stretch.bodies.append(body)
            else:
                stretch.add(entry)

    def build(self) -> Block:
        """Return the block."""
        known = [one for one in self._stretches.values() if one.begun]
        known.sort(key=lambda one: one.begun)  # as a fold orders them
        unknown = [one for one in self._stretches.values() if not one.begun]
        contents = [(one.generation_id, one.finish()) for one in (*known, *unknown)]
        head = to_json([(generation_id, list(map(len, events))) for generation_id, events in contents])
        plain = b"".join((head, b"\n", *(event for _, events in contents for event in events)))
        return Block(
            first=self.first,
            last=self.last,
            at=self.at,
            size=len(plain),
            begun=tuple((one.generation_id, one.begun) for one in known),
            others=tuple(one.generation_id for one in unknown),
            restarted=tuple(one.generation_id for one in known if one.restarted),
            plain=plain,
        )


class _Stretch:
    """The events of one generation in a block. `bodies` are the texts that are being merged, as they are in JSON."""

    __slots__ = ("_events", "begun", "bodies", "generation_id", "prefix", "restarted")

    def __init__(self, generation_id: str) -> None:
        self.generation_id = generation_id
        self.begun = 0
        self.restarted = False
        self.prefix = _NOTHING
        self.bodies: list[bytes] = []
        self._events: list[bytes] = []

    def add(self, entry: Entry) -> None:
        if not self.begun and entry.type in KNOWN_TYPES:
            self.begun = entry.seq
        if entry.type in DELTAS:
            fields = from_json(entry.raw)
            # What a newer version has added to a delta is not ours to merge.
            if len(fields) == _MERGEABLE_FIELDS:
                prefix = b'{"type":"%b","generation":%b,"text":"' % (entry.type.encode(), to_json(self.generation_id))
                if prefix != self.prefix:
                    self._merge()
                    self.prefix = prefix
                self.bodies.append(to_json(fields["text"])[1:-1])
                return
        self._merge()
        self._events.append(entry.raw)
        if entry.type == "generation.started":
            self.restarted |= is_restart(entry.event)

    def finish(self) -> list[bytes]:
        self._merge()
        return self._events

    def _merge(self) -> None:
        if self.bodies:
            self._events.append(b"".join((self.prefix, *self.bodies, _END)))
            self.bodies = []
        self.prefix = _NOTHING


def is_restart(event: Event) -> bool:
    """Tell whether the event makes what earlier attempts have written void."""
    return isinstance(event, GenerationStarted) and event.attempt > 1 and not event.continues
