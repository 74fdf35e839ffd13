"""A user's own task module, loaded into the worker by CHUNKSPOOL_IMPORTS."""

from __future__ import annotations

import os

from celery import shared_task
from redis import Redis


@shared_task(name="own.ping")
def ping(value: str) -> None:
    """Store `value` in Redis."""
    with Redis.from_url(os.environ["CHUNKSPOOL_REDIS_URL"]) as client:
        client.set("own.ping", value, ex=60)
