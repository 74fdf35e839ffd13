"""A web app imports chunkspool at start-up: this loads no worker or framework and opens no connection."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
OURS = ("chunkspool.tasks", "chunkspool.worker", "chunkspool.demo", "chunkspool.web", "chunkspool.cli")
FRAMEWORKS = ("langchain_core", "langgraph", "pydantic_ai", "litellm")
SERVERS = ("starlette", "fastapi", "uvicorn", "uvloop", "typer", "rich", "openai", "httpx2")
HEAVY = ("celery", "kombu", "opentelemetry.exporter", "chunkspool.tracing.otel", *SERVERS, *FRAMEWORKS, *OURS)
WATCHED = """
import socket, sys, threading
def forbidden(*_): raise SystemExit("it connects, or starts a thread")
socket.socket.connect = socket.getaddrinfo = threading.Thread.start = forbidden
{code}
print(*sorted({heavy!r} & set(sys.modules)))
"""
READER = """
import chunkspool
with chunkspool.Spool.from_url("redis://nowhere.invalid:1/0") as spool:
    spool.subscribe("chat")
"""
EQUIPPED = """
import celery, chunkspool.worker
app = chunkspool.worker.equip(celery.Celery("yours"))
app.finalize()
assert "chunkspool.generate" in app.tasks
"""


def heavy_packages_loaded_by(code: str) -> set[str]:
    """Run `code` in its own process; return which heavy packages it loaded."""
    watched = WATCHED.format(code=code, heavy=set(HEAVY))
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", watched], capture_output=True, text=True, check=False, cwd=PROJECT
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code", ["import chunkspool", READER, "import chunkspool.integrations", "import chunkspool.views"]
)
def test_the_library_loads_nothing_heavy(code: str) -> None:
    """Not on import, and not when a spool is created only for reading."""
    assert heavy_packages_loaded_by(code) == set()


def test_the_check_detects_a_heavy_import() -> None:
    """Without this, the test above would prove nothing."""
    assert {"celery", "kombu"} <= heavy_packages_loaded_by("import celery; celery.Celery")


@pytest.mark.parametrize("code", ["import chunkspool.tasks.celery_tasks", EQUIPPED])
def test_an_equipped_app_loads_no_sdk(code: str) -> None:
    """A web app imports its Celery app, too, and may lack what only workers need; so does a worker's main process."""
    assert not {"openai", "uvloop", "httpx2", "typer", "starlette"} & heavy_packages_loaded_by(code)
