"""The process's spools. Nothing connects before the first request, and each worker process has its own connections."""

from functools import cache

from chunkspool import AsyncSpool, Spool
from examples.django_chat.celery import app


@cache
def get_spool() -> Spool:
    """Return the spool of the views, which all threads share."""
    return Spool.from_env(celery_app=app)


@cache
def get_async_spool() -> AsyncSpool:
    """Return the spool of streams under an ASGI server. It belongs to the server's event loop, so only they use it."""
    return AsyncSpool.from_env(celery_app=app)
