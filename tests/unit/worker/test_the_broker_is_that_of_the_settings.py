"""Worker and dispatcher use the broker of chunkspool's settings, whatever Celery itself reads from the environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]
OURS, ANOTHER = "redis://ours.example:1/0", "amqp://another.example:2//"
SHOW = "print(app.connection_for_read().as_uri(), app.connection_for_write().as_uri(), app.connection().as_uri())"
APPS = {
    "worker": "from chunkspool.worker.celery import app",
    "dispatcher": """
from chunkspool.settings import Settings
from chunkspool.spool.dispatch import Dispatcher
app = Dispatcher(Settings.from_env())._make_app()
""",
}


@pytest.mark.parametrize("name", APPS)
def test_another_apps_broker_is_not_ours(name: str) -> None:
    """CELERY_BROKER_URL is often set where a Django or Flask app runs."""
    own = {"CHUNKSPOOL_REDIS_URL": OURS, "CELERY_BROKER_URL": ANOTHER}
    command = [sys.executable, "-c", f"{APPS[name]}\n{SHOW}"]
    done = subprocess.run(command, cwd=PROJECT, env={**os.environ, **own}, capture_output=True, text=True, check=True)  # noqa: S603 - ours
    assert set(done.stdout.replace(":**@", "").split()) == {OURS}
