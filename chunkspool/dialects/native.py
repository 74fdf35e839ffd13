"""chunkspool's own dialect: one server-sent event per entry, with the stored bytes as its `data:`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from chunkspool.dialects import EVENT_STREAM
from chunkspool.events import Entry
from chunkspool.json_text import to_valid_json

RETRY_MS = 1000
"""How long an EventSource waits before it reconnects."""
_LINE_ENDS = re.compile(rb"\r\n|\r|\n")
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,100}")


class NativeEncoder:
    """`id:` is the entry's cursor, `event:` the type, `data:` the JSON exactly as it is in the log."""

    headers: Mapping[str, str] = EVENT_STREAM
    done = False

    def __init__(self, *, times: bool = False) -> None:
        """With `times`, a comment before each event has the time at which it was written (Unix ms, Redis's clock)."""
        self._times = times
        # No empty line behind it, which would end a block: some clients pass on a block without data as a message, and
        # their users' JSON.parse fails. It is sent at once, because proxies hold the headers back until a body begins.
        self._waiting: list[bytes] = [b"retry: %d\n" % RETRY_MS]
        self._names: dict[str, bytes] = {}
        self.size = 0

    def add(self, entry: Entry) -> None:
        """Add an entry of the chat."""
        kind = entry.type
        name = self._names.get(kind) or self._event_name_of(kind)
        raw = entry.raw
        if b"\n" in raw or b"\r" in raw:
            # chunkspool never writes a raw line break into an event. In a forged one it can only be white space between
            # JSON tokens, so the data stays equal, and nothing can pose as a field of the stream.
            raw = _LINE_ENDS.sub(b"\ndata: ", raw)
        event = b"id: %b\nevent: %b\ndata: %b\n\n" % (entry.cursor.encode(), name, raw)
        if self._times:
            event = b": %d\n%b" % (entry.at, event)
        self._waiting.append(event)
        self.size += len(event)

    def add_corrupt(self, seq: int) -> None:
        """Add a notice that the entry `seq` cannot be decoded: `event: log.corrupt`."""
        self._waiting.append(b"id: %d\nevent: log.corrupt\ndata: %b\n\n" % (seq, to_valid_json({"seq": seq})))

    def add_problem(self, document: Mapping[str, object]) -> None:
        """Add the problem document that says why the stream ends early: `event: problem`."""
        self._waiting.append(b"event: problem\ndata: %b\n\n" % to_valid_json(document))

    def close(self) -> None:
        """Add nothing: to an EventSource, a clean end is a reason to reconnect, and it resumes where it was."""

    def take(self) -> bytes:
        """Return all that is waiting, and forget it."""
        taken = b"".join(self._waiting)
        self._waiting.clear()
        self.size = 0
        return taken

    def _event_name_of(self, kind: str) -> bytes:
        # A forged type must not break out of its line.
        name = kind.encode() if _NAME.fullmatch(kind) else b"unknown"
        self._names[kind] = name
        return name
