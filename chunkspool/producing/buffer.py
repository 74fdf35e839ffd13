"""What one attempt has said and Redis has not yet taken: merged, numbered and cut into batches. No I/O."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pydantic_core import PydanticSerializationError, to_json

from chunkspool.events import ReasoningDelta, TextDelta, encode
from chunkspool.states import EndState
from chunkspool.store.scripts import LastBatch

Kind = Literal["text", "reasoning"]

BATCH_EVENTS = 256
"""Events of one append: beyond this a call gains nothing and blocks others longer (docs/decisions/writing.md)."""
BATCH_BYTES = 256 * 1024
"""A batch that has reached this is sent: a script with megabytes of arguments would block the others, too.

512 KB in 256 events take Redis 7.0 six milliseconds, 256 KB three. Only a text that is one piece goes beyond it."""
WORST_ESCAPE = 6
"""Bytes that one character may take in JSON (a control character: backslash, u, four digits)."""


class Piece(NamedTuple):
    """A piece of text as the model's loop gave it; `size` is its bytes in UTF-8."""

    kind: Kind
    text: str
    size: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that go out in one append, and again unchanged until Redis has taken them."""

    index: int
    events: tuple[bytes, ...]
    ending: LastBatch | None
    size: int


class Buffer:
    """Takes pieces from the model's thread, gives batches to the flusher's thread."""

    def __init__(self, generation_id: str, limit: int, max_event_bytes: int) -> None:
        """Begin at index 1, as every attempt does. The buffer is full from `limit` bytes on."""
        self._generation_id = generation_id
        self._limit = limit
        self._full_batch = min(BATCH_BYTES, limit // 2)
        self._max_chars = max(1, (max_event_bytes - 200) // WORST_ESCAPE)
        self._lock = threading.Lock()
        self._pieces: deque[Piece | bytes] = deque()
        self._ending: tuple[LastBatch, bytes | None] | None = None
        self._failed: bytes | None = None
        self._index = 1
        self._in_flight: Batch | None = None
        self._half: Piece | None = None
        self._size = 0
        self._whole_events = 0  # of those in _pieces
        self._room: Future[None] | None = None
        self._unblocked = False

    @property
    def is_full(self) -> bool:
        """Whether the producer must wait."""
        return self._size >= self._limit

    @property
    def has_full_batch(self) -> bool:
        """Whether to wait longer would not make the next batch any larger: it is full, or the ending is in it."""
        in_flight = self._in_flight
        waiting = self._size - (in_flight.size if in_flight else 0)
        return self._ending is not None or self._whole_events >= BATCH_EVENTS or waiting >= self._full_batch

    def add_text(self, kind: Kind, text: str) -> bool:
        """Take a piece of text; return whether the flusher must hear of it. See `_add`."""
        if len(text) > self._max_chars:
            # All are taken, whatever the first returns.
            told = [self.add_text(kind, piece) for piece in _split(text, self._max_chars)]
            return any(told)
        size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        return self._add(Piece(kind, text, size), size)

    def add_event(self, encoded: bytes) -> bool:
        """Take a whole event; return whether the flusher must hear of it. See `_add`."""
        return self._add(encoded, len(encoded))

    def end(self, state: EndState, encoded: bytes) -> None:
        """Take the ending. It goes out last."""
        with self._lock:
            self._ending = (state, encoded) if self._failed is None else ("failed", self._failed)

    def end_without_ending(self, *, counts: bool) -> None:
        """Take note that no more comes and that there is no ending: another attempt is to claim the generation.

        `counts`: this one counts towards the attempts.
        """
        given_up: LastBatch = "abandoned" if counts else "released"
        with self._lock:
            self._ending = (given_up, None) if self._failed is None else ("failed", self._failed)

    def wait_for_room(self) -> Future[None]:
        """Return a future that is done as soon as half of the buffer is free, or `unblock` is called."""
        with self._lock:
            if self._room is None or self._room.done():
                self._room = Future()
                # An async producer that is cancelled while it waits must not cancel what the flusher will set.
                self._room.set_running_or_notify_cancel()
            room = self._room
            self._signal_room()
            return room

    def unblock(self) -> None:
        """Let no producer wait from now on, whether there is room or not."""
        with self._lock:
            self._unblocked = True
            self._signal_room()

    def cut(self) -> Batch | None:
        """Return the batch that is under way, else the next one, else None."""
        with self._lock:
            if self._in_flight is None:
                self._in_flight = self._next_batch()
            return self._in_flight

    def confirm(self) -> bool:
        """Forget the batch that was under way, because Redis has it; return whether there is more to write."""
        with self._lock:
            if self._in_flight is not None:
                self._index += len(self._in_flight.events)
                self._size -= self._in_flight.size
                self._in_flight = None
                self._signal_room()
            return bool(self._pieces) or self._ending is not None

    def restart_at(self, index: int, failed: bytes) -> bool:
        """Drop all that waits and continue at `index`, with no ending but `failed`: the text would have a hole.

        Return whether the producer had given its own ending already.
        """
        with self._lock:
            ended = self._ending is not None or (self._in_flight is not None and self._in_flight.ending is not None)
            self._pieces.clear()
            self._whole_events = 0
            self._half = None
            self._in_flight, self._index, self._size = None, index, 0
            self._failed = failed
            self._ending = ("failed", failed) if ended else None
            return ended

    def _add(self, piece: Piece | bytes, size: int) -> bool:
        """Take a piece; return whether it is the first that waits, or the one that makes a batch full."""
        with self._lock:
            is_first = not self._pieces
            self._pieces.append(piece)
            self._size += size
            if isinstance(piece, bytes):
                self._whole_events += 1
                if self._whole_events == BATCH_EVENTS:
                    return True
            before = self._size - size - (self._in_flight.size if self._in_flight else 0)
            return is_first or before < self._full_batch <= before + size

    def _signal_room(self) -> None:
        free = self._unblocked or self._size <= self._limit // 2
        if free and self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _next_batch(self) -> Batch | None:
        events: list[bytes] = []
        size = 0
        while self._pieces and len(events) < BATCH_EVENTS and size < BATCH_BYTES:
            piece = self._pieces.popleft()
            if self._half is not None and (isinstance(piece, bytes) or piece.kind != self._half.kind):
                # Its other half does not come any more.
                self._pieces.appendleft(piece)
                piece, self._half = self._half, None
                events += self._encode(piece.kind, piece.text)
                size += piece.size
            elif isinstance(piece, bytes):
                if events and size + len(piece) > BATCH_BYTES:
                    self._pieces.appendleft(piece)
                    break
                self._whole_events -= 1
                events.append(piece)
                size += len(piece)
            else:
                text, taken = self._hold_half(piece.kind, *self._merge(piece, BATCH_BYTES - size))
                events += self._encode(piece.kind, text)
                size += taken
        ending = None
        if not self._pieces and self._ending is not None:
            if self._half is not None:
                events += self._encode(self._half.kind, self._half.text)
                size, self._half = size + self._half.size, None
            ending, encoded = self._ending
            events += [] if encoded is None else [encoded]
            self._ending = None
        return Batch(self._index, tuple(events), ending, size) if events or ending else None

    def _merge(self, piece: Piece, room: int) -> tuple[str, int]:
        """Return the text of `piece` and of its neighbours of the same kind that fit in `room`, and their bytes."""
        parts, chars, size = [piece.text], len(piece.text), piece.size
        if self._half is not None:
            parts, size, self._half = [self._half.text, *parts], size + self._half.size, None
        while self._pieces and chars < self._max_chars:
            following = self._pieces[0]
            if isinstance(following, bytes) or following.kind != piece.kind or size + following.size > room:
                break
            self._pieces.popleft()
            parts.append(following.text)
            chars += len(following.text)
            size += following.size
        return "".join(parts), size

    def _hold_half(self, kind: Kind, text: str, size: int) -> tuple[str, int]:
        """Keep back the first half of a character at the end of `text`, if its other half may come yet.

        Models split an emoji between two tokens, which may be more than one flush apart: each half alone would be
        stored as U+FFFD.
        """
        if not text or not _is_first_half(text[-1]):
            return text, size
        self._half = Piece(kind, text[-1], _HALF_BYTES)
        return text[:-1], size - _HALF_BYTES

    def _encode(self, kind: Kind, text: str) -> list[bytes]:
        return [encode_delta(self._generation_id, kind, piece) for piece in _split(text, self._max_chars)]


_HALF_BYTES = 3
"""Bytes of half a character in UTF-8, had it any."""


def _is_first_half(char: str) -> bool:
    """Tell whether this is the first half of a character that UTF-16 spells in two."""
    return "\ud800" <= char <= "\udbff"


def _split(text: str, longest: int) -> list[str]:
    """Cut a text into pieces of at most `longest` characters, no character into halves."""
    pieces, start = [], 0
    while start < len(text):
        end = min(start + longest, len(text))
        if end < len(text) and end - start > 1 and _is_first_half(text[end - 1]):
            end -= 1
        pieces.append(text[start:end])
        start = end
    return pieces


def encode_delta(generation_id: str, kind: Kind, text: str) -> bytes:
    """Return what `encode` would, at a fifth of its cost: this is the one event of which there are thousands."""
    try:
        value = to_json(text)
    except PydanticSerializationError:
        model = TextDelta if kind == "text" else ReasoningDelta
        return encode(model(generation_id=generation_id, text=text))
    return b'{"type":"%s.delta","generation":"%s","text":%s}' % (kind.encode(), generation_id.encode(), value)
