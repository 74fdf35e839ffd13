"""Outcomes are told exactly once: whoever dies at whichever step, and however many tell them at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS
from support.chats.spools import spool_for
from support.processes import killed_relay
from support.servers.redis_server import PrivateServer
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.effects import drive
from chunkspool.operations.outcome_relay import relay
from chunkspool.settings import LogSettings
from chunkspool.store import outcomes as doors
from chunkspool.store import scripts
from chunkspool.store.client import Store
from chunkspool.store.keys import ChatKeys, QueueKeys, TenantKeys

GROUP = "billing"
STREAM = TenantKeys("default")
STEPS = 5
"""Calls of a relay that has one outcome to tell: outbox, log, stream, outbox, stream."""


def end_untold(spool: Spool, client: Redis, chat: str = CHAT) -> str:
    """Ask, and stop it as a process does that dies at once: its outcome is marked, and nobody tells it."""
    made = spool.enqueue(chat, "hello")
    keys = ChatKeys("default", chat)
    assert Store(client).send(scripts.stop(keys, made.generation_id, by="user", reason=None)).outcome == "stopped"
    assert client.hkeys(keys.outbox) == [made.generation_id.encode()]
    return made.generation_id


def told(spool: Spool) -> Counter[str]:
    """Return which generations were told, and how often."""
    with spool.outcomes(GROUP, until="drained") as outcomes:
        found = list(outcomes)
        outcomes.ack(*found)
    return Counter(one.generation_id for one in found)


def sweep(spool: Spool, client: Redis) -> None:
    """Let the safety net do its work, whoever has just swept."""
    client.delete(QueueKeys(spool.settings.worker.queue).sweep_lock)
    spool.sweep(queue_is_empty=False)


@pytest.fixture
def read(spool: Spool) -> Spool:
    """Provide a spool whose outcomes a group waits for."""
    with spool.outcomes(GROUP):
        return spool


def test_a_relay_is_killed_in_front_of_every_step(read: Spool, client: Redis, redis_url: str) -> None:
    """The sweep goes on where it was, and is forgotten by the index only then."""
    ids, environment = [], {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for steps in range(STEPS + 1):
        chat = f"chat-{steps}"
        ids.append(end_untold(read, client, chat))
        line = [sys.executable, str(Path(killed_relay.__file__)), redis_url, chat, str(steps)]
        ended = subprocess.run(line, env=environment, check=False).returncode  # noqa: S603 - a program of this project
        assert ended == (-signal.SIGKILL if steps < STEPS else 0), "STEPS is right"
    for _ in range(2):
        sweep(read, client)
    assert told(read) == Counter(ids)
    assert not client.keys("cs:*outbox")
    assert client.zcard(QueueKeys(read.settings.worker.queue).unfinished) == 0


def test_many_relays_at_once(read: Spool, client: Redis) -> None:
    """They tell what is in the same outbox."""
    ids = []
    for _ in range(40):
        made = read.enqueue(CHAT, "hello", on_active="allow")
        Store(client).send(scripts.stop(KEYS, made.generation_id, by="user", reason=None))
        ids.append(made.generation_id)
    start = Barrier(6)

    def run() -> int:
        start.wait()
        return drive(relay(KEYS, LogSettings()), Store(client).send)  # type: ignore[arg-type]

    with ThreadPoolExecutor(6) as pool:
        runs = [pool.submit(run) for _ in range(6)]
        assert sum(one.result() for one in runs) == 40
    sweep(read, client)
    assert told(read) == Counter(ids)


def test_a_relay_that_stood_still_for_long_is_too_late(read: Spool, client: Redis) -> None:
    """Others have told it, and the stream knows it no more: what was read minutes ago counts for nothing."""
    end_untold(read, client)
    box = Store(client).send(doors.read_outbox(KEYS))
    before = [drive_outcome(client)]
    assert sum(told(read).values()) == 1
    client.delete(STREAM.outcomes_seen)  # as it is ten minutes later
    assert relay_again(client, before, box.now - doors.WINDOW_MS // 2 - 1000) == "late"
    assert told(read) == Counter()


def drive_outcome(client: Redis) -> bytes:
    """Tell what is in the outbox; return the stored outcome."""
    assert drive(relay(KEYS, LogSettings()), Store(client).send) == 1  # type: ignore[arg-type]
    stored: bytes = client.xrange(STREAM.outcomes)[0][1][b"o"]
    return stored


def relay_again(client: Redis, stored: list[bytes], read_at: int) -> str:
    """Bring outcomes once more that were read at some time; return what came of it."""
    found = [doors.Outcome.decode("", one, 1) for one in stored]
    return Store(client).send(doors.relay("default", found, read_at=read_at, most_bytes=10**9)).outcome


def test_what_an_older_version_has_ended_is_told_by_the_sweep(read: Spool, client: Redis) -> None:
    """Its processes mark nothing."""
    made = read.enqueue(CHAT, "hello")
    gen = KEYS.gen(made.generation_id)
    client.hdel(gen, "outcome")
    Store(client).send(scripts.stop(KEYS, made.generation_id, by="user", reason="old"))
    client.hset(gen, "outcome", 1)
    sweep(read, client)
    with read.outcomes(GROUP) as outcomes:
        outcome = next(outcomes)
        outcomes.ack(outcome)
    assert (outcome.generation_id, outcome.state, outcome.reason) == (made.generation_id, "stopped", "old")
    assert outcome.last == read.status(CHAT).last
    sweep(read, client)
    assert told(read) == Counter()


def test_a_log_that_has_expired_before_it_was_told(read: Spool, client: Redis) -> None:
    """The outcome is told without the answer, and says so."""
    made = end_untold(read, client)
    client.delete(KEYS.log, KEYS.head, KEYS.seq, KEYS.gens, KEYS.gen(made))
    eventually(lambda: drive(relay(KEYS, LogSettings()), Store(client).send) == 1)  # type: ignore[arg-type]
    with read.outcomes(GROUP) as outcomes:
        outcome = next(outcomes)
    assert (outcome.state, outcome.text, outcome.log_expired) == ("stopped", None, True)


def test_redis_restarts_between_the_ending_and_the_telling(
    redis_server: PrivateServer, client: Redis, redis_url: str
) -> None:
    """What it has kept is told; the consumer that waited goes on."""
    with spool_for(redis_url) as spool, spool.outcomes(GROUP) as outcomes:
        ids = [end_untold(spool, client, f"chat-{n}") for n in range(3)]
        drive(relay(ChatKeys("default", "chat-0"), LogSettings()), Store(client).send)  # type: ignore[arg-type]
        first = next(outcomes)
        client.save()
        redis_server.kill()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(next, outcomes)
            redis_server.start()
            eventually(spool.outcome_lag)
            sweep(spool, client)
            second = waiting.result(30)
        third = next(outcomes)
        assert outcomes.ack(first, second, third) == 3
        assert {first.generation_id, second.generation_id, third.generation_id} == set(ids)
    with spool_for(redis_url) as another:
        assert told(another) == Counter()
