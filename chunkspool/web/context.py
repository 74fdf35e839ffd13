"""What the routes share: the spool, who may do what, and the streams that are open."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Path, Request
from starlette.exceptions import HTTPException

from chunkspool import AsyncSpool, Settings
from chunkspool.errors import StoreUnavailable
from chunkspool.store.keys import ID_PATTERN, MAX_ID_LENGTH, checked_id
from chunkspool.web.access import Action, Authorize
from chunkspool.web.problems import ProblemDocument
from chunkspool.web.streaming.open_streams import OpenStreams

ChatId = Annotated[str, Path(pattern=f"^{ID_PATTERN}$", max_length=MAX_ID_LENGTH, description="the chat's id")]
AT_ONCE = 64
"""Requests that may talk to Redis at once; the others wait for their turn. redis-py refuses the 101st connection, and
after a deploy all readers come back at once: an EventSource that is answered 503 never tries again."""


@dataclass(frozen=True, slots=True)
class Site:
    """One per app."""

    spool: AsyncSpool
    authorize: Authorize
    tenant_of: Callable[[Request], str] | None
    streams: OpenStreams
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    @property
    def settings(self) -> Settings:
        """The spool's settings."""
        return self.spool.settings

    async def admitted(self, request: Request, chat_id: str, action: Action) -> AsyncSpool:
        """Return the spool of the request's tenant. Raises `AccessDenied`, `InvalidId`, or an HTTP 403."""
        own = self.settings.tenant
        tenant = own if self.tenant_of is None else checked_id("tenant", self.tenant_of(request))
        verdict = self.authorize(request, tenant, checked_id("chat_id", chat_id), action)
        if not (await verdict if inspect.isawaitable(verdict) else verdict):
            raise HTTPException(403, f"not allowed: {action} in chat {chat_id!r}")
        return self.spool if tenant == own else self.spool.for_tenant(tenant)

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """Give the block a turn with Redis, and `answer_timeout` seconds in all. Raises `StoreUnavailable`."""
        seconds = self.settings.answer_timeout
        try:
            async with asyncio.timeout(seconds), self.turns:
                yield
        except TimeoutError:
            raise StoreUnavailable(f"no answer within {seconds:g} seconds") from None


def site_of(request: Request) -> Site:
    """Return the site of the app that handles `request`."""
    site: Site = request.app.state.site
    return site


TheSite = Annotated[Site, Depends(site_of)]


def may(action: Action) -> Any:
    """Return the dependency that gives a route the spool, if the request may do `action` in the path's chat."""

    async def admitted(request: Request, chat_id: ChatId) -> AsyncSpool:
        return await site_of(request).admitted(request, chat_id, action)

    return Depends(admitted)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what a route may answer besides its success, for the OpenAPI document."""
    return {status: {"model": ProblemDocument} for status in statuses}


ANYWHERE = (400, 401, 403, 413, 422, 502, 503)
"""The problems that every route of a chat may have."""
