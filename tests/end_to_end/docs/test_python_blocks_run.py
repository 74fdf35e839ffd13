"""Each page's Python runs as it stands, against a real server and a real worker, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from end_to_end.conftest import StartWorker
from support.documents.blocks import PAGES, PROJECT, find_blocks
from support.documents.run_page import blocks_to_run

BY_PYTEST = PROJECT / "docs" / "how-to" / "tasks" / "testing.md"
"""The page whose blocks are tests: pytest runs them."""
RUN = [str(page.relative_to(PROJECT)) for page in PAGES if page != BY_PYTEST and blocks_to_run(page)]

# One server is enough here: what the library does is tested on both elsewhere.
one_server = pytest.mark.parametrize("redis_server", ["redis-server"], indirect=True)


def python(*arguments: str, folder: Path, **environment: str) -> str:
    """Run this Python in a folder; return what it printed. Fails the test with its traceback."""
    path = os.pathsep.join([str(PROJECT), str(PROJECT / "tests"), str(folder)])
    environ = {**os.environ, "PYTHONPATH": path, **environment}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=100, check=False)  # noqa: S603 - ours
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@one_server
@pytest.mark.parametrize("page", RUN)
def test_the_python_of_a_page_runs(page: str, redis_url: str, start_worker: StartWorker, tmp_path: Path) -> None:
    """Nothing is raised, and what a page asserts holds. A worker runs where a page asks for an answer."""
    if any(call in block.text for block in blocks_to_run(PROJECT / page) for call in (".enqueue(", ".send(")):
        start_worker("threads", 4)
    exported = {"CHUNKSPOOL_REDIS_URL": redis_url, "CELERY_BROKER_URL": redis_url}
    exported["CHUNKSPOOL_TOKEN_SECRET"] = "a secret of at least thirty-two bytes"
    python("-m", "support.documents.run_page", page, folder=tmp_path, **exported)


def test_the_tests_of_a_page_pass(tmp_path: Path) -> None:
    """The page on testing shows tests: pytest runs them, with the plugin, in a project of the reader's own."""
    (tmp_path / "yours.py").write_text('from celery import Celery\n\napp = Celery("yours")\n')
    for number, block in enumerate(find_blocks(BY_PYTEST)):
        (tmp_path / f"test_block_{number}.py").write_text(block.text)
    said = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis", ".", folder=tmp_path)
    assert "2 passed" in said


def test_a_page_that_is_wrong_is_found(tmp_path: Path) -> None:
    """An assertion that does not hold, in a block that awaits, fails the page."""
    page = tmp_path / "wrong.md"
    page.write_text("# Wrong\n\n```python\nimport asyncio\n\nawait asyncio.sleep(0)\nassert 1 == 2\n```\n")
    with pytest.raises(AssertionError, match=r"wrong.md\", line 7"):
        python("-m", "support.documents.run_page", str(page), folder=tmp_path)


def test_pages_are_found() -> None:
    """The test above does not pass for want of blocks: a quickstart, a concept and a migration are among its pages."""
    assert {"docs/start/script.md", "docs/concepts/attempts.md", "docs/migrate/publish-per-token.md"} <= set(RUN)
