"""The README's web app, in a real server in front of a real worker: ask, leave, come back, stop."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from end_to_end.conftest import StartWorker
from support.processes.nodes import PROJECT

from demo.ports import LOOPBACK, free_port, is_taken
from demo.process import Process


@pytest.fixture
def app_url(redis_url: str, start_worker: StartWorker, tmp_path: Path) -> Iterator[str]:
    """Run the example under uvicorn, and a worker."""
    start_worker("threads", 2)
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "examples.fastapi_app:app", "--host", LOOPBACK, "--port", str(port)]
    environment = {**os.environ, "CHUNKSPOOL_REDIS_URL": redis_url}
    process = Process.start("web", command, tmp_path, env=environment, cwd=PROJECT)
    process.wait_until(lambda: is_taken(port), 30)
    yield f"http://{LOOPBACK}:{port}"
    process.terminate()


def events(reply: httpx.Response, limit: int | None = None) -> list[tuple[int, dict[str, str]]]:
    """Read server-sent events: all, or so many."""
    found: list[tuple[int, dict[str, str]]] = []
    seq = 0
    for line in reply.iter_lines():
        if line.startswith("id: "):
            seq = int(line.removeprefix("id: "))
        elif line.startswith("data: "):
            found.append((seq, json.loads(line.removeprefix("data: "))))
            if len(found) == limit:
                break
    return found


@pytest.mark.parametrize("resume", ["query", "header"])
def test_both_halves_make_the_whole(app_url: str, resume: str) -> None:
    """A reader that leaves after five events and resumes, by `after` or by Last-Event-ID, has missed nothing."""
    asked = httpx.post(f"{app_url}/chats/c1", params={"prompt": "Say many words, please, one after the other."})
    assert asked.status_code == 202
    with httpx.stream("GET", f"{app_url}/chats/c1/events") as reply:
        first = events(reply, limit=3)
    cut = first[-1][0]
    url, headers = f"{app_url}/chats/c1/events", {}
    if resume == "query":
        url += f"?after={cut}"
    else:
        headers = {"Last-Event-ID": str(cut)}
    with httpx.stream("GET", url, headers=headers) as reply:
        second = events(reply)
    with httpx.stream("GET", f"{app_url}/chats/c1/events") as reply:
        whole = events(reply)
    assert first + second == whole
    assert [seq for seq, _ in whole] == list(range(1, len(whole) + 1))
    assert whole[-1][1]["type"] == "generation.completed"
    assert whole[0][1]["generation"] == asked.json()["id"]


def test_stop_is_accepted(app_url: str) -> None:
    """A stop after the end is no error."""
    httpx.post(f"{app_url}/chats/c1", params={"prompt": "x"})
    assert httpx.post(f"{app_url}/chats/c1/stop").status_code == 202


def test_the_readme_shows_the_example() -> None:
    """The code in the README is the file's, without the imports."""
    readme = (PROJECT / "README.md").read_text()
    example = (PROJECT / "examples" / "fastapi_app.py").read_text()
    assert example[example.index("app, spool =") :] in readme
