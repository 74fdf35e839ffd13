"""A real worker, and three terminals: one asks, one follows as JSON, one stops."""

from __future__ import annotations

import json

from pytest_celery import CeleryTestWorker
from support.processes.command import RunningCommand, run

CHAT = "my-chat"
QUESTION = " ".join(f"word{n}" for n in range(2000))


def test_ask_tail_and_stop(celery_worker: CeleryTestWorker, redis_url: str) -> None:
    """The worker's text reaches both readers as it is written; a stop ends all three commands with their codes."""
    assert celery_worker.ready()
    with RunningCommand(redis_url, "ask", CHAT, QUESTION, "--param", "pace=0.02") as ask:
        assert b"".join(ask.stdout.read(1) for _ in "You said:") == b"You said:"
        with RunningCommand(redis_url, "tail", CHAT, "--json", "-f") as tail:
            lines = [tail.stdout.readline() for _ in range(20)]
            stop = run(redis_url, "stop", CHAT, "--reason", "read enough")
            assert stop.returncode == 0
            assert stop.stdout.endswith("  stopping\n")
            code, rest, told = tail.wait()
        asked = ask.wait()
    events = [json.loads(line) for line in (*lines, *rest.splitlines())]
    assert (code, told) == (3, "")
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    ending = events[-1]
    assert (ending["type"], ending["by"], ending["reason"]) == ("generation.stopped", "user", "read enough")
    text = "".join(event["text"] for event in events if event["type"] == "text.delta")
    assert f"You said: {QUESTION}".startswith(text)
    assert (asked[0], f"You said:{asked[1]}") == (3, text + "\n")
    assert "stopped by user: read enough" in asked[2]
    whole = run(redis_url, "tail", CHAT)
    assert (whole.returncode, whole.stdout) == (0, text + "\n")
