"""Decodes a server-sent event stream into the data of its events; pure, it reads nothing itself."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.providers.failures import Code, failure

MAX_EVENT = 8 * 1024 * 1024
"""Largest event, in bytes. A server that never ends a line must not fill the worker's memory."""


class SSEDecoder:
    """Takes the stream in pieces, however they are cut. An event counts only once its empty line has arrived."""

    def __init__(self) -> None:
        """Nothing has been received yet."""
        self._line = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, received: bytes) -> Iterator[bytes]:
        """Yield the data of each event that is now complete. Raises `ProviderError`."""
        # Bytes, not text: str.splitlines would also split at U+2028 and U+0085, which JSON strings may contain, and a
        # piece may end in the middle of a character.
        *lines, self._line = (self._line + received).split(b"\n")
        for line in lines:
            yield from self._decode_line(line.removesuffix(b"\r"))
        if self._size + len(self._line) > MAX_EVENT:
            raise failure(Code.MALFORMED_RESPONSE, "an endless line")

    def _decode_line(self, line: bytes) -> Iterator[bytes]:
        # Names, ids and comments (a colon first, as heartbeats are) carry nothing that a chat completion needs.
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
            self._size += len(line)
        elif not line and self._data:
            yield b"\n".join(self._data)
            self._data, self._size = [], 0
