"""chunkspool's own dialect: one server-sent event an entry, `data:` being the stored bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic_core import to_json

from chunkspool.events import Entry
from chunkspool.web.dialects import EVENT_STREAM

RETRY_MS = 1000
"""How long an EventSource waits before it connects again."""
_LINE_ENDS = re.compile(rb"\r\n|\r|\n")
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,100}")


class Native:
    """`id:` is the entry's cursor, `event:` the type, `data:` the JSON as it stands in the log."""

    headers: Mapping[str, str] = EVENT_STREAM
    done = False

    def __init__(self, *, times: bool = False) -> None:
        """With `times`, a comment in front of each event says when it was written (Unix ms, Redis's clock)."""
        self._times = times
        self._waiting: list[bytes] = [b"retry: %d\n\n" % RETRY_MS]
        self._names: dict[str, bytes] = {}
        self.size = 0

    def add(self, entry: Entry) -> None:
        """Take an entry of the chat."""
        kind = entry.type
        name = self._names.get(kind) or self._name_of(kind)
        raw = entry.raw
        if b"\n" in raw or b"\r" in raw:
            # No writer of ours breaks a line inside an event; in a forged one it is white space between JSON's tokens.
            raw = _LINE_ENDS.sub(b"\ndata: ", raw)
        event = b"id: %b\nevent: %b\ndata: %b\n\n" % (entry.cursor.encode(), name, raw)
        if self._times:
            event = b": %d\n%b" % (entry.at, event)
        self._waiting.append(event)
        self.size += len(event)

    def add_corrupt(self, seq: int) -> None:
        """Take the news that the entry `seq` cannot be decoded: `event: log.corrupt`."""
        self._waiting.append(b"id: %d\nevent: log.corrupt\ndata: %b\n\n" % (seq, to_json({"seq": seq})))

    def add_problem(self, document: Mapping[str, object]) -> None:
        """Take what ends the stream too early: `event: problem`."""
        self._waiting.append(b"event: problem\ndata: %b\n\n" % to_json(document))

    def take(self) -> bytes:
        """Return all that waits, and forget it."""
        taken = b"".join(self._waiting)
        self._waiting.clear()
        self.size = 0
        return taken

    def _name_of(self, kind: str) -> bytes:
        # A type that no chunkspool wrote must not break out of its line.
        name = kind.encode() if _NAME.fullmatch(kind) else b"unknown"
        self._names[kind] = name
        return name
