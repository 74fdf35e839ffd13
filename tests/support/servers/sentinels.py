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
from support.servers.binaries import find_installed_binary
from support.servers.redis_server import PrivateServer, ServerMissing
from support.servers.tls import Authority, Certificate, start_or_skip
from support.waiting import eventually

from chunkspool.demo.ports import LOOPBACK, free_port
from chunkspool.demo.process import Process
from chunkspool.demo.redis_server import Binary

SERVICE = "chats"
DOWN_AFTER_MS, FAILOVER_TIMEOUT_MS = 3000, 6000
"""Not shorter: a busy machine may stand still for a second, and that is no failover."""
_REPLICA_USER, _REPLICA_SECRET = "replica", "follows"


@dataclass(frozen=True, slots=True)
class Sentinel:
    """One Sentinel's process, and how a client reaches it."""

    port: int
    process: Process
    options: dict[str, Any]

    def ask(self, *words: object) -> Any:
        """Send a SENTINEL command and return the reply."""
        with Redis(LOOPBACK, self.port, decode_responses=True, retry=Retry(NoBackoff(), 0), **self.options) as client:
            return client.execute_command("SENTINEL", *words)


@dataclass(slots=True)
class WatchedServers:
    """Three servers, one of them the primary, and three Sentinels; with an `authority`, all of it over TLS."""

    binary: Binary
    folder: Path
    password: str = ""
    sentinel_password: str = ""
    authority: Authority | None = None
    own: Certificate | None = None
    servers: list[PrivateServer] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    """The servers' ports as the Sentinels know them."""
    sentinels: list[Sentinel] = field(default_factory=list)

    @property
    def url(self) -> str:
        """What a person writes into CHUNKSPOOL_REDIS_URL."""
        secret = f":{quote(self.password, safe='')}@" if self.password else ""
        hosts = ",".join(f"{LOOPBACK}:{one.port}" for one in self.sentinels)
        options = [f"sentinel_password={quote(self.sentinel_password, safe='')}"] if self.sentinel_password else []
        options += [f"ssl_ca_certs={self.authority.ca.certfile}"] if self.authority else []
        scheme = "rediss+sentinel" if self.authority else "redis+sentinel"
        return f"{scheme}://{secret}{hosts}/{SERVICE}/0?{'&'.join(options)}"

    @property
    def port(self) -> int:
        """The primary's port."""
        return self.primary.port

    @property
    def kind(self) -> str:
        """`redis-server`."""
        return self.binary.kind

    @property
    def alive(self) -> bool:
        """Whether there is a primary."""
        return self.primary.alive

    def client(self) -> Redis:
        """Return a new client of the primary; the caller closes it."""
        return self.primary.client()

    @property
    def primary(self) -> PrivateServer:
        """The server that a Sentinel calls the primary, one of those that run."""
        alive = next(one for one in self.sentinels if one.process.alive)
        port = int(alive.ask("GET-MASTER-ADDR-BY-NAME", SERVICE)[1])
        return self.servers[self.ports.index(port)]

    @property
    def replicas(self) -> list[PrivateServer]:
        """The servers that follow the primary."""
        return [one for one in self.servers if one.alive and _role_of(one) == "slave"]

    def start(self) -> None:
        """Start all, and return when each Sentinel knows the others and both replicas."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.own = self.authority.sign("server") if self.authority else None
        for number in range(3):
            server = PrivateServer(self.binary, self.folder / f"server-{number}", password=self.password)
            self.ports.append(free_port() if self.own else server.port)
            server.options = self._options_of(number)
            self.servers.append(server)
            self.start_server(server)
        self.sentinels += [self._start_sentinel(number) for number in range(3)]
        eventually(self._complete, 30)

    def start_server(self, server: PrivateServer) -> None:
        """Start one of the servers, for the first time or again."""
        server.start()
        with server.client() as client:
            rights = ("on", f">{_REPLICA_SECRET}", "+psync", "+replconf", "+ping")
            client.execute_command("ACL", "SETUSER", _REPLICA_USER, *rights)

    def cut_replication(self) -> None:
        """Let the replicas learn nothing more from the primary: what it acknowledges from now on dies with it."""
        with self.primary.client() as client:
            client.execute_command("ACL", "SETUSER", _REPLICA_USER, "off")
            client.execute_command("CLIENT", "KILL", "TYPE", "replica")

    def promoted(self, before: PrivateServer) -> PrivateServer | None:
        """Return the new primary once it takes writes, None until then."""
        primary = self.primary
        return None if primary is before or _role_of(primary) != "master" else primary

    def stop(self) -> None:
        """End all."""
        for sentinel in self.sentinels:
            sentinel.process.kill()
        for server in self.servers:
            if server.alive:
                server.kill()

    def _options_of(self, number: int) -> tuple[str, ...]:
        return (
            *("--repl-diskless-sync-delay", "0", "--repl-timeout", "5"),
            *("--masteruser", _REPLICA_USER, "--masterauth", _REPLICA_SECRET),
            *(("--requirepass", self.password) if self.password else ()),
            *(("--replicaof", LOOPBACK, str(self.ports[0])) if number else ()),
            *(f"--{word}" if i == 0 else word for line in self._tls(self.ports[number]) for i, word in enumerate(line)),
        )

    def _tls(self, port: int) -> list[tuple[str, str]]:
        if self.own is None or self.authority is None:
            return []
        return [
            ("tls-port", str(port)),
            ("tls-replication", "yes"),
            ("tls-auth-clients", "no"),
            ("tls-cert-file", str(self.own.certfile)),
            ("tls-key-file", str(self.own.keyfile)),
            ("tls-ca-cert-file", str(self.authority.ca.certfile)),
        ]

    def _start_sentinel(self, number: int) -> Sentinel:
        port = free_port()
        config = self.folder / f"sentinel-{number}.conf"
        tls = self._tls(port)
        lines = [("port", "0" if tls else str(port)), ("bind", LOOPBACK), *tls]
        if self.sentinel_password:
            lines += [("requirepass", self.sentinel_password), ("sentinel sentinel-pass", self.sentinel_password)]
        lines += [
            ("sentinel monitor", f"{SERVICE} {LOOPBACK} {self.ports[0]} 2"),
            ("sentinel down-after-milliseconds", f"{SERVICE} {DOWN_AFTER_MS}"),
            ("sentinel failover-timeout", f"{SERVICE} {FAILOVER_TIMEOUT_MS}"),
        ]
        if self.password:
            lines.append(("sentinel auth-pass", f'{SERVICE} "{self.password}"'))
        config.write_text("".join(f"{name} {value}\n" for name, value in lines))
        # redis-server plays this part as well: Debian's redis-sentinel is the same program.
        command = [self.binary.path, str(config), "--sentinel"]
        process = Process.start(f"sentinel-{number}", command, self.folder / "logs", cwd=self.folder)
        sentinel = Sentinel(port, process, self._sentinel_options())
        process.wait_until(lambda: _answers(sentinel), 30)
        return sentinel

    def _sentinel_options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"password": self.sentinel_password or None}
        if self.authority is not None:
            options |= {"ssl": True, "ssl_ca_certs": str(self.authority.ca.certfile)}
        return options

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


def _role_of(server: PrivateServer) -> str:
    with suppress(RedisError), server.client() as client:
        return str(client.info("replication")["role"])
    return "unreachable"


@contextmanager
def watched_servers(
    folder: Path, *, password: str = "", sentinel_password: str = "", authority: Authority | None = None
) -> Iterator[WatchedServers]:
    """Run three servers and three Sentinels of the `redis-server` on PATH."""
    binary = find_installed_binary()
    if binary is None:
        raise ServerMissing("redis-server is not on PATH; apt-get install redis-server brings it")
    watched = WatchedServers(binary, folder, password, sentinel_password, authority)
    try:
        start_or_skip(watched.start, binary)
        yield watched
    finally:
        watched.stop()
