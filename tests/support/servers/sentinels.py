"""A primary, its replicas and the Sentinels that watch them, as processes on loopback ports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from support.servers.redis_server import PrivateServer, ServerMissing
from support.waiting import eventually

from demo.ports import LOOPBACK, free_port
from demo.process import Process
from demo.redis_server import Binary, installed_binary

SERVICE = "chats"
DOWN_AFTER_MS, FAILOVER_TIMEOUT_MS = 1000, 3000
# Only the kernel's buffers keep what is not replicated yet, so a kill -9 loses next to nothing; see `lag`.
_REPLICATION = ("--repl-diskless-sync-delay", "0", "--repl-timeout", "5")


@dataclass(frozen=True, slots=True)
class Sentinel:
    """One Sentinel's process."""

    port: int
    process: Process

    def ask(self, *words: object) -> Any:
        """Send a SENTINEL command and return the reply."""
        with Redis(LOOPBACK, self.port, decode_responses=True, retry=Retry(NoBackoff(), 0)) as client:
            return client.execute_command("SENTINEL", *words)


@dataclass(slots=True)
class WatchedServers:
    """Three servers, one of them the primary, and three Sentinels."""

    binary: Binary
    folder: Path
    password: str = ""
    servers: list[PrivateServer] = field(default_factory=list)
    sentinels: list[Sentinel] = field(default_factory=list)

    @property
    def url(self) -> str:
        """What a person writes into CHUNKSPOOL_REDIS_URL."""
        secret = f":{quote(self.password, safe='')}@" if self.password else ""
        hosts = ",".join(f"{LOOPBACK}:{one.port}" for one in self.sentinels)
        return f"redis+sentinel://{secret}{hosts}/{SERVICE}/0"

    @property
    def primary(self) -> PrivateServer:
        """The server that the Sentinels, of those that run, call the primary."""
        alive = next(one for one in self.sentinels if one.process.alive)
        port = int(alive.ask("GET-MASTER-ADDR-BY-NAME", SERVICE)[1])
        return next(one for one in self.servers if one.port == port)

    @property
    def replicas(self) -> list[PrivateServer]:
        """The servers that run and are not the primary."""
        primary = self.primary
        return [one for one in self.servers if one is not primary and one.alive]

    def start(self) -> None:
        """Start all, and return when each Sentinel knows the others and both replicas."""
        for number in range(3):
            following = ("--replicaof", LOOPBACK, str(self.servers[0].port)) if number else ()
            secret = ("--requirepass", self.password, "--masterauth", self.password) if self.password else ()
            options = (*_REPLICATION, *secret, *following)
            server = PrivateServer(self.binary, self.folder / f"server-{number}", options, self.password)
            server.start()
            self.servers.append(server)
        for number in range(3):
            self.sentinels.append(self._start_sentinel(number))
        eventually(self._complete, 30)

    def stop(self) -> None:
        """End all."""
        for sentinel in self.sentinels:
            sentinel.process.kill()
        for server in self.servers:
            if server.alive:
                server.kill()

    def promoted(self, before: PrivateServer) -> PrivateServer | None:
        """Return the new primary once it takes writes, None until then."""
        primary = self.primary
        if primary is before:
            return None
        with suppress(RedisError), primary.client() as client:
            return primary if client.info("replication")["role"] == "master" else None
        return None

    def _start_sentinel(self, number: int) -> Sentinel:
        port = free_port()
        config = self.folder / f"sentinel-{number}.conf"
        lines = [
            f"port {port}",
            f"bind {LOOPBACK}",
            f"sentinel monitor {SERVICE} {LOOPBACK} {self.servers[0].port} 2",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {SERVICE} {FAILOVER_TIMEOUT_MS}",
            *([f"sentinel auth-pass {SERVICE} {self.password}"] if self.password else []),
        ]
        config.write_text("\n".join(lines) + "\n")
        # redis-server plays this part as well: Debian's redis-sentinel is the same program.
        command = [self.binary.path, str(config), "--sentinel"]
        process = Process.start(f"sentinel-{number}", command, self.folder / "logs", cwd=self.folder)
        sentinel = Sentinel(port, process)
        process.wait_until(lambda: _answers(sentinel), 30)
        return sentinel

    def _complete(self) -> bool:
        for sentinel in self.sentinels:
            state = sentinel.ask("MASTER", SERVICE)
            found = state if isinstance(state, dict) else dict(zip(state[::2], state[1::2], strict=True))
            if (int(found["num-slaves"]), int(found["num-other-sentinels"])) != (2, 2):
                return False
        return True


def _answers(sentinel: Sentinel) -> bool:
    try:
        sentinel.ask("MASTERS")
    except RedisError:
        return False
    return True


@contextmanager
def watched_servers(folder: Path, *, password: str = "") -> Iterator[WatchedServers]:
    """Run three servers and three Sentinels of the `redis-server` on PATH."""
    binary = installed_binary()
    if binary is None:
        raise ServerMissing("redis-server is not on PATH; apt-get install redis-server brings it")
    watched = WatchedServers(binary, folder, password)
    try:
        watched.start()
        yield watched
    finally:
        watched.stop()
