"""The least that a Celery task can do and somebody can wait for. Workers load it by `CHUNKSPOOL_IMPORTS`."""

from __future__ import annotations

from functools import cache

import redis
from celery import shared_task

from chunkspool import Settings

NAME = "bench.echo"


@cache
def _client() -> redis.Redis:
    return redis.Redis.from_url(Settings.from_env().log.redis_url)


@shared_task(name=NAME, ignore_result=True)
def echo(key: str) -> None:
    """Push one word to a list, for which the caller waits."""
    _client().lpush(key, "word")
