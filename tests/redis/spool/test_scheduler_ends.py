"""The thread that tells the schedule ends with its spool, whether or not Redis is there."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from redis import ConnectionPool, Redis
from support.chats.logs import CHAT
from support.chats.spools import settings_for, spool_for
from support.waiting import eventually

from chunkspool.demo.ports import LOOPBACK, free_port
from chunkspool.errors import StoreUnavailable
from chunkspool.spool.scheduler import Scheduler
from chunkspool.store.client import Store
from chunkspool.store.keys import ChatKeys, QueueKeys


def threads() -> list[threading.Thread]:
    """Return the schedule's threads of this process."""
    return [one for one in threading.enumerate() if one.name == "chunkspool-schedule"]


def test_it_ends_although_redis_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed in the middle of its tries, it gives up what it could not tell: the sweep finds that."""
    before, tries = len(threads()), []
    send = Store.send

    def send_and_count(store: Store, call: Any) -> Any:
        tries.append(call)
        return send(store, call)

    monkeypatch.setattr(Store, "send", send_and_count)
    with Redis(LOOPBACK, free_port()) as nowhere:
        scheduler = Scheduler(nowhere, settings_for("redis://127.0.0.1:1/0"), None)
        scheduler.note(("run", ChatKeys("default", CHAT).member("one")))
        eventually(lambda: len(tries) > 1)
        scheduler.close()
        eventually(lambda: len(threads()) == before)


def test_it_tells_what_is_noted_before_it_ends(redis_url: str, client: Redis) -> None:
    """An answer that was written last is no longer with the workers when the spool is closed."""
    with spool_for(redis_url) as spool:
        made = spool.enqueue(CHAT, "x")
        with spool.produce(CHAT, made.generation_id) as out:
            out.text("x")
    queue = QueueKeys("chunkspool")
    assert client.zcard(queue.running) == client.zcard(queue.sent) == 0


@pytest.mark.parametrize("fault", [TypeError("argument must be an int"), ValueError("-1"), AttributeError("recv")])
def test_a_connection_closed_under_a_call(redis_url: str, monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    """Another thread drops the pool's connections: a caller gets our error, and a producer writes all it has said."""
    get, failing = ConnectionPool.get_connection, threading.Event()

    def fail_once(pool: ConnectionPool, *args: Any) -> Any:
        if failing.is_set():
            failing.clear()
            raise fault
        return get(pool, *args)

    monkeypatch.setattr(ConnectionPool, "get_connection", fail_once)
    with spool_for(redis_url) as spool:
        made = spool.enqueue(CHAT, "x")
        failing.set()
        with pytest.raises(StoreUnavailable):
            spool.status(CHAT)
        with spool.produce(CHAT, made.generation_id) as out:
            for piece in "one", " two", " three":
                failing.set()
                out.text(piece)
                eventually(lambda: not failing.is_set())
        assert spool.snapshot(CHAT).answers[0].text == "one two three"


def test_it_lives_on_whatever_goes_wrong(redis_url: str, client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is closed under it raises what no list of errors has; it tells again what it could not."""
    send, failures = Store.send, [TypeError("argument must be an int"), OSError("closed")]

    def fail_first(store: Store, call: Any) -> Any:
        if failures and threading.current_thread().name == "chunkspool-schedule":
            raise failures.pop()
        return send(store, call)

    monkeypatch.setattr(Store, "send", fail_first)
    queue = QueueKeys("chunkspool")
    with spool_for(redis_url) as spool:
        made = spool.enqueue(CHAT, "x")
        with spool.produce(CHAT, made.generation_id) as out:
            out.text("x")
        eventually(lambda: not failures and client.zcard(queue.running) == client.zcard(queue.sent) == 0)
