"""Promise 5 with real workers: a stop ends a generation, on threads and on prefork."""

from __future__ import annotations

import json

from end_to_end.conftest import StartWorker
from end_to_end.workers.test_main_job import follow, scripted
from pytest_celery import CeleryTestWorker

from chunkspool import Generation, Spool

SILENT = scripted({"text": "a"}, {"silent": True})


def start_silent_generation(spool: Spool) -> Generation:
    """Start a generation whose model sends one text and then nothing; return when the text is there."""
    asked = spool.enqueue("chat", "x", params=SILENT)
    with spool.subscribe("chat", asked.after) as entries:
        next(entry for entry in entries if entry.type == "text.delta")
    return asked


def read_ending(spool: Spool, asked: Generation) -> dict[str, object]:
    """Read until the chat is idle; return the last event, which must be the generation's."""
    entries = follow(spool, "chat", asked.after)
    ending: dict[str, object] = json.loads(entries[-1].raw)
    assert ending["generation"] == asked.generation_id
    return ending


def test_a_silent_model_is_stopped(celery_worker: CeleryTestWorker, spool: Spool) -> None:
    """The stop reaches the worker although no text arrives; the slot is free for the next generation."""
    asked = start_silent_generation(spool)
    spool.stop("chat", reason="enough")
    assert read_ending(spool, asked) == {
        "type": "generation.stopped",
        "generation": asked.generation_id,
        "by": "user",
        "reason": "enough",
    }
    celery_worker.assert_log_exists("'state': 'stopped'")
    spool.enqueue("chat", "again")
    assert spool.snapshot("chat").answers[0].state == "stopped"
    assert follow(spool, "chat")[-1].type == "generation.completed"


def test_a_revoke_of_a_queued_generation_ends_it_at_once(start_worker: StartWorker, spool: Spool) -> None:
    """Even while the only slot is taken: the reader does not wait until a worker finds the message."""
    worker = start_worker("threads", 1)
    running = start_silent_generation(spool)
    queued = spool.enqueue("other", "x", on_active="allow")
    worker.app.control.revoke(queued.generation_id)
    assert [entry.type for entry in follow(spool, "other")] == ["generation.queued", "generation.stopped"]
    assert spool.status("chat").active == (running.generation_id,)
    spool.stop("chat")
    last = spool.enqueue("other", "y")
    assert follow(spool, "other", last.after)[-1].type == "generation.completed"
    assert len(spool.status("other").generations) == 2
