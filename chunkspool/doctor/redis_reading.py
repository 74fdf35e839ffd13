"""Reads from a Redis what its checks judge. Nothing is written."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Final

import redis

from chunkspool.doctor.asking import RedisQuestions, Unanswered
from chunkspool.settings import Settings
from chunkspool.store.commands import as_text
from chunkspool.store.probes import ROLES, Role, probes_of
from chunkspool.store.rights import Probe, missing_rights
from chunkspool.urls.redis_url import RedisUrl, parse_redis_url

OPTIONS: Final = ("save", "appendfsync", "min-replicas-to-write", "min-replicas-max-lag", "client-output-buffer-limit")
"""What is asked with CONFIG GET; everything else stands in INFO."""
PINGS: Final = 20
DEFAULT_USER: Final = "default"


@dataclass(frozen=True, slots=True)
class Clock:
    """By how many seconds the server's clock is ahead of ours, and how exact that is."""

    ahead: float
    exact_to: float


@dataclass(frozen=True, slots=True)
class Latency:
    """How many seconds a command and its reply took."""

    median: float
    longest: float


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """What was read of one server."""

    group: str
    url: RedisUrl
    info: Mapping[str, Any] | Unanswered
    config: Mapping[str, str] | Unanswered
    clock: Clock | Unanswered
    latency: Latency | Unanswered
    role: Role
    """Whose rights the user of the URL is to have."""
    missing: Sequence[str] | Unanswered
    """The rights that this user lacks."""
    users: Mapping[str, Sequence[str]] | Unanswered
    """The users of docs/security.md that the server has, and the rights that each lacks."""
    is_open: bool | Unanswered
    """Whether whoever reaches the port may do everything, without a password."""


@dataclass(frozen=True, slots=True)
class Server:
    """One Redis: where it is, and what it is for."""

    group: str
    url: str
    logs: bool
    broker: bool


def read_redis(server: Server, settings: Settings, role: Role, seconds: float) -> RedisFacts | Unanswered:
    """Return what the server says; why not, if it does not even answer a PING. `seconds`: of each question."""
    questions = RedisQuestions(server.url, seconds)
    with closing(questions):
        reached = questions.ask(lambda client: client.ping())
        if isinstance(reached, Unanswered):
            return reached
        url = parse_redis_url(server.url)
        probes = {one: _probes(server, settings, one, url.db) for one in ROLES}
        return RedisFacts(
            group=server.group,
            url=url,
            role=role,
            missing=questions.ask(partial(missing_rights, probes=probes[role])),
            info=questions.ask(_read_info),
            config=questions.ask(_read_config),
            clock=questions.ask(_read_clock),
            latency=questions.ask(_measure_latency),
            users=questions.ask(partial(_read_users, probes=probes)),
            is_open=questions.ask(_read_is_open),
        )


def _probes(server: Server, settings: Settings, role: Role, db: int) -> tuple[Probe, ...]:
    return probes_of(role, settings, db if server.broker else None, logs=server.logs)


def _read_info(client: redis.Redis) -> Mapping[str, Any]:
    found: Any = client.info()
    return dict(found)


def _read_config(client: redis.Redis) -> Mapping[str, str]:
    # One by one: to ask for several at once, or for all, needs Redis 7 or brings the passwords along.
    found: dict[str, str] = {}
    for name in OPTIONS:
        reply: Any = client.config_get(name)
        found |= {as_text(key): as_text(value) for key, value in reply.items()}
    return found


def _read_clock(client: redis.Redis) -> Clock:
    """Return the most exact of a few readings: the server's time belongs to the middle of the question."""
    readings = []
    for _ in range(5):
        before = time.time()
        reply: Any = client.time()
        after = time.time()
        half = (after - before) / 2
        readings.append(Clock(int(reply[0]) + int(reply[1]) / 1e6 - before - half, half))
    return min(readings, key=lambda one: one.exact_to)


def _measure_latency(client: redis.Redis) -> Latency:
    taken = []
    for _ in range(PINGS):
        before = time.perf_counter()
        client.ping()
        taken.append(time.perf_counter() - before)
    return Latency(median(taken), max(taken))


def _read_users(client: redis.Redis, probes: Mapping[Role, Sequence[Probe]]) -> Mapping[str, Sequence[str]]:
    reply: Any = client.acl_users()
    there = set(map(as_text, reply))
    named = {f"chunkspool-{role}": asked for role, asked in probes.items() if asked}
    return {user: _missing_of(client, user, asked) for user, asked in named.items() if user in there}


def _missing_of(client: redis.Redis, user: str, probes: Sequence[Probe]) -> Sequence[str]:
    """Return the rights that another user lacks. Redis is asked whether it would allow; nothing is executed."""
    asked = [Probe(("MULTI",)), *probes]
    pipeline: Any = client.pipeline(transaction=False)
    for one in asked:
        pipeline.execute_command("ACL", "DRYRUN", user, *one.words)
    replies = pipeline.execute()
    refused = [(one, as_text(reply)) for one, reply in zip(asked, replies, strict=True) if as_text(reply) != "OK"]
    return tuple(dict.fromkeys(one.place if _is_of_place(text) else one.rule for one, text in refused))


def _is_of_place(text: str) -> bool:
    return "to access" in text


def _read_is_open(client: redis.Redis) -> bool:
    reply: Any = client.acl_getuser(DEFAULT_USER)
    flags = set(map(as_text, reply["flags"]))
    return {"on", "nopass"} <= flags
