"""docs/start/django.md leads from `django-admin startproject` to an answer that streams, resumes and stops."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.documents.blocks import PROJECT, commands_of, find_blocks
from support.web.sse import SseEvent, events_of

from chunkspool import Spool
from chunkspool.demo.ports import LOOPBACK, free_port, is_taken
from chunkspool.demo.process import Process

BLOCKS = list(find_blocks(PROJECT / "docs" / "start" / "django.md"))
COMMANDS = [command for block in BLOCKS if block.language == "console" for command in commands_of(block)]

# One server is enough here: what the library does is tested on both elsewhere.
pytestmark = pytest.mark.parametrize("redis_server", ["redis-server"], indirect=True)


def find_command(program: str) -> list[str]:
    """Return the page's command that begins like that, as `sh` gets it."""
    (command,) = (one for one in COMMANDS if one.startswith(program))
    return ["sh", "-c", f"exec {command.removesuffix(' &')}"]


@pytest.fixture
def environment(redis_url: str) -> dict[str, str]:
    """Set what the page exports, for servers on other ports; programs are those of this Python."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    own = {"CHUNKSPOOL_REDIS_URL": redis_url, "CELERY_BROKER_URL": redis_url, "CHUNKSPOOL_PROVIDER": "scripted"}
    return {**os.environ, **own, "PATH": path, "PYTHONPATH": str(PROJECT)}


@pytest.fixture
def project(tmp_path: Path, environment: dict[str, str]) -> Path:
    """Make the project in an empty folder, by the page's commands and files."""

    def run(program: str, folder: Path) -> None:
        subprocess.run(find_command(program), cwd=folder, env=environment, check=True, timeout=60)  # noqa: S603 - ours

    run("django-admin", tmp_path)
    folder = tmp_path / "mysite"
    for block in (one for one in BLOCKS if one.title):
        file = folder / str(block.title)
        file.parent.mkdir(exist_ok=True)
        file.write_text(block.text)
    run("sed", folder)
    return folder


@pytest.fixture
def client(project: Path, environment: dict[str, str], tmp_path: Path) -> Iterator[httpx.Client]:
    """Start worker and server by the page's commands; give a browser's client that has loaded the page."""
    worker = Process.start("worker", find_command("celery"), tmp_path, env=environment, cwd=project)
    port = free_port()
    command = [
        *find_command("python manage.py")[:2],
        f"{find_command('python manage.py')[2]} --noreload {LOOPBACK}:{port}",
    ]
    server = Process.start("server", command, tmp_path, env=environment, cwd=project)
    server.wait_until(lambda: is_taken(port), 60)
    with httpx.Client(base_url=f"http://{LOOPBACK}:{port}", timeout=30) as client:
        assert "<form" in client.get("/").text
        client.headers["X-CSRFToken"] = client.cookies["csrftoken"]
        yield client
    server.terminate()
    worker.terminate()


def follow(client: httpx.Client, cursor: str | None = None) -> list[SseEvent]:
    """Follow the chat to its end."""
    headers = {} if cursor is None else {"Last-Event-ID": cursor}
    reply = client.get("/chats/mine/events", headers=headers)
    assert reply.status_code == 200
    return events_of(reply.content)


def said(events: list[SseEvent]) -> str:
    """Return the text of the answers."""
    return "".join(json.loads(event.data).get("text", "") for event in events)


def test_an_answer_streams_resumes_and_stops(client: httpx.Client, redis_url: str) -> None:
    """Ask, follow, come back in the middle; ask for what never ends, and stop it; what is idle is a 204."""
    assert client.get("/chats/mine/events").status_code == 404
    assert client.post("/chats/mine", content=json.dumps({"prompt": "Hello, Django!"})).status_code == 202
    whole = follow(client)
    assert said(whole) == "You said: Hello, Django!"
    for cut in range(1, len(whole)):
        assert follow(client, whole[cut - 1].id) == whole[cut:]
    assert client.get("/chats/mine/events", headers={"Last-Event-ID": whole[-1].id}).status_code == 204
    with Spool.from_url(redis_url) as spool:
        spool.enqueue("mine", "again", params={"script": [{"text": "Let me think. "}, {"silent": True}]})
    assert client.post("/chats/mine/stop").status_code == 202
    assert json.loads(follow(client, whole[-1].id)[-1].data)["type"] == "generation.stopped"


def test_another_site_cannot_ask(client: httpx.Client) -> None:
    """Without the page's token there is nothing to be had: Django's own check is on."""
    del client.headers["X-CSRFToken"]
    assert client.post("/chats/mine", content=json.dumps({"prompt": "Hello!"})).status_code == 403
