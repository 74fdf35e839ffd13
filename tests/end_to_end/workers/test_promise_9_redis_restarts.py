"""Promise 9 with real workers: Redis, both log and broker here, restarts, is killed or loses its data under load."""

from __future__ import annotations

import shutil
import time

import pytest
from end_to_end.conftest import StartWorker
from end_to_end.workers.test_main_job import answer_of, follow
from end_to_end.workers.test_promise_9_workers_are_killed import environment_for
from redis import Redis
from support.checker.paced_answers import (
    ask,
    assert_promises_kept,
    fetch_calls_of,
    paced_params,
    read_log_of_generation,
    start_generation,
    start_reading,
)
from support.models.paced_model_process import ModelProcess
from support.servers.redis_server import PrivateServer
from support.waiting import eventually

from chunkspool import Generation, Spool
from chunkspool.errors import ChatNotFound

pytestmark = pytest.mark.parametrize("durable_server", ["redis-server"], indirect=True)
DEFAULTS = {"CHUNKSPOOL_LEASE": "5", "CHUNKSPOOL_REDELIVERY": "8"}
ENDLESS = paced_params(100_000, 0.05)


@pytest.fixture
def redis_server(durable_server: PrivateServer) -> PrivateServer:
    """Let all other fixtures use a server that may be stopped."""
    return durable_server


def wait_for_growth(client: Redis, asked: list[Generation]) -> None:
    """Wait until each generation has written more."""
    before = [len(read_log_of_generation(client, one)) for one in asked]
    eventually(
        lambda: all(len(read_log_of_generation(client, one)) > had for one, had in zip(asked, before, strict=True)), 30
    )


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_nothing_is_lost(
    pool: str,
    durable_server: PrivateServer,
    start_worker: StartWorker,
    spool: Spool,
    client: Redis,
    paced_model: ModelProcess,
) -> None:
    """Connections are cut, Redis restarts, is killed and down for a second: one model call each, readers continue."""
    worker = start_worker(pool, 4, **{**environment_for(paced_model), **DEFAULTS})
    pid = worker.container.id
    short = start_generation(spool, "short", paced_params(60, 0.1))
    endless = [start_generation(spool, f"endless-{n}", ENDLESS) for n in range(2)]
    followed = [start_reading(spool, one) for one in endless]
    client.client_kill_filter(_type="normal")
    client.client_kill_filter(_type="pubsub")
    wait_for_growth(client, endless)
    durable_server.restart()
    wait_for_growth(client, endless)
    durable_server.kill()
    time.sleep(1)
    durable_server.start()
    wait_for_growth(client, endless)
    # Enqueued while the worker is reconnecting, or while redelivered messages go first.
    assert answer_of(follow(spool, ask(spool, "later", paced_params(3)).chat_id)).text.count("<") == 3
    assert answer_of(follow(spool, "short")).text.count("<") == 60
    assert_promises_kept(client, paced_model, short)
    for one, read in zip(endless, followed, strict=True):
        spool.stop(one.chat_id)
        assert_promises_kept(client, paced_model, one, read.result(30), stopped_by="user")
        assert len(fetch_calls_of(paced_model, one.chat_id)) == 1
    assert (worker.container.running().alive, worker.container.id) == (True, pid)


@pytest.mark.parametrize(("write_timeout", "attempts"), [("30", {1, 2}), ("1", {2})])
def test_a_long_outage(
    write_timeout: str,
    attempts: set[int],
    durable_server: PrivateServer,
    start_worker: StartWorker,
    spool: Spool,
    client: Redis,
    paced_model: ModelProcess,
) -> None:
    """Longer than the lease: the old attempt or the next completes. Longer than `write_timeout`: the next one does."""
    start_worker("threads", 4, **environment_for(paced_model), CHUNKSPOOL_WRITE_TIMEOUT=write_timeout)
    asked = [start_generation(spool, f"chat-{n}", paced_params(40, 0.1)) for n in range(2)]
    followed = [start_reading(spool, one) for one in asked]
    durable_server.kill()
    time.sleep(3)
    durable_server.start()
    for one, read in zip(asked, followed, strict=True):
        assert_promises_kept(client, paced_model, one, read.result(60))
        answer = answer_of(spool.read(one.chat_id))
        assert (answer.text.count("<"), answer.attempt in attempts) == (40, True)


def test_a_redis_that_comes_back_empty(
    durable_server: PrivateServer, start_worker: StartWorker, spool: Spool, paced_model: ModelProcess
) -> None:
    """Running attempts are fenced, their model calls closed; the reader gets an error; the worker takes new work."""
    worker = start_worker("threads", 4, **environment_for(paced_model))
    asked = start_generation(spool, "chat", ENDLESS)
    read = start_reading(spool, asked)
    durable_server.kill()
    shutil.rmtree(durable_server.folder / "data")
    durable_server.start()
    with pytest.raises(ChatNotFound):
        read.result(60)
    eventually(lambda: fetch_calls_of(paced_model, "chat")[0].closed, 30)
    assert answer_of(follow(spool, ask(spool, "new", paced_params(3)).chat_id)).text.count("<") == 3
    worker.assert_log_exists("'state': 'fenced'")
