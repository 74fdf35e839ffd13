"""`import chunkspool` is what a web app does at its start: it loads no worker, no framework, and connects nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
HEAVY = ("celery", "kombu", "starlette", "fastapi", "uvicorn", "typer", "rich", "openai", "httpx", "tasks", "worker")
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


def loaded_by(code: str) -> set[str]:
    """Run `code` in a process of its own; return which of the heavy packages it has loaded."""
    watched = WATCHED.format(code=code, heavy=set(HEAVY))
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", watched], capture_output=True, text=True, check=False, cwd=PROJECT
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("code", ["import chunkspool", READER])
def test_the_library_loads_nothing_heavy(code: str) -> None:
    """Neither when imported, nor when a spool is made that only reads."""
    assert loaded_by(code) == set()


def test_the_check_would_see_it() -> None:
    """Otherwise the test above proves nothing."""
    assert {"celery", "kombu"} <= loaded_by("import celery; celery.Celery")


def test_a_task_module_loads_no_sdk() -> None:
    """The worker's main process names tasks; the model's SDK is loaded where it is used."""
    assert "openai" not in loaded_by("import tasks.attempt, tasks.providers")
