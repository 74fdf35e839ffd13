"""Another team's Celery app on the same Redis, with Celery's and kombu's defaults."""

from __future__ import annotations

import os
import time

from celery import Celery
from redis import Redis

URL = os.environ["CHUNKSPOOL_REDIS_URL"]
app = Celery("other", broker=URL)
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=1)


@app.task(name="other.slow", acks_late=True)
def slow(seconds: float) -> None:
    """Count the start in Redis, then take so long."""
    with Redis.from_url(URL) as client:
        client.incr("other.slow")
        client.expire("other.slow", 120)
    time.sleep(seconds)


@app.task(name="other.later")
def later() -> None:
    """Count the run in Redis."""
    with Redis.from_url(URL) as client:
        client.incr("other.later")
        client.expire("other.later", 120)
