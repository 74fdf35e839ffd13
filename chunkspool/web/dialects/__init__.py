"""Dialects: what a client's library wants to hear on an event stream. Pure encoders: entries in, bytes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from chunkspool.events import Entry


class Encoder(Protocol):
    """Encodes one stream. What is added waits, merged where the dialect can, until it is taken and sent."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The response's headers."""
        ...

    @property
    def size(self) -> int:
        """About how many bytes wait."""
        ...

    @property
    def done(self) -> bool:
        """Whether the stream has said its last word."""
        ...

    def add(self, entry: Entry) -> None:
        """Take an entry of the chat."""
        ...

    def add_corrupt(self, seq: int) -> None:
        """Take the news that the entry `seq` cannot be decoded."""
        ...

    def add_problem(self, document: Mapping[str, object]) -> None:
        """Take what ends the stream too early: a problem document (RFC 9457)."""
        ...

    def take(self) -> bytes:
        """Return all that waits, and forget it."""
        ...


EVENT_STREAM: Mapping[str, str] = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    # nginx would gather the events of a whole answer.
    "x-accel-buffering": "no",
}
"""The headers that every dialect over server-sent events has."""
