"""Dialects: the formats that client libraries expect on an event stream. Pure encoders: entries in, bytes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from chunkspool.events import Entry


class Encoder(Protocol):
    """Encodes one stream. Added entries wait, merged if the dialect allows it, until `take` returns them."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The response's headers."""
        ...

    @property
    def size(self) -> int:
        """About how many bytes are waiting."""
        ...

    @property
    def done(self) -> bool:
        """Whether the stream is complete: later entries are ignored."""
        ...

    def add(self, entry: Entry) -> None:
        """Add an entry of the chat."""
        ...

    def add_corrupt(self, seq: int) -> None:
        """Add a notice that the entry `seq` cannot be decoded."""
        ...

    def add_problem(self, document: Mapping[str, object]) -> None:
        """Add the problem document (RFC 9457) that says why the stream ends early."""
        ...

    def close(self) -> None:
        """Add what the dialect's clients need to hear if the stream ends now, whether or not it is complete."""
        ...

    def take(self) -> bytes:
        """Return all that is waiting, and forget it."""
        ...


EVENT_STREAM: Mapping[str, str] = {
    "content-type": "text/event-stream; charset=utf-8",
    # A proxy that compresses would collect the events until it has enough to compress: `no-transform` forbids it.
    "cache-control": "no-cache, no-transform",
    # Without it, nginx buffers the events and delivers them in large batches.
    "x-accel-buffering": "no",
}
"""Headers of every dialect that uses server-sent events."""
HEARTBEAT = b":\n"
"""A comment. It is a line and no block of its own: some clients take every empty line for the end of a message."""
