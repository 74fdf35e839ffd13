"""Examines one server, or one queue of it, and says which findings are not ok."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from support.chats.spools import settings_for
from support.servers.redis_server import PrivateServer

from chunkspool.doctor.asking import Unanswered
from chunkspool.doctor.broker_checks import check_queue
from chunkspool.doctor.broker_reading import read_queue
from chunkspool.doctor.finding import Finding, Level
from chunkspool.doctor.redis_checks import check_redis, unreachable
from chunkspool.doctor.redis_reading import Server, read_redis
from chunkspool.store.probes import Role

PASSWORD = "the-admin's"
SECONDS = 2.0


def put_in_order(server: PrivateServer) -> None:
    """Bring a server into a state with which doctor is content."""
    with server.client() as admin:
        for name, value in {"maxmemory": "512mb", "appendonly": "yes", "requirepass": PASSWORD}.items():
            admin.config_set(name, value)
    server.password = PASSWORD


def examine_redis(url: str, *, role: Role = "web", redelivery: float = 8.0) -> list[Finding]:
    """Return what doctor finds in a server that holds logs and queue."""
    facts = read_redis(Server("redis", url, logs=True, broker=True), settings_for(url), role, SECONDS)
    if isinstance(facts, Unanswered):
        return [unreachable("redis", facts)]
    return list(check_redis(facts, redelivery))


def examine_queue(url: str, queue: str = "chunkspool", *, served: bool | None = None) -> list[Finding]:
    """Return what doctor finds in a queue."""
    facts = read_queue(url, url, queue, [8.0], SECONDS)
    assert not isinstance(facts, Unanswered)
    return list(check_queue(facts, served=served))


def complaints(findings: Iterable[Finding]) -> dict[str, Level]:
    """Return the level of each subject that is not ok. Redis 6.2 is never: of that it is not to be told each time."""
    return {one.subject: one.level for one in findings if one.level != "ok" and not one.found.startswith("Redis 6.2")}


def finding_of(findings: Iterable[Finding], subject: str, **fields: Any) -> Finding:
    """Return the one finding on a subject, or the one of several that has these fields."""
    (found,) = (
        one
        for one in findings
        if one.subject == subject and all(getattr(one, name) == value for name, value in fields.items())
    )
    return found
