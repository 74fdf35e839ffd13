"""Decodes a server-sent event stream into its events; pure, it reads nothing itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from chunkspool.tasks.providers.failures import Code, failure

MAX_EVENT = 8 * 1024 * 1024
"""Largest event, in bytes. A server that never ends a line must not fill the worker's memory."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class ServerEvent(NamedTuple):
    """An event: its data, without spaces around it, and its name, if it has one."""

    data: bytes
    name: bytes = b""


class SSEDecoder:
    """Takes the stream in pieces, however they are cut, in a time that grows with their bytes only.

    Lines end as the standard has it: with LF, CR or both. https://html.spec.whatwg.org/multipage/server-sent-events.html
    """

    def __init__(self) -> None:
        """Nothing has been received yet."""
        # The line that has not ended yet. A bytearray, since adding to bytes copies the whole line for each piece.
        self._line = bytearray()
        self._data: list[bytes] = []
        self._name = b""
        self._size = 0
        self._after_cr = False
        self._is_first_line = True

    def feed(self, received: bytes) -> Iterator[ServerEvent]:
        """Yield each event that is now complete, except those without data. Raises `ProviderError`."""
        if self._after_cr and received:
            # The LF of a CRLF that was cut in two. The CR has ended the line already, so that nobody waits for the LF.
            received, self._after_cr = received.removeprefix(b"\n"), False
        # Bytes, not text: str.splitlines would also split at U+2028 and U+0085, which JSON strings may contain, and a
        # piece may end in the middle of a character.
        for line in received.splitlines(keepends=True):
            if not line.endswith((b"\n", b"\r")):
                self._line += line
            elif (event := self._end_line(line)) is not None:
                yield event
        self._after_cr = received.endswith(b"\r") or (self._after_cr and not received)
        if self._size + len(self._line) > MAX_EVENT:
            raise failure(Code.MALFORMED_RESPONSE, "an endless line")

    def end(self) -> Iterator[ServerEvent]:
        """Yield the event that was under way when the stream ended: some servers leave out the last line ends.

        It may be cut off, so it counts only if its data is whole.
        """
        for event in (self._end_line(b"\n"), self._end_event()):
            if event is not None:
                yield event

    def _end_line(self, line: bytes) -> ServerEvent | None:
        if self._line:
            line, self._line = bytes(self._line) + line, bytearray()
        if self._is_first_line:
            line, self._is_first_line = line.removeprefix(_BYTE_ORDER_MARK), False
        line = line.rstrip(b"\r\n")
        if not line:
            return self._end_event()
        # Ids and comments (a colon first, as keep-alives are) carry nothing that an answer needs.
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
            self._size += len(line)
        elif line.startswith(b"event:"):
            self._name = line[6:].strip()
        return None

    def _end_event(self) -> ServerEvent | None:
        if not self._data and not self._name:
            return None
        # JSON does not mind spaces around it, and a "[DONE] " is meant as "[DONE]".
        data, name = b"\n".join(self._data).strip(), self._name
        self._data, self._name, self._size = [], b"", 0
        return ServerEvent(data, name) if data or name == b"error" else None
