"""The route that Prometheus scrapes. It is there only where metrics are counted and a token guards them."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Header, Response
from starlette.exceptions import HTTPException

from chunkspool.metrics.exposition import Exposition
from chunkspool.web.stats_reader import StatsReader


def router_of(exposition: Exposition, stats: StatsReader) -> APIRouter:
    """Return the route of what `exposition` shows, `stats` among it. It is no chat's, so OpenAPI leaves it out."""
    router = APIRouter()

    @router.get("/metrics", include_in_schema=False)
    async def metrics(
        authorization: Annotated[str | None, Header()] = None, accept: Annotated[str, Header()] = ""
    ) -> Response:
        """Return the metrics of this process, or of all processes that count in one folder."""
        if not exposition.admits(authorization):
            raise HTTPException(401, "this needs the metrics token", {"WWW-Authenticate": "Bearer"})
        stats.use_running_loop()
        # In a thread: it reads files, and waits for Redis.
        answer = await asyncio.to_thread(exposition.answer, accept)
        headers = {"cache-control": "no-store"}
        return Response(answer.body, answer.status, headers, media_type=answer.content_type)

    return router
