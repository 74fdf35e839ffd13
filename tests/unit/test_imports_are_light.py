"""A web app imports chunkspool at start-up: this loads no worker or framework and opens no connection."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
FRAMEWORKS = ("langchain_core", "langgraph", "pydantic_ai", "litellm")
SERVERS = ("starlette", "fastapi", "uvicorn", "typer", "rich", "openai", "httpx")
HEAVY = ("celery", "kombu", *SERVERS, *FRAMEWORKS, "tasks", "worker")
WATCHED = """
import socket, sys, threading
def forbidden(*_): raise SystemExit("it connects, or starts a thread")
socket.socket.connect = socket.getaddrinfo = threading.Thread.start = forbidden
{code}
print(*sorted({heavy!r} & {{name.partition(".")[0] for name in sys.modules}}))
"""
READER = """
import chunkspool
with chunkspool.Spool.from_url("redis://nowhere.invalid:1/0") as spool:
    spool.subscribe("chat")
"""


def heavy_packages_loaded_by(code: str) -> set[str]:
    """Run `code` in its own process; return which heavy packages it loaded."""
    watched = WATCHED.format(code=code, heavy=set(HEAVY))
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", watched], capture_output=True, text=True, check=False, cwd=PROJECT
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("code", ["import chunkspool", READER, "import chunkspool.integrations"])
def test_the_library_loads_nothing_heavy(code: str) -> None:
    """Not on import, and not when a spool is created only for reading."""
    assert heavy_packages_loaded_by(code) == set()


def test_the_check_detects_a_heavy_import() -> None:
    """Without this, the test above would prove nothing."""
    assert {"celery", "kombu"} <= heavy_packages_loaded_by("import celery; celery.Celery")


def test_a_task_module_loads_no_sdk() -> None:
    """The worker's main process only names tasks; the model's SDK is loaded where it is used."""
    assert "openai" not in heavy_packages_loaded_by("import tasks.attempt, tasks.providers")
