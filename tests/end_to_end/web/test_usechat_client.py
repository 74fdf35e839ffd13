"""The AI SDK's own client (npm's `ai`, unmodified) against real uvicorn and a real worker: send, drop, resume, stop."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from end_to_end.conftest import StartWorker
from support.processes.nodes import PROJECT
from support.web.node import install_client, start_client

from demo.ports import LOOPBACK, free_port, is_taken
from demo.process import Process

FAST = {"CHUNKSPOOL_LEASE": "1", "CHUNKSPOOL_REDELIVERY": "2"}
SERVE = "import sys; from chunkspool import Settings; from chunkspool.web.serve import serve; "
SERVE += "serve(Settings.from_env(), '127.0.0.1', int(sys.argv[1]), open_access=True)"

# One server is enough here: the tests of the routes run on both.
pytestmark = pytest.mark.parametrize("redis_server", ["redis-server"], indirect=True)


@pytest.fixture
def url(redis_url: str, tmp_path: Path) -> Iterator[str]:
    """Run the web app, open to everybody."""
    install_client()
    port = free_port()
    environment = {**os.environ, "CHUNKSPOOL_REDIS_URL": redis_url}
    process = Process.start("web", [sys.executable, "-c", SERVE, str(port)], tmp_path, env=environment, cwd=PROJECT)
    process.wait_until(lambda: is_taken(port), 30)
    yield f"http://{LOOPBACK}:{port}"
    process.terminate()


def run_scenario(url: str, scenario: str) -> Any:
    """Run a scenario; return the client's final state."""
    client = start_client(url, scenario)
    out, err = client.communicate(timeout=90)
    assert client.returncode == 0, err
    return json.loads(out)


def counting_text(words: int) -> str:
    """Return the model's answer of so many numbers."""
    return "".join(f"{n} " for n in range(words))


def test_send_resume_stop_parts_and_failures(url: str, start_worker: StartWorker) -> None:
    """After everything that a useChat front end does, the SDK's own state is the expected one."""
    start_worker("threads", 8, **FAST)

    sent = run_scenario(url, "send")
    assert (sent["first"]["status"], sent["first"]["texts"]) == ("ready", ["You said: hello there"])
    assert sent["second"]["texts"] == ["You said: once more"]
    assert sent["second"]["roles"] == ["user", "assistant", "user", "assistant"]

    resumed = run_scenario(url, "resume")
    assert counting_text(10) in resumed["dropped"]["texts"][0]
    assert len(resumed["dropped"]["texts"][0]) < len(counting_text(80))
    assert resumed["reloaded"]["texts"] == resumed["sameClient"]["texts"] == [counting_text(80)]
    assert resumed["sameClient"]["roles"] == ["user", "assistant"]
    assert (resumed["idle"]["status"], resumed["idle"]["roles"]) == ("ready", ["user"])

    stopped = run_scenario(url, "stop")
    assert (stopped["code"], stopped["chat"]["status"]) == (202, "ready")
    assert stopped["chat"]["metadata"]["stopped"] == {"by": "user", "reason": None}

    message = run_scenario(url, "parts")
    assert [part["type"] for part in message["parts"]] == ["step-start", "reasoning", "tool-clock", "text"]
    tool = message["parts"][2]
    assert (tool["state"], tool["input"]) == ("input-available", {"zone": "UTC"})
    assert message["metadata"]["usage"] == {"inputTokens": 3, "outputTokens": 4}

    failed = run_scenario(url, "fail")
    assert (failed["failing"]["status"], failed["failing"]["error"]) == ("error", "The model is overloaded.")
    assert failed["failing"]["texts"] == ["so far"]
    assert failed["refused"]["status"] == "error"
    assert "urn:chunkspool:problem:invalid" in failed["refused"]["error"]


def test_a_killed_worker_reaches_the_client_as_valid_parts(url: str, start_worker: StartWorker) -> None:
    """After a kill -9 in mid-answer, a client that stayed connected shows the whole answer of the second attempt."""
    worker = start_worker("threads", 2, **FAST)
    client = start_client(url, "restart")
    assert client.stderr is not None
    assert client.stderr.readline().strip() == "kill"
    worker.container.kill()
    start_worker("threads", 2, **FAST)
    out, err = client.communicate(timeout=90)
    assert client.returncode == 0, err
    chat = json.loads(out)
    assert chat["status"] == "ready"
    assert chat["valid"] == [counting_text(80)]
    assert len(chat["texts"]) == 2
    assert chat["metadata"]["attempt"] == 2
