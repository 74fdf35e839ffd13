"""Another team's Celery app on the same Redis, with Celery's and kombu's defaults.

Its tasks note each run as a line of the file OTHER_APP_RUNS: a Redis that forgets would forget it, too.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from celery import Celery

RUNS = "OTHER_APP_RUNS"
app = Celery("other", broker=os.environ.get("CHUNKSPOOL_REDIS_URL"))
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=1, broker_connection_max_retries=None)


@app.task(name="other.slow", acks_late=True)
def slow(name: str, seconds: float) -> None:
    """Note the start, then take so long."""
    _note(name)
    time.sleep(seconds)


@app.task(name="other.later")
def later(name: str) -> None:
    """Note the run."""
    _note(name)


def _note(name: str) -> None:
    with Path(os.environ[RUNS]).open("a") as runs:
        runs.write(f"{name} {time.time_ns() // 1_000_000}\n")


def read_runs(file: Path) -> Mapping[str, list[int]]:
    """Return when each task ran, in Unix ms, by its name."""
    runs: dict[str, list[int]] = {}
    for line in file.read_text().splitlines() if file.exists() else ():
        name, at = line.split()
        runs.setdefault(name, []).append(int(at))
    return runs


def worker_command(pool: str, slots: int) -> tuple[str, ...]:
    """Return the command line of its worker, `other@localhost`."""
    celery = (sys.executable, "-m", "celery", "-A", "support.processes.other_app", "worker")
    return (*celery, "-P", pool, "-c", str(slots), "-n", "other@localhost")
