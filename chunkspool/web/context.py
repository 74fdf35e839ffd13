"""What the routes of an app share: the spool, the authorization hook, the gate to Redis and the open streams."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from fastapi import Request
from pydantic import JsonValue
from starlette.exceptions import HTTPException

from chunkspool import AsyncSpool, Generation
from chunkspool.admission.asked import AskedGeneration
from chunkspool.errors import ChatBusy
from chunkspool.ids import checked_id
from chunkspool.logs.context import note_request
from chunkspool.views.event_stream import EventStream
from chunkspool.web.access import (
    ANY_CHAT,
    AccessCheck,
    Action,
    Authorize,
    Grant,
    GrantedUntil,
    asker_of,
    note_asker,
    note_grant,
)
from chunkspool.web.admit import Admit
from chunkspool.web.gate import RequestGate
from chunkspool.web.streaming.event_stream import EventStreamResponse
from chunkspool.web.streaming.open_streams import OpenStreams


@dataclass(frozen=True, slots=True)
class WebContext:
    """One per app."""

    spool: AsyncSpool
    authorize: Authorize
    tenant_of: Callable[[Request], str] | None
    gate: RequestGate
    streams: OpenStreams
    admit: Admit

    async def spool_for(self, request: Request, chat_id: str, action: Action) -> AsyncSpool:
        """Return the spool of the request's tenant. Raises `AccessDenied`, `InvalidId`, or an HTTP 403."""
        tenant = self._tenant_of(request)
        note_request(tenant, checked_id("chat_id", chat_id))
        check = AccessCheck(self.authorize, tenant, checked_id("chat_id", chat_id), action)
        until = await check.ask(request)
        if action == "read":  # that is what a stream goes on doing
            note_grant(request.scope, Grant(check, until))
        if action == "ask":
            note_asker(request.scope, until.owner)
        return self._spool_of(tenant)

    async def lister_for(self, request: Request) -> tuple[AsyncSpool, GrantedUntil]:
        """Return the spool of the request's tenant, and whose chats the sender may list. Raises as `spool_for` does."""
        tenant = self._tenant_of(request)
        granted = await AccessCheck(self.authorize, tenant, ANY_CHAT, "list").ask(request)
        if granted.owner is None and not granted.lists_all:
            raise HTTPException(403, "not allowed: list chats, because nobody has said whose")
        return self._spool_of(tenant), granted

    def _tenant_of(self, request: Request) -> str:
        own = self.spool.settings.log.tenant
        return own if self.tenant_of is None else checked_id("tenant", self.tenant_of(request))

    def _spool_of(self, tenant: str) -> AsyncSpool:
        return self.spool if tenant == self.spool.settings.log.tenant else self.spool.for_tenant(tenant)

    async def enqueue(
        self,
        request: Request,
        spool: AsyncSpool,
        chat_id: str,
        asked: AskedGeneration,
        transcript_of: Callable[[AskedGeneration], JsonValue] | None = None,
    ) -> Generation:
        """Enqueue what the app makes of `asked`. To replace what is active, the sender has to be allowed to stop it.

        `transcript_of` returns the transcript of what the app has made of it. Raises `Refused`, or what `spool_for` and
        `spool.enqueue` do.
        """
        verdict = self.admit(request, spool.settings.log.tenant, chat_id, asked)
        admitted = await verdict if inspect.isawaitable(verdict) else verdict
        if not isinstance(admitted, AskedGeneration):
            raise TypeError(f"the hook admit= returned {type(admitted).__name__}, not an AskedGeneration")
        edit = admitted.edit
        make = partial(
            spool.enqueue,
            chat_id,
            prompt=edit,
            messages=admitted.messages if edit is None else admitted.messages[:-1] or None,
            model=admitted.model,
            params=admitted.params,
            request_id=admitted.request_id,
            ttl=admitted.ttl,
            owner=asker_of(request.scope) if admitted.owner is None else admitted.owner,
            priority=admitted.priority,
            expires=admitted.expires,
            replaces=admitted.replaces,
            history=admitted.history,
            keep_messages=admitted.keep_messages,
            transcript=transcript_of(admitted) if transcript_of else None,
        )

        def note(made: Generation) -> Generation:
            note_request(spool.settings.log.tenant, chat_id, made.generation_id)
            return made

        replaces = asked.on_active == admitted.on_active == "replace"
        try:
            async with self.gate.enter():
                return note(await make(on_active="reject" if replaces else admitted.on_active))
        except ChatBusy:
            if not replaces:
                raise
        await self.spool_for(request, chat_id, "stop")
        async with self.gate.enter():
            return note(await make(on_active="replace"))

    def respond_with_stream(self, spool: AsyncSpool, stream: EventStream) -> EventStreamResponse:
        """Return the response that sends `stream`."""
        return EventStreamResponse(spool, stream, self.gate, self.streams)
