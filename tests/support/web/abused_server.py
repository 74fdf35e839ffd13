"""Apps for a uvicorn process of their own: the routes bare, and mounted behind middleware that wraps every request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response

from chunkspool import AsyncSpool
from chunkspool.web import allow_all, create_app

spool = AsyncSpool.from_env()
bare = create_app(spool, allow_all, closes_spool=True)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Close the spool with the app."""
    async with spool:
        yield


mounted = FastAPI(lifespan=lifespan)
mounted.mount("/", create_app(spool, allow_all))


@mounted.middleware("http")
async def wrap(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Do nothing, as middleware of other people does: `receive` and `send` of the routes are no longer the server's."""
    return await call_next(request)
