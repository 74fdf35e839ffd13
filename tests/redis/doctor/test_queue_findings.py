"""Each finding on a queue in a Redis, which real programs bring into that state."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kombu import Connection, Exchange, Queue
from redis import Redis
from support.chats.spools import spool_for
from support.doctor.examined import complaints, examine_queue, finding_of
from support.servers.contents import read_contents
from support.servers.roles import RoleServer
from support.waiting import eventually

from chunkspool.store.keys import QueueKeys

QUEUE = "chunkspool"
HELD = QueueKeys(QUEUE).unacked(8)


def enqueue(url: str, count: int) -> None:
    """Let generations wait in the queue."""
    with spool_for(url) as spool:
        for number in range(count):
            spool.enqueue(f"chat-{number}", "hello")


def test_an_empty_queue_has_no_complaints(redis_url: str, client: Redis) -> None:
    """Every check has said something, and nothing was written."""
    before = read_contents(client)
    found = examine_queue(redis_url)
    assert complaints(found) == {}
    assert [one.subject for one in found] == ["queue", "unacknowledged", "other apps", "bindings", "set aside"]
    assert read_contents(client) == before


def test_messages_that_nobody_takes(redis_url: str) -> None:
    """With a worker they are on their way; without one they are an error."""
    enqueue(redis_url, 3)
    assert finding_of(examine_queue(redis_url, served=True), "queue").found == f"{QUEUE}: 3 waiting"
    for unknown in (True, None):
        assert complaints(examine_queue(redis_url, served=unknown)) == {}
    told = examine_queue(redis_url, served=False)
    assert complaints(told) == {"queue": "error"}
    assert f"chunkspool worker -Q {QUEUE}" in finding_of(told, "queue").advice


def test_messages_that_no_worker_renews(redis_url: str, client: Redis) -> None:
    """A worker's that has died, and no other one is there that would deliver them again."""
    client.zadd(HELD["unacked_index_key"], {"generation:1": time.time() - 60, "generation:2": time.time()})
    found = examine_queue(redis_url)
    assert complaints(found) == {"unacknowledged": "error"}
    assert finding_of(found, "unacknowledged").found == f"{QUEUE}: 1 not renewed for 60 s, the time-out is 8 s"
    client.zadd(HELD["unacked_index_key"], {"generation:1": time.time() - 9})
    assert complaints(examine_queue(redis_url)) == {}  # whoever looks every second is about to find it


@contextmanager
def taken_by_another_app(url: str, queue: str) -> Iterator[None]:
    """Take a message from a queue with kombu's own transport, and hold it."""
    with Connection(url) as connection, connection.channel() as channel:
        taken = eventually(lambda: Queue(queue)(channel).get(no_ack=False))
        yield
        taken.ack()


@pytest.mark.usefixtures("kombus_own_transport")
def test_messages_that_a_worker_without_chunkspool_holds(redis_url: str) -> None:
    """They would come back after an hour only."""
    enqueue(redis_url, 1)
    with taken_by_another_app(redis_url, QUEUE):
        found = examine_queue(redis_url)
    assert complaints(found) == {"other apps": "error"}
    assert "chunkspool.worker.equip" in finding_of(found, "other apps").advice


@pytest.mark.usefixtures("kombus_own_transport")
def test_other_apps_messages_of_their_own(redis_url: str) -> None:
    """A shared database is no fault."""
    with Connection(redis_url) as connection, connection.SimpleQueue("celery") as theirs:
        theirs.put({"task": "theirs"})
    with taken_by_another_app(redis_url, "celery"):
        found = examine_queue(redis_url)
    assert complaints(found) == {}
    assert "hold 1 messages of their own" in finding_of(found, "other apps").found


@pytest.fixture
def kombus_own_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let kombu be as it is, if another test has equipped a worker in this process."""
    monkeypatch.setattr("kombu.transport.TRANSPORT_ALIASES", {"redis": "kombu.transport.redis:Transport"})
    monkeypatch.setattr("kombu.transport._transport_cache", {})


@pytest.mark.usefixtures("kombus_own_transport")
def test_another_queue_gets_a_copy(redis_url: str) -> None:
    """Somebody has bound a queue of theirs to our exchange."""
    with Connection(redis_url) as connection, connection.channel() as channel:
        Queue("theirs", Exchange(QUEUE), routing_key=QUEUE)(channel).declare()
    found = examine_queue(redis_url)
    assert complaints(found) == {"bindings": "error"}
    assert "theirs gets a copy" in finding_of(found, "bindings").found


def test_messages_that_were_set_aside(redis_url: str, client: Redis) -> None:
    """Somebody should look at them."""
    key = QueueKeys(QUEUE).dead_letters
    client.lpush(key, "{}", "{}")
    client.expire(key, 60)
    found = examine_queue(redis_url)
    assert complaints(found) == {"set aside": "warning"}
    assert finding_of(found, "set aside").found == f"2 messages of {QUEUE}"


def test_a_key_of_another_type(redis_url: str, client: Redis) -> None:
    """Another program uses the queue's name for something else."""
    client.set(QUEUE, "theirs", ex=60)
    found = examine_queue(redis_url, served=True)
    assert complaints(found) == {"queue": "error"}
    assert f"DEL {QUEUE}" in finding_of(found, "queue").advice


def test_a_user_who_may_not_ask(roles: RoleServer) -> None:
    """A web app's user may see no held messages and no bindings: findings, and no errors."""
    found = examine_queue(roles.url)
    assert complaints(found) == {
        "unacknowledged": "warning",
        "other apps": "warning",
        "bindings": "warning",
        "set aside": "warning",
    }
