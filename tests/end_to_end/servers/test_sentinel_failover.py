"""Redis Sentinel with real workers: the primary is lost under load, and nobody is misled about what is left."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest
from end_to_end.conftest import StartWorker
from end_to_end.workers.test_main_job import answer_of, follow
from end_to_end.workers.test_promise_9_workers_are_killed import environment_for
from pytest_celery import CeleryTestWorker
from redis import Redis
from support.chats.logs import ENDINGS
from support.checker.paced_answers import (
    ask,
    assert_promises_kept,
    paced_params,
    read_log_of_generation,
    start_generation,
)
from support.missing import skip_missing
from support.models.paced_model_process import ModelProcess
from support.processes.command import RunningCommand
from support.readers.outcomes import Outcome, outcomes
from support.servers.redis_server import PrivateServer, ServerMissing
from support.servers.sentinels import WatchedServers, watched_servers
from support.waiting import eventually

from chunkspool import Generation, Spool
from chunkspool.errors import ChunkspoolError, CursorAhead, CursorExpired, EnqueueFailed, StoreError
from chunkspool.store.client import connect

DEFAULTS = {"CHUNKSPOOL_LEASE": "5", "CHUNKSPOOL_REDELIVERY": "8"}
TOLD = (CursorAhead, CursorExpired, StoreError)
"""What a reader may be told: that what it has read is gone, or that Redis is."""
MAY_FAIL = ("store_unavailable", "lost")
FAILOVER = 30.0
"""Seconds within which the Sentinels have a new primary. Here it takes four to six."""
ALL_DONE = 90.0
"""Seconds within which all that was asked has ended. Here it takes twelve after a kill, forty after a freeze."""

both_pools = pytest.mark.parametrize("pool", ["threads", "prefork"])
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[WatchedServers]:
    """Let all other fixtures use servers that Sentinel watches."""
    try:
        with watched_servers(tmp_path / "servers", password="s3/cr@t") as watched:
            yield watched
    except ServerMissing as missing:
        skip_missing(missing)


@pytest.fixture
def client(redis_url: str) -> Iterator[Redis]:
    """Give a client that follows the primary."""
    with closing(connect(redis_url)) as connected:
        yield connected


class Traffic:
    """Enqueues one short generation after another, in a thread. An error is an answer; none at all is not."""

    def __init__(self, spool: Spool) -> None:
        """Begin."""
        self.asked: list[Generation] = []
        self._spool = spool
        self._tries = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Wait until three more were taken, then enqueue no more."""
        before = len(self.asked)
        eventually(lambda: len(self.asked) > before + 2, 60)
        self._over.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        while not self._over.wait(0.3):
            self._tries += 1
            with suppress(StoreError, EnqueueFailed):
                self.asked.append(ask(self._spool, f"short-{self._tries}", paced_params(3, 0.02)))


def has_ended(client: Redis, asked: Generation) -> bool:
    """Tell whether the generation has ended; not while no server says so."""
    return read_log_of_generation(client, asked)[-1].type in ENDINGS


def demand_honesty(client: Redis, model: ModelProcess, asked: list[Generation], read: list[Outcome]) -> None:
    """Fail unless all ended, and each reader has the whole log in order, or was told that it cannot have it."""
    for one in asked:
        eventually(partial(has_ended, client, one), ALL_DONE)
    for outcome in read:
        assert outcome.over.wait(60), f"{outcome.face} waits for ever in {outcome.asked.chat_id}"
        assert outcome.error is None or isinstance(outcome.error, TOLD)
    for one in asked:
        whole = [outcome.reading for outcome in read if outcome.asked is one and outcome.error is None]
        # On a machine that stands still for seconds there may be a second failover: it takes an ending back, and the
        # sweep needs its time for it.
        assert_promises_kept(client, model, one, *whole, may_fail=MAY_FAIL, within=ALL_DONE)


def demand_work(worker: CeleryTestWorker, pid: str, spool: Spool) -> None:
    """Fail unless the worker's main process is the same as ever, and runs what is asked now."""
    assert answer_of(follow(spool, ask(spool, "later", paced_params(3)).chat_id)).text.count("<") == 3
    assert (worker.container.running().alive, worker.container.id) == (True, pid)


@both_pools
@pytest.mark.parametrize("lost", ["killed", "frozen"])
def test_nothing_hangs_and_nobody_is_misled(
    lost: str,
    pool: str,
    redis_server: WatchedServers,
    start_worker: StartWorker,
    spool: Spool,
    client: Redis,
    paced_model: ModelProcess,
) -> None:
    """Running and queued generations, readers on threads and on a loop, new ones all the time: all come to an end."""
    worker = start_worker(pool, 4, **{**environment_for(paced_model), **DEFAULTS})
    pid = worker.container.id
    asked = [start_generation(spool, f"chat-{number}", paced_params(240, 0.05)) for number in range(4)]
    asked += [ask(spool, f"queued-{number}", paced_params(20, 0.05)) for number in range(4)]
    with outcomes(spool.settings, asked) as read:
        traffic = Traffic(spool)
        time.sleep(2)
        old = redis_server.primary
        (PrivateServer.kill if lost == "killed" else PrivateServer.pause)(old)
        eventually(lambda: redis_server.promoted(old), FAILOVER)
        traffic.end()
        demand_honesty(client, paced_model, asked + traffic.asked, read)
    if lost == "killed":
        redis_server.start_server(old)
    else:
        old.resume()
    eventually(lambda: old in redis_server.replicas, FAILOVER)
    demand_work(worker, pid, spool)


@both_pools
def test_the_new_primary_knows_less(
    pool: str,
    redis_server: WatchedServers,
    start_worker: StartWorker,
    spool: Spool,
    client: Redis,
    paced_model: ModelProcess,
) -> None:
    """What was acknowledged, and read, is gone with the old one: readers are told, generations end."""
    worker = start_worker(pool, 4, **{**environment_for(paced_model), **DEFAULTS})
    pid = worker.container.id
    asked = [start_generation(spool, f"chat-{number}", paced_params(160, 0.05)) for number in range(4)]
    with outcomes(spool.settings, asked) as read:
        time.sleep(1)
        redis_server.cut_replication()
        time.sleep(1.5)
        old = redis_server.primary
        old.kill()
        eventually(lambda: redis_server.promoted(old), FAILOVER)
        demand_honesty(client, paced_model, asked, read)
    assert all(isinstance(outcome.error, TOLD) for outcome in read)
    demand_work(worker, pid, spool)


def test_a_reader_that_slept_through_it(redis_server: WatchedServers, redis_url: str, client: Redis) -> None:
    """When it wakes up, the log has grown beyond its cursor, with other events: it is told, and gets none of them."""
    with Spool.from_url(redis_url) as spool:
        asked = spool.enqueue("chat", "x")
        with RunningCommand(redis_url, "tail", "chat", "--follow", "--json") as tail:
            with suppress(ChunkspoolError), spool.produce("chat", asked.generation_id) as out:
                out.data("kept", 1)
                eventually(lambda: read_log_of_generation(client, asked)[-1].type == "data")
                assert client.wait(2, 5000) == 2
                redis_server.cut_replication()
                for number in range(5):
                    out.data("lost", number)
                assert any(b'"value":4' in line for line in iter(tail.stdout.readline, b""))
                tail.popen.send_signal(signal.SIGSTOP)
                old = redis_server.primary
                old.kill()
                eventually(lambda: redis_server.promoted(old), FAILOVER)
            later = spool.enqueue("chat", "y", on_active="allow")
            with spool.produce("chat", later.generation_id) as out:
                for number in range(20):
                    out.data("new", number)
            tail.popen.send_signal(signal.SIGCONT)
            code, said, complaint = tail.wait()
    assert '"new"' not in said
    assert code != 0
    assert "chunkspool: " in complaint
