"""A web server in a process of its own, of which a test asks what it still holds."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from redis import Redis
from support.processes.nodes import PROJECT
from support.waiting import eventually

from chunkspool.demo.ports import is_taken
from chunkspool.demo.process import Process

CHANNELS = "cs:{default/*"
SETTINGS = {
    "CHUNKSPOOL_HEARTBEAT": "0.5",
    "CHUNKSPOOL_MAX_BODY_BYTES": "2048",
    "CHUNKSPOOL_STALL_TIMEOUT": "1",
    "CHUNKSPOOL_REQUEST_TIMEOUT": "2",
}


@dataclass(frozen=True, slots=True)
class AbusedServer:
    """A server with the routes."""

    port: int
    process: Process
    client: Redis

    def count_streams(self) -> int:
        """Return how many chats have a reader."""
        return len(self.client.pubsub_channels(CHANNELS))

    def count_connections(self) -> int:
        """Return how many clients' connections the server has open."""
        opened = [one for process in self._processes() for one in process.net_connections("tcp")]
        return sum(one.laddr.port == self.port and one.status != psutil.CONN_LISTEN for one in opened)

    def count_bytes(self) -> int:
        """Return how much memory the server has."""
        return sum(process.memory_info().rss for process in self._processes())

    def wait_until_empty(self) -> None:
        """Wait until no chat has a reader, and no client has a connection."""
        eventually(lambda: self.count_streams() == 0, 20)
        eventually(lambda: self.count_connections() == 0, 20)

    def _processes(self) -> list[psutil.Process]:
        first = psutil.Process(self.process.pid)
        return [first, *first.children(recursive=True)]


@contextmanager
def run_abused(
    command: Sequence[str], port: int, folder: Path, client: Redis, environment: Mapping[str, str]
) -> Iterator[AbusedServer]:
    """Run a server that listens on `port`, with settings that make it impatient."""
    env = {**os.environ, **SETTINGS, "PYTHONPATH": f"{PROJECT}/tests:{PROJECT}", **environment}
    process = Process.start("abused", command, folder, env=env, cwd=PROJECT)
    process.wait_until(lambda: is_taken(port), 30)
    try:
        yield AbusedServer(port, process, client)
    finally:
        process.terminate()
        process.kill()
