"""A running web server of one of the examples."""

from __future__ import annotations

from dataclasses import dataclass

import httpx

from chunkspool.demo.ports import LOOPBACK
from chunkspool.demo.process import Process


@dataclass(frozen=True, slots=True)
class AppServer:
    """A running server."""

    process: Process
    kind: str
    port: int

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{LOOPBACK}:{self.port}"

    def open_client(self) -> httpx.Client:
        """Return a client of nobody yet."""
        # A connection that is kept alive would be one of the few that the server has.
        return httpx.Client(base_url=self.url, timeout=20, limits=httpx.Limits(max_keepalive_connections=0))
