"""What the routes of an app share: the spool, the authorization hook, the gate to Redis and the open streams."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from fastapi import Request

from chunkspool import AsyncSpool
from chunkspool.errors import ChatBusy
from chunkspool.ids import checked_id
from chunkspool.results import Generation
from chunkspool.states import OnActive
from chunkspool.web.access import AccessCheck, Action, Authorize, Grant, note_grant
from chunkspool.web.dialects import Encoder
from chunkspool.web.gate import RequestGate
from chunkspool.web.streaming.event_stream import EventStreamResponse, StreamSource
from chunkspool.web.streaming.open_streams import OpenStreams


class MakeGeneration(Protocol):
    """Enqueues a generation whose request is known."""

    def __call__(self, *, on_active: OnActive) -> Awaitable[Generation]:
        """Enqueue it."""
        ...


@dataclass(frozen=True, slots=True)
class WebContext:
    """One per app."""

    spool: AsyncSpool
    authorize: Authorize
    tenant_of: Callable[[Request], str] | None
    gate: RequestGate
    streams: OpenStreams

    async def admit(self, request: Request, chat_id: str, action: Action) -> AsyncSpool:
        """Return the spool of the request's tenant. Raises `AccessDenied`, `InvalidId`, or an HTTP 403."""
        own = self.spool.settings.log.tenant
        tenant = own if self.tenant_of is None else checked_id("tenant", self.tenant_of(request))
        check = AccessCheck(self.authorize, tenant, checked_id("chat_id", chat_id), action)
        expires = await check.ask(request)
        if action == "read":  # that is what a stream goes on doing
            note_grant(request.scope, Grant(check, expires))
        return self.spool if tenant == own else self.spool.for_tenant(tenant)

    async def enqueue(self, request: Request, chat_id: str, make: MakeGeneration, on_active: OnActive) -> Generation:
        """Make a generation. To replace those that are active, the sender has to be allowed to stop them.

        Raises what `make` and `admit` raise.
        """
        try:
            async with self.gate.enter():
                return await make(on_active="reject" if on_active == "replace" else on_active)
        except ChatBusy:
            if on_active != "replace":
                raise
        await self.admit(request, chat_id, "stop")
        async with self.gate.enter():
            return await make(on_active="replace")

    def respond_with_stream(self, source: StreamSource, encoder: Encoder) -> EventStreamResponse:
        """Return the response that follows `source`."""
        return EventStreamResponse(source, encoder, self.gate, self.streams)
