"""The Celery task in a worker inside this process, by celery.contrib's fixtures: what it gives back to the broker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from celery.signals import task_received
from redis import Redis
from support.servers.redis_server import PrivateServer, embedded_server
from support.waiting import eventually

import tasks.celery_tasks
from chunkspool import Settings, Spool


@pytest.fixture
def celery_includes() -> list[str]:
    """Load the task into the app of `celery_app`."""
    return [tasks.celery_tasks.__name__]


@pytest.fixture
def celery_config() -> dict[str, str]:
    """Use a broker in memory, so that only the log's Redis is away when the test stops it."""
    return {"broker_url": "memory://", "task_default_queue": "chunkspool"}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateServer]:
    """Give a Redis that keeps its data over a restart, and point the worker at it."""
    with embedded_server(tmp_path, appendonly=True) as own:
        monkeypatch.setenv("CHUNKSPOOL_REDIS_URL", own.url)
        monkeypatch.setenv("CHUNKSPOOL_PROVIDER", "scripted")
        yield own
        # contrib's worker sends no worker_shutdown, and this process goes on to other tests.
        tasks.celery_tasks.close()


def test_a_generation_waits_for_a_redis_that_is_away(server: PrivateServer, celery_app: Celery) -> None:
    """While the log's Redis is down its message goes back to the queue; afterwards the answer comes, once."""
    received: list[str] = []
    task_received.connect(lambda request, **_: received.append(request.id), weak=False, dispatch_uid="test")
    settings = Settings.checked({"redis_url": server.url})
    with Redis.from_url(server.url) as client, Spool(client, celery_app, settings=settings) as spool:
        asked = spool.enqueue("chat", "hello")
        server.stop()
        with start_worker(celery_app, pool="threads", concurrency=2, perform_ping_check=False):
            eventually(lambda: received.count(asked.generation_id) >= 2, 30)
            server.start()
            with spool.subscribe("chat") as entries:
                types = [entry.type for entry in entries]
    assert types.count("generation.started") == 1
    assert types[-1] == "generation.completed"
    task_received.disconnect(dispatch_uid="test")


def test_a_task_of_a_chat_that_is_gone_does_nothing(server: PrivateServer, celery_app: Celery) -> None:
    """Erased while its message waited: the worker says so and the message is not seen again."""
    settings = Settings.checked({"redis_url": server.url})
    with Redis.from_url(server.url) as client, Spool(client, celery_app, settings=settings) as spool:
        asked = spool.enqueue("chat", "hello")
        spool.erase("chat")
        shell = celery_app.tasks["chunkspool.generate"]
        assert shell("default", "chat", asked.generation_id) == {"chat": "chat", "state": "gone"}
        assert client.keys("cs:*") == []
