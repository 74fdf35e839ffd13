"""Promise 5 with real workers: stop means stop, and a revoke is a stop, on threads and on prefork."""

from __future__ import annotations

import base64
import json
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from end_to_end.conftest import StartWorker
from end_to_end.test_main_job import answer_of, follow, scripted
from pytest_celery import CeleryTestWorker
from support.nodes import PROJECT
from support.waiting import eventually

from chunkspool import Generation, Spool
from demo.ports import LOOPBACK, free_port, is_taken
from demo.process import Process

SILENT = scripted({"text": "a"}, {"silent": True})
LOGIN = "somebody:secret"


def silent_generation(spool: Spool) -> Generation:
    """Start a generation whose model says one word and then nothing; return when the word is there."""
    asked = spool.enqueue("chat", "x", params=SILENT)
    with spool.subscribe("chat", asked.after) as entries:
        next(entry for entry in entries if entry.type == "text.delta")
    return asked


def ending_of(spool: Spool, asked: Generation) -> dict[str, object]:
    """Return the ending, after which nothing may follow."""
    entries = follow(spool, "chat", asked.after)
    ending: dict[str, object] = json.loads(entries[-1].raw)
    assert ending["generation"] == asked.id
    return ending


@pytest.fixture
def flower(redis_url: str, tmp_path: Path) -> Iterator[str]:
    """Run Flower, with its API open to one user; give its URL."""
    port = free_port()
    command = [sys.executable, "-m", "celery", "-A", "worker.app", "flower", f"--address={LOOPBACK}", f"--port={port}"]
    process = Process.start(
        "flower",
        [*command, f"--basic-auth={LOGIN}"],
        tmp_path,
        env={"CHUNKSPOOL_REDIS_URL": redis_url, "PYTHONPATH": str(PROJECT), "PATH": ""},
        cwd=PROJECT,
    )
    process.wait_until(lambda: is_taken(port), 60)
    yield f"http://{LOOPBACK}:{port}"
    process.terminate()


def call(url: str, data: bytes | None = None) -> str:
    """Call Flower's API."""
    login = base64.b64encode(LOGIN.encode()).decode()
    request = urllib.request.Request(url, data, {"Authorization": f"Basic {login}"})  # noqa: S310 - http, loopback
    with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310 - the same
        return str(reply.read().decode())


def test_a_silent_model_is_stopped(celery_worker: CeleryTestWorker, spool: Spool) -> None:
    """The stop reaches the worker although no text flows; the slot is free for the next generation."""
    asked = silent_generation(spool)
    spool.stop("chat", reason="enough")
    assert ending_of(spool, asked) == {
        "type": "generation.stopped",
        "generation": asked.id,
        "by": "user",
        "reason": "enough",
    }
    celery_worker.assert_log_exists("'state': 'stopped'")
    spool.enqueue("chat", "again")
    assert spool.snapshot("chat").answers[0].state == "stopped"
    assert follow(spool, "chat")[-1].type == "generation.completed"


@pytest.mark.parametrize("terminate", [False, True])
def test_a_revoke_of_a_running_generation_is_a_stop(
    celery_worker: CeleryTestWorker, spool: Spool, terminate: bool
) -> None:
    """`celery control revoke`, with and without terminate: one generation.stopped, and the worker lives on."""
    asked = silent_generation(spool)
    pid = celery_worker.container.running().pid
    celery_worker.app.control.revoke(asked.id, terminate=terminate)
    assert ending_of(spool, asked)["by"] == "revoke"
    assert answer_of(follow(spool, "chat")).text == "a"
    spool.enqueue("chat", "again")
    assert follow(spool, "chat")[-1].type == "generation.completed"
    assert celery_worker.container.running().pid == pid
    assert "NotImplementedError" not in celery_worker.logs()


def test_a_revoke_of_a_queued_generation_ends_it_at_once(start_worker: StartWorker, spool: Spool) -> None:
    """While the only slot is taken: the reader need not wait for a worker to find the message."""
    worker = start_worker("threads", 1)
    running = silent_generation(spool)
    queued = spool.enqueue("other", "x", on_active="allow")
    worker.app.control.revoke(queued.id)
    assert [entry.type for entry in follow(spool, "other")] == ["generation.queued", "generation.stopped"]
    assert spool.status("chat").active == (running.id,)
    spool.stop("chat")
    last = spool.enqueue("other", "y")
    assert follow(spool, "other", last.after)[-1].type == "generation.completed"
    assert len(spool.status("other").generations) == 2


def test_a_revoke_of_another_task_stays_celerys(start_worker: StartWorker, spool: Spool) -> None:
    """What is no generation is revoked as ever."""
    worker = start_worker("threads", 1)
    replies = worker.app.control.revoke("some-other-task", reply=True, timeout=2)
    assert "flagged as revoked" in str(replies)
    asked = silent_generation(spool)
    assert spool.status("chat").active == (asked.id,)
    spool.stop("chat")
    assert ending_of(spool, asked)["by"] == "user"


def test_flowers_revoke_is_a_stop(celery_worker: CeleryTestWorker, flower: str, spool: Spool) -> None:
    """Flower sees the generation as a task by its id, without the prompt, and its REST API stops it."""
    assert celery_worker.ready()
    # Flower knows only what it has heard since it connected: wait for the worker's own heartbeat.
    eventually(lambda: f'flower_worker_online{{worker="{celery_worker.name()}' in call(f"{flower}/metrics"), 30)
    asked = silent_generation(spool)
    task = eventually(lambda: json.loads(call(f"{flower}/api/tasks")).get(asked.id), 30)
    assert task["name"] == "chunkspool.generate"
    assert task["args"] == str(["default", "chat", asked.id])
    call(f"{flower}/api/task/revoke/{asked.id}?terminate=true", b"")
    assert ending_of(spool, asked)["by"] == "revoke"
