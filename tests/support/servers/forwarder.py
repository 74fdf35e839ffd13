"""Forwards one port to whichever server a file names: `python forwarder.py PORT FILE`; the file holds a port.

What is connected stays where it is, as behind a service of Kubernetes, a name in DNS or a load balancer. It needs the
standard library only, and is a process of its own, so that forwarding costs its caller's event loop nothing.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import cast

LOOPBACK = "127.0.0.1"


class End(asyncio.Protocol):
    """One end of a forwarded connection: what it hears, the other end says."""

    def __init__(self) -> None:
        """Begin without the other end."""
        self.transport: asyncio.Transport | None = None
        self.other: End | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note where to write."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Pass it on."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the other end, too."""
        del exc
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()

    def pause_writing(self) -> None:
        """Hear no more from the other end while this one takes nothing."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()


class Entrance(End):
    """The end of a client, which is connected to the server that the file names at that moment."""

    def __init__(self, file: Path, connecting: set[asyncio.Task[None]]) -> None:
        """Begin without the server; `connecting` keeps the tasks alive."""
        super().__init__()
        self._file = file
        self._connecting = connecting

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hear nothing before the server is there."""
        super().connection_made(transport)
        cast("asyncio.Transport", transport).pause_reading()
        task = asyncio.ensure_future(self._connect(cast("asyncio.Transport", transport)))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, transport: asyncio.Transport) -> None:
        try:
            port = int(self._file.read_text())
            _, self.other = await asyncio.get_running_loop().create_connection(End, LOOPBACK, port)
        except (OSError, ValueError):
            transport.close()
            return
        self.other.other = self
        if transport.is_closing() and self.other.transport is not None:
            self.other.transport.close()
        else:
            transport.resume_reading()


async def forward(port: int, file: Path) -> None:
    """Forward for ever."""
    connecting: set[asyncio.Task[None]] = set()
    server = await asyncio.get_running_loop().create_server(lambda: Entrance(file, connecting), LOOPBACK, port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(forward(int(sys.argv[1]), Path(sys.argv[2])))
