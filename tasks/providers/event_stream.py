"""Cuts a server-sent event stream into the data of its events; pure, it reads nothing itself."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.providers.failures import Code, failure

MAX_EVENT = 8 * 1024 * 1024
"""Bytes of one event; a server that never ends a line must not fill the worker's memory."""


class EventStream:
    """Fed with bytes as they arrive, however they were cut. What has no empty line behind it is no event."""

    def __init__(self) -> None:
        """Nothing was received yet."""
        self._line = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, received: bytes) -> Iterator[bytes]:
        """Yield the data of each event that is complete now. Raises `ProviderError`."""
        # Bytes, not text: str.splitlines would also cut at U+2028 and U+0085, which JSON strings may contain.
        *lines, self._line = (self._line + received).split(b"\n")
        for line in lines:
            yield from self._take(line.removesuffix(b"\r"))
        if self._size + len(self._line) > MAX_EVENT:
            raise failure(Code.MALFORMED_RESPONSE, "an endless line")

    def _take(self, line: bytes) -> Iterator[bytes]:
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
            self._size += len(line)
        elif not line and self._data:
            yield b"\n".join(self._data)
            self._data, self._size = [], 0
